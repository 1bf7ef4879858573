"""The table, a run as a row, the names of its files, the hash of the source."""

import ast
import contextlib
import csv
import errno
import functools
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import common
import pytest
import torch
from common import COLUMNS, ROOT, edit, load, sections

BASE = "train-2-baseline.py"  # Results is the same in all eight
ROW = dict.fromkeys(COLUMNS, "x")
HEADER = ",".join(COLUMNS) + "\n"


@pytest.fixture
def module():
    return load(BASE)


@pytest.fixture
def table(tmp_path):
    return tmp_path / "deep" / "results.csv"


@pytest.fixture
def untrained(module, monkeypatch):
    """The script, which must find out what is wrong before it trains."""
    monkeypatch.setattr(module, "train", lambda *args: pytest.fail("it trained"))
    return module


@pytest.mark.parametrize("script, preset", [(BASE, ""), ("train-2.py", "fast")])
def test_the_row_the_checkpoint_and_the_output_agree(script, preset, go, names):
    module = load(script)
    names.write_text("\n".join("abcdefghijklmnopqrstabcdefghij"))  # some samples are among them
    argv, settings = [], {"steps": 4, "eval_interval": 2, "batch_size": 8}
    if preset:  # the settings are the preset's, but for flags that depart from it
        argv = ["--preset", preset, "--seed=7", "--n-embd=64"]
        settings = module.PRESETS[preset]["settings"] | settings | {"seed": 7}
    done = go(script, *argv)
    assert (done.status, done.err) == (0, "")
    (row,) = common.read_table(done.table)
    state = common.checkpoint(done.results)
    config = module.Config(**settings)
    data = module.load_data(names, config, "cpu")
    model = module.Transformer(config, len(data.chars) + 2, data.max_len)
    model.load_state_dict(state["model"])
    losses = module.final_losses(model, data)
    assert len(losses) == 4
    expected = {name: f"{loss:.6f}" for name, loss in losses.items()} | {
        "script": script.removesuffix(".py"),
        "preset": preset,
        "overrides": "batch_size=8 eval_interval=2 steps=4",
        "seed": str(config.seed),
        "params": str(sum(p.numel() for p in model.parameters())),
        "seconds": f"{state['seconds']:.6f}",
        "torch": torch.__version__,
        "data": "small.txt",
        "data_hash": hashlib.sha256(names.read_bytes()).hexdigest()[:12],
        "source": module.source_hash(),
        "finished": state["finished"],
    }
    assert {key: row[key] for key in expected} == expected
    assert json.loads(row["settings"]) == vars(config)
    assert json.loads(row["curve"]) == state["curve"] and len(state["curve"]) == 2
    samples = module.generate(model, data, 10, torch.Generator().manual_seed(config.seed))
    assert json.loads(row["samples"]) == samples
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["finished"])
    assert re.fullmatch(r"cpu \(.*\)", row["device"])
    for text in (row["params"], *(f"{loss:.4f}" for loss in losses.values())):
        assert text in done.out.replace(",", "")
    marked = [name + "*" if name in data.train_items else name for name in samples if name]
    assert done.out.split("training set:")[1].split() == marked and len(set(marked)) > 1
    (note,) = (line for line in done.out.splitlines() if line.startswith("note: "))
    assert "compar" in note  # these are other names


def test_where_every_test_name_was_trained_on_test_unseen_is_blank(go, names):
    names.write_text("ab\n" * 10)
    (row,) = common.read_table(go(BASE).table)
    assert row["test_unseen"] == "" and float(row["test"]) > 0


def test_a_table_with_other_columns_is_refused_before_training(untrained, go, table):
    table.parent.mkdir()
    table.write_text(HEADER.replace("train,", "more,train,"))
    before = common.tree(table.parent)
    done = go(untrained, results="deep")
    assert done.status == 1 and str(table) in common.one_error(done.err)
    assert common.tree(table.parent) == before


def test_where_nothing_can_be_written_is_reported_before_training(untrained, go, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "file"))):
        go(untrained, results="file")


