"""What the tests share: the scripts, loading one, reading what it wrote, comparing two."""

import ast
import csv
import functools
import re
import types
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
CHAIN = {  # label, n_embd, head_size, n_head, n_layer, parameters, builds on
    "train-2-baseline.py": ("baseline", 32, 16, 1, 1, 2908, None),
    "train-2-double-embd.py": ("double embd", 64, 32, 1, 1, 8860, "baseline"),
    "train-2-2head.py": ("2 heads", 32, 16, 2, 1, 5948, "baseline"),
    "train-2-2head-4layer.py": ("4 layers", 32, 16, 2, 4, 18332, "2head"),
    "train-2-2head-4layer-mlp.py": ("+ MLP", 32, 16, 2, 4, 51740, "2head-4layer"),
    "train-2-2head-4layer-mlp-ln.py": ("+ LayerNorm", 32, 16, 2, 4, 52252, "2head-4layer-mlp"),
    "train-2-2head-4layer-mlp-ln-rope.py": ("+ RoPE", 32, 16, 2, 4, 52252, "2head-4layer-mlp-ln"),
    "train-2.py": ("+ GELU", 32, 16, 2, 4, 52252, "2head-4layer-mlp-ln-rope"),
}
COLUMNS = (
    "script preset overrides seed params train test test_from_2nd test_unseen seconds device torch "
    "data data_hash source finished settings samples curve"
).split()
TIMES = ("seconds", "finished")  # all that two runs of one seed may differ in
LOADED = {}


def load(path, fresh=False):
    """The script as a module. It is executed once, or again (`fresh`) where it was edited."""
    path = ROOT / path  # an absolute path stays what it is
    if fresh or path not in LOADED:
        module = types.ModuleType(path.stem)
        module.__file__ = str(path)
        exec(compile(path.read_bytes(), path, "exec"), module.__dict__)
        LOADED[path] = module
    return LOADED[path]


def stop_at(module, at, patch):
    """Have the script's training end as by Ctrl-C when it computes step `at`, counted from 0."""
    rate = module.learning_rate

    def learning_rate(step, config):
        if step == at:
            raise KeyboardInterrupt
        return rate(step, config)

    patch.setattr(module, "learning_rate", learning_rate)


def edit(path, old, new):
    """Replace what must occur in the file exactly once."""
    text = path.read_bytes().decode("utf-8")
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {path.name}"
    path.write_bytes(text.replace(old, new).encode("utf-8"))


def read_table(path):
    """The rows of a table as dicts: each complete, none blank, and the header once."""
    assert Path(path).read_bytes().endswith(b"\n"), "the table has no final newline"
    csv.field_size_limit(2**31 - 1)  # a curve can be long
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == COLUMNS and COLUMNS not in rows
    return [dict(zip(header, row, strict=True)) for row in rows]


def checkpoint(results):
    """The one checkpoint of a results folder, in which nothing else is left over."""
    (path,) = Path(results, "checkpoints").iterdir()
    return torch.load(path, weights_only=True)


def same(a, b):
    """Equal to the bit, however nested."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_twins(results, twin):
    """Two results folders hold the same run: row and checkpoint, but for the times."""
    runs = []
    for folder in (results, twin):
        (row,), state = read_table(Path(folder, "results.csv")), checkpoint(folder)
        runs.append([{k: v for k, v in x.items() if k not in TIMES} for x in (row, state)])
    assert runs[0][0] == runs[1][0]
    assert same(*runs)


def one_error(stderr):
    """The message of a failure, which must be one line and nothing else."""
    lines = stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), f"not one error line: {stderr!r}"
    return lines[0]


def tree(folder):
    """Every path under a folder, with the bytes and the time of change of each file."""
    return {
        str(path.relative_to(folder)): path.is_file()
        and (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(Path(folder).rglob("*"))
    }


def sections(path):
    """{section: its text} in the order of the file; "top" is before the first, less the docstring.

    A line end is part of the text, whatever it is.
    """
    return dict(parts(Path(path).read_bytes().decode("utf-8")))


@functools.cache
def parts(source):
    """((section, its text), ...) of a script, which many tests ask for."""
    lines = source.split("\n")[ast.parse(source).body[0].end_lineno :]
    found = re.split(r"^# --- (.*) ---\n", "\n".join(lines), flags=re.M)
    return tuple(zip(["top", *found[1::2]], found[::2], strict=True))


def bare(path, *names):
    """The lines of code in these sections, without blank lines, comments and docstrings."""
    result, found = [], sections(path)
    for text in (found[name] for name in names):
        nodes = [
            n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.ClassDef)
        ]
        docs = [node.body[0] for node in nodes if ast.get_docstring(node) is not None]
        skipped = {n for doc in docs for n in range(doc.lineno, doc.end_lineno + 1)}
        lines = [line for n, line in enumerate(text.split("\n"), 1) if n not in skipped]
        result += [line for line in lines if line.strip() and not line.strip().startswith("#")]
    return result


def assert_only_differs(path, base, changes):
    """Two scripts are equal to the byte but for the docstring and the sections in `changes`."""
    ours, theirs = sections(path), sections(base)
    assert list(ours) == list(theirs)
    for name in ours:
        assert name in changes or ours[name] == theirs[name], f"{path.name}, section {name}"
