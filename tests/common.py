"""What the tests share: the scripts, loading one as a module, running one, reading what it wrote."""
import csv, hashlib, importlib.util, os, re, subprocess, sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(ROOT.glob("train-*.py"))  # a user's own step is tested as well, as far as the tests are general
CHAIN = {  # the eight steps (DESIGN.md, section 4): config, n_embd, head_size, n_head, n_layer, parameters, builds on
    "train-2-baseline.py": ("baseline", 32, 16, 1, 1, 2908, None),
    "train-2-double-embd.py": ("double embd", 64, 32, 1, 1, 8860, "train-2-baseline.py"),
    "train-2-2head.py": ("2 heads", 32, 16, 2, 1, 5948, "train-2-baseline.py"),
    "train-2-2head-4layer.py": ("4 layers", 32, 16, 2, 4, 18332, "train-2-2head.py"),
    "train-2-2head-4layer-mlp.py": ("+ MLP", 32, 16, 2, 4, 51740, "train-2-2head-4layer.py"),
    "train-2-2head-4layer-mlp-ln.py": ("+ LayerNorm", 32, 16, 2, 4, 52252, "train-2-2head-4layer-mlp.py"),
    "train-2-2head-4layer-mlp-ln-rope.py": ("+ RoPE", 32, 16, 2, 4, 52252, "train-2-2head-4layer-mlp-ln.py"),
    "train-2.py": ("+ GELU", 32, 16, 2, 4, 52252, "train-2-2head-4layer-mlp-ln-rope.py"),
}
COLUMNS = ("script config preset overrides builds_on data data_hash seed steps n_embd head_size n_head n_layer params "
           "train test test_from_2nd test_unseen seconds ms_per_step device threads torch source finished samples "
           "settings").split()
TIMES = "seconds", "ms_per_step", "finished"  # all that two runs of one seed may differ in
NOWHERE = "http://127.0.0.1:9/names.txt"  # a port that nobody listens on
SMALL = "--steps 4 --eval-interval 2 --batch-size 8".split()


def load(path, fresh=False):
    """The script as a module, which is executed once (or again, when it was edited: `fresh`)."""
    path = Path(path)
    path = (path if path.is_absolute() else ROOT / path).resolve()
    name = re.sub(r"\W", "_", path.stem) + "_" + hashlib.sha256(str(path).encode()).hexdigest()[:8]
    if fresh or name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up there
        no_cache, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            sys.dont_write_bytecode = no_cache
        module.URL = NOWHERE
    return sys.modules[name]


def command(script, *argv):
    return [sys.executable, str(ROOT / script), *map(str, argv)]


def start(script, *argv, **options):
    """The script in a process of its own."""
    options = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8") | options
    return subprocess.Popen(command(script, *argv), **options)


def read_table(path):
    """The rows of a table as dicts; asserts that every one is whole and that the header stands there once."""
    assert Path(path).read_bytes().endswith(b"\n"), "the table has no final newline"
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == COLUMNS
    for row in rows:
        assert len(row) == len(COLUMNS) and row != COLUMNS, row
    return [dict(zip(header, row)) for row in rows]


def but_times(row):
    return {key: value for key, value in row.items() if key not in TIMES}


def tree(folder):
    """Every path under a folder, with the bytes and the time of change of each file."""
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
            for path in sorted(Path(folder).rglob("*"))}


def checkpoint(results):
    """The one checkpoint of a results folder."""
    path, = Path(results, "checkpoints").glob("*.pt")
    return torch.load(path, weights_only=True)


def same(a, b):
    """Equal to the bit, however nested."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_twins(results, twin):
    """Two results folders hold the same run: row, curve and checkpoint, but for the times."""
    (row,), (other,) = (read_table(Path(folder, "results.csv")) for folder in (results, twin))
    assert but_times(row) == but_times(other)
    a, b = (checkpoint(folder) for folder in (results, twin))
    for state in (a, b):
        del state["seconds"], state["saved"]
    assert same(a, b)
    (curve,), (other,) = ([path.read_bytes() for path in Path(folder, "curves").iterdir()] for folder in (results, twin))
    assert curve == other


def one_error(stderr):
    """The message of a failure, which must be one line and nothing else."""
    lines = stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), f"not one error line: {stderr!r}"
    assert "Traceback" not in stderr
    return lines[0]