@contextlib.contextmanager
def no_file_above(size):
    """What would make a file larger than this fails, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_too_small_for_the_checkpoint_is_found_before_training(go):
    """It is one line with the path, and nothing is left over."""
    argv = "train-2.py", "--n-layer=1"  # its weights are most of the checkpoint
    (checkpoint,) = go(*argv).results.glob("checkpoints/*")
    with no_file_above(checkpoint.stat().st_size - 1):
        done = go(*argv, results="full", shell=True)
    assert done.status == 1 and "\nstep " not in done.out
    message, folder = common.one_error(done.err), done.results / "checkpoints"
    assert str(folder) in message and os.strerror(errno.EFBIG) in message
    assert [*folder.iterdir()] == [] and common.read_table(done.table) == []


def test_a_disk_too_small_for_the_row_leaves_no_half_of_it(module, table):
    module.append_row(table, COLUMNS, ROW)
    before = table.read_bytes()
    with no_file_above(len(before) + 9), pytest.raises(OSError, match=re.escape(str(table))):
        module.append_row(table, COLUMNS, ROW | {"seconds": "another"})
    assert table.read_bytes() == before


TABLES, WRITERS = 50, 8


def append_rows(folder, barrier, worker):
    module = load(BASE)
    for number in range(TABLES):
        barrier.wait()  # so that all find no table
        row = ROW | {"seconds": str(worker), "curve": "x" * 20_000}
        module.append_row(folder / f"{number}.csv", COLUMNS, row)


def test_processes_append_to_a_new_table_side_by_side(tmp_path):
    """No row is lost or torn, there is one header, and no line is blank."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("concurrent writers are promised on Linux and macOS")
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(WRITERS, timeout=100)  # where one fails, the others do not wait
    arguments = [(tmp_path / "new", barrier, worker) for worker in range(WRITERS)]
    workers = [context.Process(target=append_rows, args=args) for args in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * WRITERS
    for number in range(TABLES):
        rows = common.read_table(tmp_path / "new" / f"{number}.csv")
        assert sorted(row["seconds"] for row in rows) == [*map(str, range(WRITERS))]
        assert {row["curve"] for row in rows} == {"x" * 20_000}


def test_a_row_is_appended_once_and_after_a_missing_newline_too(module, table):
    module.append_row(table, COLUMNS, ROW | {"seconds": "1.5"})
    table.write_bytes(table.read_bytes().removesuffix(b"\n"))
    for seconds in ("2.5", "1.5"):
        module.append_row(table, COLUMNS, ROW | {"seconds": seconds})
    assert [row["seconds"] for row in common.read_table(table)] == ["1.5", "2.5"]


QUOTED = ",".join(f'"{column}"' for column in COLUMNS)


@pytest.mark.parametrize("content", ["", f"\ufeff{QUOTED}\r\n{QUOTED.lower()}\r\n"])
def test_an_empty_table_and_one_that_a_spreadsheet_wrote_are_taken(content, module, table):
    table.parent.mkdir()
    table.write_bytes(content.encode())
    module.append_row(table, COLUMNS)
    module.append_row(table, COLUMNS, ROW)
    with open(table, newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    assert header == COLUMNS and rows[-1] == [*ROW.values()]
    assert len(rows) == max(1, content.count("\n"))


def test_it_works_without_locks(module, table, monkeypatch):
    """Some network folders have none, nor has Windows."""

    def refused(*args):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refused)
    module.append_row(table, COLUMNS, ROW)
    monkeypatch.setitem(sys.modules, "fcntl", None)  # so that importing it fails
    module.append_row(table, COLUMNS, ROW | {"seconds": "another"})
    assert len(common.read_table(table)) == 2


def test_unusual_characters(go, names):
    """Names with what is special in CSV, JSON or on a terminal."""
    text = 'a,"b\n"\'\\\n,,\n{}\n;%s\nb"\n🦊\n👩‍👧\n日本\na\x1bb\n\u2028a\nb\x0cb\n' * 4
    names.write_text(text, "utf-8")
    done = go(BASE)
    (row,) = common.read_table(done.table)
    assert (done.status, done.err) == (0, "") and len(json.loads(row["samples"])) == 10
    assert set("".join(json.loads(row["samples"]))) <= set(text)
    assert done.table.read_bytes().count(b"\n") == 2  # a row is one line


def test_the_name_of_a_run_says_what_it_is(module):
    """Two kinds of run never share a file."""
    run = {"script": "train-2", "preset": "", "overrides": "", "seed": 0, "device": "cpu (A chip)"}
    run |= {"data": "names.txt", "data_hash": module.NAMES_SHA256[:12]}

    def name(**changes):
        return module.run_name(run | changes)

    assert name() == "train-2-seed0"
    final = {"preset": "final", "overrides": "n_layer=2", "seed": "3"}  # a table's row is text
    assert name(**final) == "train-2@final,n_layer=2-seed3"
    assert name(overrides="a=2 b=4", device="cuda (H100)") == "train-2,a=2,b=4-cuda-seed0"
    towns = {"data": "towns.txt", "data_hash": "0123456789ab"}
    assert name(**towns) == "train-2-towns-0123456789ab-seed0"
    assert name(**towns | {"data_hash": "0"}) != name(**towns)
    assert name(data="renamed.txt") == name()  # the same names
    odd = [{"data": "ü/..\\a b\x1b[1m" * 50}, *({"overrides": f"k=..{x}b"} for x in "/\\:\x1b")]
    for changes in odd:
        text = name(**towns | changes)
        assert re.fullmatch(r"[\w@,=.-]+", text) and len(text) < 99
    long = " ".join(f"setting_{i}=1.{i}" for i in range(30))
    names = {name(overrides=long + end) for end in ("", "1", "2")}
    assert len(names) == 3 and max(map(len, names)) < 50


def functions(path):
    """{name: its section} of the functions and methods of a script."""
    found = {}
    for section, text in sections(path).items():
        for node in ast.parse(text).body:
            for part in node.body if isinstance(node, ast.ClassDef) else [node]:
                if isinstance(part, ast.FunctionDef):
                    name = part.name if part is node else f"{node.name}.{part.name}"
                    found[name] = section
    return found


def plant(path, name):
    """Put one more statement into the function, before its first and after its docstring."""
    nodes = ast.parse(path.read_bytes()).body
    for part in name.split("."):
        (node,) = [node for node in nodes if getattr(node, "name", "") == part]
        nodes = node.body
    first = nodes[ast.get_docstring(node) is not None]
    lines = path.read_text("utf-8").split("\n")
    lines.insert(first.lineno - 1, " " * first.col_offset + "None")
    path.write_text("\n".join(lines), "utf-8")


@functools.cache
def known_hash():
    return load("train-2.py").source_hash()


@pytest.fixture
def script(tmp_path):
    """A copy of the last step, to change."""
    return Path(shutil.copy(ROOT / "train-2.py", tmp_path))


def hashed(path):
    """The source hash of a script that need not run."""
    module = load("train-2.py")
    if path.read_bytes() == (ROOT / "train-2.py").read_bytes():
        return known_hash()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "__file__", str(path))
        return module.source_hash()


