"""The table, files that are written whole or not at all, their names, the hash of the source."""

import json
import multiprocessing
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import common
import pytest
from common import COLUMNS, ROOT, load

ROW = dict.fromkeys(COLUMNS, "x")
HEADER = ",".join(COLUMNS)


@pytest.fixture
def module():
    return load("train-2-baseline.py")


@pytest.fixture
def table(tmp_path):
    return tmp_path / "deep" / "results.csv"


def seeds(table):
    return [row["seed"] for row in common.read_table(table)]


@pytest.fixture
def limit_files():
    """Limit the size of files, as a full disk does: what lies beyond cannot be written."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size=soft):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    limit()


def test_the_columns_are_those_of_the_design(script):
    assert tuple(load(script).COLUMNS) == tuple(COLUMNS)


def test_the_first_row_brings_the_header_and_the_folder(module, table):
    module.append_row(table, ROW | {"seed": 1})
    module.append_row(table, ROW | {"seed": 2})
    assert seeds(table) == ["1", "2"]
    assert table.read_text().splitlines()[0] == HEADER


def test_the_same_row_again_adds_nothing(module, table):
    """A run that was killed right after it had written its row writes it again."""
    for seed in (1, 2, 1, 12):
        module.append_row(table, ROW | {"seed": seed})
    table.write_bytes(table.read_bytes().replace(b"\n", b"\r\n"))  # as an editor may save it
    module.append_row(table, ROW | {"seed": 12})
    assert seeds(table) == ["1", "2", "12"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.removesuffix(b"\n"),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\r\n").removesuffix(b"\r\n"),
    ],
    ids=["as written", "no final newline", "CRLF", "CRLF, no final newline"],
)
def test_a_table_that_an_editor_saved_is_gone_on_with(change, module, go, tmp_path):
    table = tmp_path / "results" / "results.csv"
    for seed in (1, 2):
        module.append_row(table, ROW | {"seed": seed})
    table.write_bytes(change(table.read_bytes()))
    assert go(module, "--seed", 3).status == 0
    assert seeds(table) == ["1", "2", "3"]


FOREIGN = {
    "other columns": "a,b,c\n1,2,3\n",
    "one more": HEADER + ",more\n",
    "another order": HEADER.replace("train,test", "test,train") + "\n",
    "cut": HEADER[:-1],
    "garbage": "\x00\xff",
    "a blank line": "\n",
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_header_is_refused_before_training(text, module, go, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train", lambda *args: pytest.fail("it trained"))
    table = tmp_path / "results" / "results.csv"
    table.parent.mkdir()
    table.write_text(text)
    before = common.tree(table.parent)
    done = go(module)
    message = common.one_error(done.err)
    assert done.status == 2 and "header" in message and str(table) in message
    assert common.tree(table.parent) == before


@pytest.mark.parametrize("place", ["file", "file/below", "folder"])
def test_where_no_table_can_be_is_said_before_training(place, module, go, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train", lambda *args: pytest.fail("it trained"))
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder" / "results.csv").mkdir(parents=True)
    before = common.tree(tmp_path)
    done = go(module, results=place)
    assert done.status in (1, 2)
    assert str(tmp_path / place.split("/")[0]) in common.one_error(done.err)
    assert common.tree(tmp_path) == before


def test_a_folder_that_is_not_writable_is_refused_before_training(tmp_path, names):
    """With the rights of an ordinary user, where the tests are run by root."""
    prefix = []
    if not hasattr(os, "geteuid"):
        pytest.skip("folders have no such rights here")
    if os.geteuid() == 0:
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        if not shutil.which("setpriv"):
            pytest.skip("nothing is closed to root")
    results = tmp_path / "results"
    results.mkdir()
    results.chmod(0o500)
    argv = [*common.SMALL, "--data", names, "--results-dir", results]
    command = [*prefix, *common.command("train-2-baseline.py", *argv)]
    done = subprocess.run(command, capture_output=True, text=True)
    results.chmod(0o700)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--results-dir" in common.one_error(done.stderr)
    assert list(results.iterdir()) == []


def append_rows(path, barrier, worker):
    module = load("train-2-baseline.py")
    barrier.wait(60)
    for seed in range(worker, 200, 8):
        module.append_row(path, ROW | {"seed": seed, "samples": "x" * (37 * seed % 300)})


def test_eight_processes_append_at_once(table):
    """200 rows in all: none is lost or torn, and there is one header."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("concurrent writers are promised on Linux and macOS")
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    workers = [
        context.Process(target=append_rows, args=(table, barrier, worker)) for worker in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 8
    rows = common.read_table(table)
    assert sorted(int(row["seed"]) for row in rows) == list(range(200))
    assert all(row["samples"] == "x" * (37 * int(row["seed"]) % 300) for row in rows)


def test_what_is_written_while_waiting_for_the_lock_counts(module, table, monkeypatch):
    """Another process's header, for one."""
    fcntl = pytest.importorskip("fcntl")
    flock, other = fcntl.flock, table.with_name("other.csv")
    module.append_row(other, ROW | {"seed": 1})

    def late(file, operation):
        table.write_bytes(other.read_bytes())
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    module.append_row(table, ROW | {"seed": 2})
    assert seeds(table) == ["1", "2"]


@pytest.mark.parametrize("room", [0, 20])
def test_a_full_disk_leaves_no_half_row(room, module, table, limit_files):
    for seed in range(5):
        module.append_row(table, ROW | {"seed": seed})
    before = table.read_bytes()
    limit_files(len(before) + room)
    with pytest.raises(OSError):
        module.append_row(table, ROW | {"seed": 5})
    limit_files()
    assert table.read_bytes() == before
    module.append_row(table, ROW | {"seed": 6})
    assert seeds(table) == ["0", "1", "2", "3", "4", "6"]


def test_a_full_disk_ends_a_run_in_one_line(go, limit_files):
    """The checkpoint does not fit: nothing half-written is left."""
    limit_files(5000)
    done = go("train-2-2head.py")
    limit_files()
    assert done.status == 1
    common.one_error(done.err)
    assert [path for path in done.results.rglob("*") if path.is_file()] == []


def named(module, preset="", overrides="", data="names.txt", digest=None, device="cpu", seed=0):
    data = SimpleNamespace(name=data, hash=digest or module.NAMES_SHA256[:12])
    return module.run_name(module.__file__, preset, overrides, data, device, seed)


def test_the_name_of_a_run_says_what_it_is():
    """In words, and every part of what it is counts: no two kinds of run share a file."""
    module = load("train-2.py")
    assert named(module) == "train-2-seed0"
    assert named(module, "final", "n_layer=2", seed=3) == "train-2@final-n_layer=2-seed3"
    other = {"data": "towns.txt", "digest": "0123456789ab"}
    assert named(module, **other) == "train-2-towns.txt-0123456789ab-seed0"
    assert named(module, **other | {"digest": "1" * 12}) == "train-2-towns.txt-111111111111-seed0"
    assert named(module, overrides="a=2 b=4", device="cuda") == "train-2-a=2-b=4-cuda-seed0"
    assert named(load("train-2-2head.py")) == "train-2-2head-seed0"


def test_the_row_of_a_preset(go):
    """It has the preset's label and base; overrides are what departs from the preset."""
    module = load("train-2.py")
    for name, preset in module.PRESETS.items():
        done = go(module, "--preset", name, "--n-layer", 1)
        row = common.read_table(done.table)[-1]
        kind = row["preset"], row["label"], row["builds_on"]
        assert kind == (name, preset["label"], preset["builds_on"])
        given = {"steps": 4, "eval_interval": 2, "batch_size": 8, "n_layer": 1}
        settings = vars(module.Config(**preset["knobs"])) | given
        assert json.loads(row["settings"]) == settings
        assert row["overrides"] == "batch_size=8 eval_interval=2 n_layer=1 steps=4"


@pytest.fixture
def edited(tmp_path):
    """The source hash of train-2.py with `old`, a regular expression, replaced by `new`."""

    def run(old, new):
        source = (ROOT / "train-2.py").read_text("utf-8")
        assert re.search(old, source, flags=re.M), old
        source = re.sub(old, new, source, count=1, flags=re.M)
        path = tmp_path / "train-2.py"
        path.write_text(source, "utf-8")
        return load(path, fresh=True).source_hash()

    return run


@pytest.mark.parametrize(
    "old, new",
    [
        (r"^# --- Model ---\n", "# --- Model ---\n# a comment\n\n\n"),
        (r"(# --- Model ---[\s\S]*?)  # .*$", r"\1  # another comment"),
        (r'(# --- Model ---[\s\S]*?)"""[^"]*"""', r'\1"""Another docstring,\n    longer."""'),
        (r"^class Data:\n", 'class Data:\n    """A docstring where there was none."""\n\n'),
        (r"^PAD, BOUNDARY = 0, 1", "PAD,  BOUNDARY  =  (0,  1)"),
        (r"^( +)model\.train\(\)$", r"\1model.train(\n\1)"),
        (r'knob\(32, "width', 'knob(48, "Width'),
        (r"^# --- Configuration ---\n", "# --- Configuration ---\nNUMBER = 1\n"),
        (r"^# --- Sampling ---\n", "# --- Sampling ---\nNUMBER = 1\n"),
        (r"^# --- Results ---\n", "# --- Results ---\nNUMBER = 1\n"),
        (r"^# --- Main ---\n", "# --- Main ---\nNUMBER = 1\n"),
        (r'\A"""', '"""Another. '),
    ],
)
def test_the_source_hash_does_not_see(old, new, edited):
    assert edited(old, new) == load("train-2.py").source_hash()


@pytest.mark.parametrize(
    "old, new",
    [
        (r"^# --- Data ---\n", "# --- Data ---\nNUMBER = 1\n"),
        (r"^# --- Model ---\n", "# --- Model ---\nNUMBER = 1\n"),
        (r"^# --- Training ---\n", "# --- Training ---\nNUMBER = 1\n"),
        (r"random\.Random\(42\)", "random.Random(43)"),
        (r"F\.gelu\(", "F.relu("),
        (r"^( +)(x = x \+ self\.mlp\(.*)$", r"\1# \2"),
        (r"ignore_index=PAD", "ignore_index=BOUNDARY"),
        (r"^        (optimizer\.step\(\))$", r"    \1"),  # out of the loop
        (r"^( +)(optimizer\.zero_grad\(\))\n +(loss\.backward\(\))$", r"\1\3\n\1\2"),
    ],
)
def test_the_source_hash_sees(old, new, edited):
    assert edited(old, new) != load("train-2.py").source_hash()


ALONE = """
import ast, hashlib, re, sys
from pathlib import Path
for path in sys.argv[1:]:
    tree = ast.parse(Path(path).read_text("utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", "") == "source_hash"]
    exec(compile(tree, path, "exec"), space := dict(globals(), __file__=path))
    print(space["source_hash"]())
"""


def test_the_source_hash_is_the_same_under_every_python(scripts):
    """The function by itself, under whatever Python from 3.11 on is found here."""
    versions = [f"3.{minor}" for minor in range(11, 20)]
    places = [Path(found) for version in versions if (found := shutil.which(f"python{version}"))]
    for version in versions:
        places += Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    expected = [load(path).source_hash() for path in scripts]
    asked = set()
    for python in places:
        done = subprocess.run([python, "-V"], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout not in asked:  # a shim of pyenv may lead nowhere
            asked.add(done.stdout)
            output = subprocess.check_output([python, "-c", ALONE, *scripts], text=True)
            assert output.split() == expected, done.stdout
    if len(asked) < 2:
        pytest.skip("there is no other Python here")
