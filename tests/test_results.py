"""The table, a run as a row, the names of its files, the hash of the source."""

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
from common import COLUMNS, ROOT, load

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
def test_the_row_the_checkpoint_and_the_screen_tell_of_one_run(script, preset, go, names):
    module = load(script)
    names.write_text("\n".join("abcdefghijklmnopqrstabcdefghij"))  # a sample can be one of them
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


@pytest.mark.parametrize("more", ["more", "train"])
def test_a_foreign_header_is_refused_before_training(more, untrained, go, table):
    table.parent.mkdir()
    table.write_text(HEADER.replace("train,", f"{more},train,"))
    before = common.tree(table.parent)
    done = go(untrained, results="deep")
    assert done.status == 1 and str(table) in common.one_error(done.err)
    assert common.tree(table.parent) == before


@pytest.mark.parametrize("place", ["file", "file/below", "table", "dots"])
def test_where_nothing_can_be_written_is_said_before_training(place, untrained, go, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "table" / "results.csv").mkdir(parents=True)
    (tmp_path / "dots").mkdir()
    (tmp_path / "dots" / "checkpoints").write_text("in the way")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / place))):
        go(untrained, results=place)


def fails_on_a_full_disk(size, function):
    """Whether it is an OSError in a process whose files have room for so many bytes only."""
    resource = pytest.importorskip("resource")

    def limited():
        sys.stdout = sys.stderr = None  # these may be files, too
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            function()
        except OSError:
            sys.exit(3)

    process = multiprocessing.get_context("fork").Process(target=limited)
    process.start()
    process.join(60)
    return process.exitcode == 3


def test_a_disk_too_full_for_the_checkpoint_is_said_before_training(untrained, go):
    assert fails_on_a_full_disk(5000, lambda: go(untrained))


def test_a_row_that_does_not_fit_is_no_success(module, table):
    module.append_row(table, ROW)
    room = table.stat().st_size + 20  # for a part of it
    again = ROW | {"seconds": "1"}
    assert fails_on_a_full_disk(room, lambda: module.append_row(table, again))


def curve_of(seed):
    """From nothing to more than csv reads by default, or than one buffer holds."""
    return "x" * (37 * seed % 300 if seed % 20 else 200_000)


def append_rows(path, barrier, worker):
    barrier.wait(60)
    for seed in range(worker, 200, 8):
        row = ROW | {"seed": seed, "seconds": f"{seed:.6f}", "curve": curve_of(seed)}
        load(BASE).append_row(path, row)


def test_eight_processes_append_at_once(module, table):
    """200 rows in all: none is lost or torn, and there is one header."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("concurrent writers are promised on Linux and macOS")
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    workers = [context.Process(target=append_rows, args=(table, barrier, i)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 8
    rows = common.read_table(table)
    assert sorted(int(row["seed"]) for row in rows) == list(range(200))
    assert all(row["curve"] == curve_of(int(row["seed"])) for row in rows)
    assert list(table.parent.iterdir()) == [table]


def test_a_table_that_another_run_makes_meanwhile_is_kept(module, table, monkeypatch):
    link = os.link

    def late(source, target):
        Path(target).write_text(HEADER + ",".join(ROW.values()) + "\n")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    module.append_row(table, ROW | {"seconds": "1"})
    assert [row["seconds"] for row in common.read_table(table)] == ["x", "1"]


def test_a_row_is_appended_once_and_after_a_missing_newline_too(module, table):
    """Either of seconds and finish can be equal by chance, or the end of another's."""
    runs = [("11.5", "B"), ("1.5", "B"), ("2.5", "B"), ("1.5", "A"), ("1.5", "B")]
    for seconds, finished in runs:
        module.append_row(table, ROW | {"seconds": seconds, "finished": finished})
        if seconds == "2.5":
            table.write_bytes(table.read_bytes().removesuffix(b"\n"))
    assert [(row["seconds"], row["finished"]) for row in common.read_table(table)] == runs[:4]


def test_unusual_characters(go, tmp_path):
    """In names, what csv, JSON or a file system could trip over; a file's name that is no UTF-8."""
    text = 'a,"b\n"\'\\\n,,\n{}\n;%s\nb"\n🦊\n👩‍👧\n日本\na\x1bb\n\u2028a\nb\x0cb\n' * 4
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xff.txt"))
    try:
        path.write_text(text, "utf-8")
    except OSError:
        pytest.skip("not on this file system")
    done = go(BASE, data=path, shell=True)
    (row,) = common.read_table(done.table)
    assert (done.status, done.err) == (0, "") and len(json.loads(row["samples"])) == 10
    assert set("".join(json.loads(row["samples"]))) <= set(text)
    assert done.table.read_bytes().count(b"\n") == 2  # a row is one line
    assert row["data"] == path.name.encode(errors="backslashreplace").decode()


