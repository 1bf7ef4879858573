"""The table, a run as a row, the names of its files, the hash of the source."""

import hashlib
import json
import multiprocessing
import re
import shutil
import subprocess
import sys
from pathlib import Path

import common
import pytest
import torch
from common import COLUMNS, ROOT, load
from tools import edit

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


@pytest.mark.parametrize("place", ["file", "checkpoints"])
def test_where_nothing_can_be_written_is_reported_before_training(place, untrained, go, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "checkpoints").write_text("in the way")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / place))):
        go(untrained, results=place)


def append_rows(path, barrier, worker):
    barrier.wait()
    for seed in range(worker, 80, 4):
        load(BASE).append_row(path, ROW | {"seed": seed, "seconds": seed, "curve": "x" * 20_000})


def test_processes_append_side_by_side(table):
    """No row is lost or torn, and there is one header."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("concurrent writers are promised on Linux and macOS")
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    workers = [context.Process(target=append_rows, args=(table, barrier, i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    rows = common.read_table(table)
    assert sorted(int(row["seed"]) for row in rows) == list(range(80))
    assert {row["curve"] for row in rows} == {"x" * 20_000}


def test_a_row_is_appended_once_and_after_a_missing_newline_too(module, table):
    module.append_row(table, ROW | {"seconds": "1.5"})
    table.write_bytes(table.read_bytes().removesuffix(b"\n"))
    for seconds in ("2.5", "1.5"):
        module.append_row(table, ROW | {"seconds": seconds})
    assert [row["seconds"] for row in common.read_table(table)] == ["1.5", "2.5"]


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


IGNORED = [  # what is replaced in the script, and by what
    ("# --- Model ---\n", "# --- Model ---\n# a comment\n\n\n"),
    ('"""AdamW: Adam', '"""Another docstring: Adam'),
    ("PAD, BOUNDARY = 0, 1", "PAD,  BOUNDARY  =  (0,  1)"),
    ('print(f"step', 'print(f"Step'),
    ('sys.exit(f"error: {path} is not', 'sys.exit(f"error: {path} was not'),
    ("timeout=10", "timeout=20"),
    ('option(32, "width', 'option(48, "Width'),
    ("# --- Sampling ---\n", "# --- Sampling ---\nNUMBER = 1\n"),
]
COUNTED = [
    ("# --- Data ---\n", "# --- Data ---\nNUMBER = 1\n"),
    ("int(0.8 *", "int(0.9 *"),
    ("F.gelu(", "F.relu("),
    ("        optimizer.step()\n", "        if step:\n            optimizer.step()\n"),
]


@pytest.mark.parametrize("old, new", IGNORED + COUNTED)
def test_the_source_hash_sees_code_only(old, new, tmp_path):
    """Not layout, comments, docstrings, messages, the download of names.txt, other sections."""
    path = tmp_path / "train-2.py"
    path.write_bytes((ROOT / "train-2.py").read_bytes())
    edit(path, old, new)
    same = load(path).source_hash() == load("train-2.py").source_hash()
    assert same == ((old, new) in IGNORED)


ALONE = """
import ast, hashlib, sys
from pathlib import Path
tree = ast.parse(Path(sys.argv[1]).read_text("utf-8"))
tree.body = [node for node in tree.body if getattr(node, "name", "") == "source_hash"]
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
