"""The table, a run as a row, the names of its files, the hash of the source."""

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import subprocess
from pathlib import Path

import common
import pytest
import torch
from common import CHAIN, COLUMNS, ROOT, load

ROW = dict.fromkeys(COLUMNS, "x")
HEADER = ",".join(COLUMNS) + "\n"


@pytest.fixture
def module():
    return load("train-2-baseline.py")  # Results is the same in all eight


@pytest.fixture
def table(tmp_path):
    return tmp_path / "deep" / "results.csv"


@pytest.fixture
def untrained(module, monkeypatch):
    """The script, which must find out what is wrong before it trains."""
    monkeypatch.setattr(module, "train", lambda *args: pytest.fail("it trained"))
    return module


def test_the_row_the_checkpoint_and_the_screen_tell_of_one_run(step, go, names):
    module = load(step)
    done = go(step)
    assert (done.status, done.err) == (0, "")
    (row,) = common.read_table(done.table)
    state = common.checkpoint(done.results)
    config = module.Config(steps=4, eval_interval=2, batch_size=8)
    data = module.load_data(names, config, "cpu")
    model = module.Transformer(config, len(data.chars) + 2, data.max_len)
    model.load_state_dict(state["model"])
    expected = {
        "script": step.stem,
        "preset": "",
        "overrides": "batch_size=8 eval_interval=2 steps=4",
        "seed": "0",
        "params": str(sum(p.numel() for p in model.parameters())),
        "seconds": f"{state['seconds']:.6f}",
        "torch": torch.__version__,
        "data": "small.txt",
        "data_hash": hashlib.sha256(names.read_bytes()).hexdigest()[:12],
        "source": module.source_hash(),
        "finished": state["finished"],
    }
    losses = module.final_losses(model, data)
    expected |= {name: f"{loss:.6f}" for name, loss in losses.items()}
    assert {key: row[key] for key in expected} == expected and len(losses) == 4
    assert json.loads(row["settings"]) == vars(config)
    assert json.loads(row["curve"]) == state["curve"] and len(state["curve"]) == 2
    samples = module.generate(model, data, 10, torch.Generator().manual_seed(0))
    assert json.loads(row["samples"]) == samples
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["finished"])
    assert re.fullmatch(r"cpu \(.*\)", row["device"])
    for text in (row["params"], *(f"{loss:.4f}" for loss in losses.values()), *samples):
        assert text.replace(",", "") in done.out.replace(",", "")
    (note,) = (line for line in done.out.splitlines() if line.startswith("note: "))
    assert "compar" in note  # these are other names


def test_a_sample_that_is_in_the_training_set_is_marked(go, names):
    """Of names of one letter, of which the training set has four in five."""
    names.write_text("\n".join("abcdefghijklmnopqrst"))
    done, module = go("train-2-baseline.py"), load("train-2-baseline.py")
    known = module.load_data(names, module.Config(), "cpu").train_items
    printed = done.out.split("training set:")[1].split()
    (row,) = common.read_table(done.table)
    samples = [name for name in json.loads(row["samples"]) if name]
    assert printed == [f"{name}*" if name in known else name for name in samples]


@pytest.mark.parametrize("preset", ["fast", "final"])
def test_the_row_of_a_preset(preset, go):
    """Overrides are what departs from the preset, sorted; seed and threads do not count."""
    done = go("train-2.py", "--preset", preset, "--n-layer=1", "--seed=7", "--n-embd=64")
    (row,) = common.read_table(done.table)
    given = {"steps": 4, "eval_interval": 2, "batch_size": 8, "n_layer": 1, "seed": 7}
    module = load("train-2.py")
    settings = vars(module.Config(**module.PRESETS[preset]["settings"])) | given
    assert json.loads(row["settings"]) == settings and row["preset"] == preset
    assert row["overrides"] == "batch_size=8 eval_interval=2 n_layer=1 steps=4"


def test_where_every_test_name_was_trained_on_test_unseen_is_blank(go, names):
    names.write_text("ab\n" * 10)
    (row,) = common.read_table(go("train-2-baseline.py").table)
    assert row["test_unseen"] == "" and float(row["test"]) > 0