@pytest.mark.parametrize("name", functions(ROOT / "train-2.py"))
def test_the_source_hash_counts_what_computes(name, script):
    """All functions of the model, its data, training and evaluation, and no other."""
    before, section = hashed(script), functions(script)[name]
    plant(script, name)
    counts = section in ("Data", "Model", "Training", "Evaluation") or name == "read_items"
    assert (hashed(script) != before) == (counts and name != "printable")


TOP = "# --- Configuration ---\n"
DATA = "# --- Data ---\n"
FC = "self.fc = nn.Linear(config.n_embd, 4 * "
USED = [(DATA, "FACTOR = 4\n\n" + DATA), (FC, FC.replace("4", "FACTOR"))]
STEPS = '    steps: int = option(5000, "training steps")\n'
COUNTED = {  # what is replaced in the script, and by what; before it, what is put there first
    "an activation": [("F.gelu(", "F.relu(")],
    "a change after an odd banner": [
        ("# --- Model ---", "# ---- Model ----"),
        ("F.gelu(", "F.relu("),
    ],
    "a constant of the model": [("PAD, BOUNDARY = 0, 1", "PAD, BOUNDARY = 1, 0")],
    "a constant in Configuration": [*USED, ("FACTOR = 4\n", "FACTOR = 8\n")],
    "a constant with a type": [*USED, ("FACTOR = 4\n", "FACTOR: int = 4\n"), ("t = 4", "t = 8")],
    "a class variable of Config": [
        (STEPS, f"    FACTOR: ClassVar[int] = 4\n{STEPS}"),
        ("int] = 4", "int] = 8"),
    ],
    "a new field": [(STEPS, f"    extra: int = 4\n{STEPS}")],
    "the seed of a model": [("manual_seed(config.seed)\n    return", "manual_seed(0)\n    return")],
    "an attribute of another class": [
        ("class MLP(nn.Module):\n", "class MLP(nn.Module):\n    factor: int = 4\n"),
        ("factor: int = 4", "factor: int = 8"),
    ],
    "an import that is used": [("import math\n", "import math.a\n"), ("math.a", "math.b")],
    "an import of all": [(TOP, f"from math import *\n{TOP}")],
    "a statement": [(TOP, f"torch.set_default_dtype(torch.float64)\n{TOP}")],
    "an assignment to a module": [(TOP, f"torch.backends.mkldnn.enabled = False\n{TOP}")],
    "a new function in Results": [("def strip(tree)", "def f():\n    pass\n\n\n\\g")],
    "a method of that name": [
        ("    def forward(self, x):\n        x = F", "    main = print\n\\g")
    ],
}
RATE = 'RATE = {"learning_rate": 4e-3'
IGNORED = {
    "a comment, blank lines": [("# --- Model ---\n", "# --- Model ---\n# a comment\n\n\n")],
    "layout": [("PAD, BOUNDARY = 0, 1", "(PAD,  BOUNDARY)  =  0, \\\n  1")],
    "the module's docstring": [('"""+ GELU: a', '"""gelu: one')],
    "a class's docstring": [('"""Tokens (B, T) -> the', '"""Tokens -> the')],
    "a function's docstring": [('"""AdamW: Adam', '"""Another: Adam')],
    "what print is given": [('print(f"step', 'print(f"Step')],
    "what sys.exit is given": [("is not UTF-8 text: {error}", "was not UTF-8 text: {error}")],
    "BUILDS_ON": [('BUILDS_ON = "', 'BUILDS_ON = "another-')],
    "a constant of presets": [(RATE, RATE.replace("4", "8"))],
    "a default and its help": [('option(32, "width', 'option(48, "Width')],
    "a constant of defaults": [
        (DATA, f"NUMBER = 7\n\n{DATA}"),
        (STEPS, STEPS.replace("5000", "NUMBER")),
        ("NUMBER = 7", "NUMBER = 8"),
    ],
    "an import that is not used": [
        ("import argparse\n", "import argparse\nimport torch.linalg as t\n")
    ],
    "one beside others that are": [
        ("import asdict, dataclass", "import asdict, astuple, dataclass")
    ],
    "the last lines": [("        main()\n    except", "        main([])\n    except")],
}
CASES = [(name, True) for name in COUNTED] + [(name, False) for name in IGNORED]