def test_the_name_of_a_run_says_what_it_is(module):
    """In words, and every part of what it is counts: no two kinds of run share a file."""
    run = {"script": "train-2", "preset": "", "overrides": "", "seed": 0, "device": "cpu (A chip)"}
    run["data_hash"] = module.NAMES_SHA256[:12]

    def name(**changes):
        return module.run_name(run | changes)

    assert name() == "train-2-seed0"
    final = {"preset": "final", "overrides": "n_layer=2", "seed": "3"}  # a table's row is text
    assert name(**final) == "train-2@final-n_layer=2-seed3"
    assert name(overrides="a=2 b=4", device="cuda (H100)") == "train-2-a=2-b=4-cuda-seed0"
    assert name(data_hash="0123456789ab") == "train-2-0123456789ab-seed0"
    long = " ".join(f"setting_{i}=1.{i}" for i in range(30))
    names = {name(overrides=long + end) for end in ("", "1", "2")}
    assert len(names) == 3 and max(map(len, names)) < 50


UNSEEN = [  # regular expressions, and what they are replaced by
    (r"(# --- Model ---)([\s\S]*?)  # .*$", r"\1\n# a comment\n\n\n\2  # another comment"),
    (r'(# --- Model ---[\s\S]*?)"""[^"]*"""', r'\1"""Another docstring,\n    longer."""'),
    (r"^class Data:\n", 'class Data:\n    """A docstring where there was none."""\n\n'),
    (r"^PAD, BOUNDARY = 0, 1", "PAD,  BOUNDARY  =  (0,  1)"),
    (r'print\(f"step', 'print(f"Step'),
    (r"sys\.exit\(f\"error: \{path\} is not", 'sys.exit(f"error: {path} was not'),
    (r"timeout=10", "timeout=20"),
    (r'option\(32, "width', 'option(48, "Width'),
    (r"^# --- Sampling ---\n", "# --- Sampling ---\nNUMBER = 1\n"),
]
SEEN = [
    (r"^# --- Data ---\n", "# --- Data ---\nNUMBER = 1\n"),
    (r"^# --- Sampling ---\n", "def read_more():\n    pass\n\n\n# --- Sampling ---\n"),
    (r"int\(0\.8 \*", "int(0.9 *"),
    (r"F\.gelu\(", "F.relu("),
    (r"^( +)(x = x \+ self\.mlp\(.*)$", r"\1# \2"),
    (r"^        (optimizer\.step\(\))$", r"        if step:\n            \1"),
    (r"^( +)(optimizer\.zero_grad\(\))\n +(loss\.backward\(\))$", r"\1\3\n\1\2"),
]


@pytest.mark.parametrize("old, new", UNSEEN + SEEN)
def test_the_source_hash_sees_code_only(old, new, tmp_path):
    """Not layout, comments, docstrings, messages, how names.txt is had, and other sections."""
    source = (ROOT / "train-2.py").read_text("utf-8")
    assert re.search(old, source, flags=re.M), old
    path = tmp_path / "train-2.py"
    path.write_text(re.sub(old, new, source, count=1, flags=re.M), "utf-8")
    same = load(path).source_hash() == load("train-2.py").source_hash()
    assert same == ((old, new) in UNSEEN)


ALONE = """
import ast, hashlib, sys
from pathlib import Path
tree = ast.parse(Path(sys.argv[1]).read_text("utf-8"))
tree.body = [node for node in tree.body if getattr(node, "name", "") == "source_hash"]
exec(compile(tree, "script", "exec"), space := dict(globals(), __file__=sys.argv[1]))
print(space["source_hash"]())
"""


def test_the_source_hash_is_the_same_under_every_python():
    """The function by itself, under whatever Python from 3.11 on is found here."""
    places = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    for minor in range(11, 20):
        places += Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")
    asked = set()
    for python in filter(None, places):
        done = subprocess.run([python, "-V"], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout not in asked:  # a shim of pyenv may lead nowhere
            asked.add(done.stdout)
            output = subprocess.check_output([python, "-c", ALONE, ROOT / "train-2.py"], text=True)
            assert output.strip() == load("train-2.py").source_hash(), done.stdout
    if len(asked) < 2:
        pytest.skip("there is no other Python here")