def test_a_second_run_adds_its_row_after_a_missing_newline_too(go, module):
    done = go(module)
    assert done.table.read_text("utf-8").startswith(HEADER)
    done.table.write_bytes(done.table.read_bytes().removesuffix(b"\n"))
    go(module, "--seed=1")
    go(module, "--seed=2")
    assert [row["seed"] for row in common.read_table(done.table)] == ["0", "1", "2"]


FOREIGN = {
    "other columns": "a,b,c\n1,2,3\n",
    "one more": HEADER.replace("\n", ",more\n"),
    "another order": HEADER.replace("train,test", "test,train"),
    "cut": HEADER[:-2],
    "a blank line": "\n" + HEADER,
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_header_is_refused_before_training(text, untrained, go, table):
    table.parent.mkdir()
    table.write_text(text)
    before = common.tree(table.parent)
    done = go(untrained, results="deep")
    assert done.status == 1 and str(table) in common.one_error(done.err)
    assert common.tree(table.parent) == before


PLACES = ["file", "file/below", "table", "dots", "/dev/null/below"]


@pytest.mark.parametrize("place", PLACES)
def test_where_nothing_can_be_written_is_said_before_training(place, untrained, go, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "table" / "results.csv").mkdir(parents=True)
    (tmp_path / "dots").mkdir()
    (tmp_path / "dots" / "checkpoints").write_text("in the way")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / place))):
        go(untrained, results=place)


@pytest.fixture
def limit_files():
    """Limit the size of files, as a full disk does: what lies beyond cannot be written."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_before_training(untrained, go, limit_files):
    """The checkpoint does not fit."""
    limit_files(5000)
    with pytest.raises(OSError):
        go(untrained)


@pytest.mark.parametrize("room", [0, 20])
def test_a_row_that_does_not_fit_is_no_success(room, module, table, limit_files):
    module.append_row(table, ROW)
    limit_files(table.stat().st_size + room)
    with pytest.raises(OSError):
        module.append_row(table, ROW | {"seconds": "1"})


def curve_of(seed):
    """From nothing to more than csv reads by default, or than one buffer holds."""
    return "x" * (37 * seed % 300 if seed % 20 else 200_000)


def append_rows(path, barrier, worker):
    module = load("train-2-baseline.py")
    barrier.wait(60)
    for seed in range(worker, 200, 8):
        row = ROW | {"seed": seed, "seconds": f"{seed:.6f}", "curve": curve_of(seed)}
        module.append_row(path, row)


def test_eight_processes_append_at_once(table):
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


def test_a_run_is_told_from_others_by_its_seconds_and_its_finish(module, table):
    """Each can be equal by chance, and the end of another's is no other run's."""
    runs = [("11.5", "B"), ("1.5", "B"), ("2.5", "B"), ("1.5", "A"), ("1.5", "B")]
    for seconds, finished in runs:
        module.append_row(table, ROW | {"seconds": seconds, "finished": finished})
    assert [(row["seconds"], row["finished"]) for row in common.read_table(table)] == runs[:4]


ITEMS = {  # characters that csv, JSON or a file system could trip over
    "quotes": 'a,"b\n"\'\\\n,,\n{}\n;%s\nb"',
    "emoji": "🦊\n🐻🦊\n👩‍👧\n日本\n",
    "controls": "a\x1bb\nb\x7f\n\u2028a\nb\x0cb\nc",
}


@pytest.mark.parametrize("text", ITEMS.values(), ids=ITEMS)
def test_unusual_characters(text, go, names):
    names.write_text((text.strip() + "\n") * 4, "utf-8")
    done = go("train-2-2head.py", "--steps=40", small=False)
    (row,) = common.read_table(done.table)
    assert (done.status, done.err) == (0, "") and len(json.loads(row["samples"])) == 10
    assert set("".join(json.loads(row["samples"]))) <= set(text)
    assert done.table.read_bytes().count(b"\n") == 2  # a row is one line


@pytest.mark.parametrize("name", [b"n\xff.txt", b"x" * 246 + b".txt", "towns é.txt".encode()])
def test_a_data_file_of_any_name(name, go, tmp_path, names):
    """Also one that is no UTF-8, which Linux has, or as long as a file system takes."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        path.write_bytes(names.read_bytes())
    except OSError:
        pytest.skip("not on this file system")
    done = go("train-2-baseline.py", data=path, shell=True)
    again = go("train-2-baseline.py", "--resume", data=path, shell=True)
    assert (done.status, done.err, again.status, again.err) == (0, "", 0, "")
    (row,) = common.read_table(done.table)
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