@pytest.mark.parametrize("name, counts", CASES)
def test_the_source_hash_counts_all_but_named_exceptions(name, counts, script):
    """In the replacement, \\g is what is replaced."""
    *first, change = (COUNTED if counts else IGNORED)[name]
    for old, new in first:
        edit(script, old, new)
    before = hashed(script)
    edit(script, change[0], change[1].replace("\\g", change[0]))
    assert (hashed(script) != before) == counts


def test_the_source_hash_is_that_of_the_text_however_it_is_saved(script):
    """With a byte-order mark and the line ends of Windows."""
    text, before = script.read_text("utf-8"), hashed(script)
    script.write_bytes(("\ufeff" + text.replace("\n", "\r\n")).encode())
    assert hashed(script) == before == load(script).source_hash()


ALONE = """
import ast, hashlib, sys
from pathlib import Path
tree = ast.parse(Path(sys.argv[1]).read_bytes())
functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
tree.body = [node for node in functions if not node.decorator_list]
exec(compile(tree, "script", "exec"), space := dict(globals(), __file__=sys.argv[1]))
print(space["source_hash"]())
"""


def test_the_source_hash_is_the_same_under_every_python():
    """The function by itself, under every other Python from 3.11 to 3.14 that is found here."""
    minors = [minor for minor in range(11, 15) if minor != sys.version_info.minor]
    found = [*filter(None, (shutil.which(f"python3.{minor}") for minor in minors))]
    for minor in minors:
        found += Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")
    works = [x for x in found if not subprocess.run([x, "-V"], capture_output=True).returncode]
    if not works:
        pytest.skip("there is no other Python here")
    for python in works:
        output = subprocess.check_output([python, "-c", ALONE, ROOT / "train-2.py"], text=True)
        assert output.strip() == load("train-2.py").source_hash(), python