@pytest.fixture
def edited(tmp_path):
    """The source hash of train-2.py with `old`, a regular expression, replaced by `new`."""

    def run(old, new):
        source = (ROOT / "train-2.py").read_text("utf-8")
        assert re.search(old, source, flags=re.M), old
        path = tmp_path / "train-2.py"
        path.write_text(re.sub(old, new, source, count=1, flags=re.M), "utf-8")
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
        (r"^( +)model\.eval\(\)$", r"\1model.eval(\n\1)"),
        (r'print\(f"step', 'print(f"Step'),
        (r"sys\.exit\(f\"error: \{path\} is not", 'sys.exit(f"error: {path} was not'),
        (r"timeout=10", "timeout=20"),
        (r'option\(32, "width', 'option(48, "Width'),
        (r"^# --- Configuration ---\n", "# --- Configuration ---\nNUMBER = 1\n"),
        (r"^# --- Sampling ---\n", "# --- Sampling ---\nNUMBER = 1\n"),
        (r"^# --- Results ---\n", "# --- Results ---\nNUMBER = 1\n"),
        (r"^# --- Main ---\n", "# --- Main ---\nNUMBER = 1\n"),
        (r'\A"""', '"""Another. '),
    ],
)
def test_the_source_hash_does_not_see(old, new, edited):
    """Layout, comments, docstrings, messages, how names.txt is had, and the other sections."""
    assert edited(old, new) == load("train-2.py").source_hash()


@pytest.mark.parametrize(
    "old, new",
    [
        (r"^# --- Data ---\n", "# --- Data ---\nNUMBER = 1\n"),
        (r"^# --- Model ---\n", "# --- Model ---\nNUMBER = 1\n"),
        (r"^# --- Training ---\n", "# --- Training ---\nNUMBER = 1\n"),
        (r"^# --- Sampling ---\n", "def read_more():\n    pass\n\n\n# --- Sampling ---\n"),
        (r"int\(0\.8 \*", "int(0.9 *"),
        (r'"NFC"', '"NFD"'),
        (r"F\.gelu\(", "F.relu("),
        (r"10_000 \*\*", "1_000 **"),
        (r"^( +)(x = x \+ self\.mlp\(.*)$", r"\1# \2"),
        (r"ignore_index=PAD", "ignore_index=BOUNDARY"),
        (r"481, max", "480, max"),
        (r"^        (optimizer\.step\(\))$", r"        if step:\n            \1"),
        (r"^( +)(optimizer\.zero_grad\(\))\n +(loss\.backward\(\))$", r"\1\3\n\1\2"),
        (r"fused=True\)", "fused=True, amsgrad=True)"),
    ],
)
def test_the_source_hash_sees(old, new, edited):
    assert edited(old, new) != load("train-2.py").source_hash()


ALONE = """
import ast, hashlib, sys
from pathlib import Path
for path in sys.argv[1:]:
    tree = ast.parse(Path(path).read_text("utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", "") == "source_hash"]
    exec(compile(tree, path, "exec"), space := dict(globals(), __file__=path))
    print(space["source_hash"]())
"""


def test_the_source_hash_is_the_same_under_every_python():
    """The function by itself, under whatever Python from 3.11 on is found here."""
    places = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    for minor in range(11, 20):
        places += Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")
    expected, asked = [load(ROOT / name).source_hash() for name in CHAIN], set()
    for python in filter(None, places):
        done = subprocess.run([python, "-V"], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout not in asked:  # a shim of pyenv may lead nowhere
            asked.add(done.stdout)
            output = subprocess.check_output([python, "-c", ALONE, *CHAIN], text=True, cwd=ROOT)
            assert output.split() == expected, done.stdout
    if len(asked) < 2:
        pytest.skip("there is no other Python here")
