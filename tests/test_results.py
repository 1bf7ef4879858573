"""The table, files that are written whole or not at all, and the hash of the source."""

import hashlib, io, multiprocessing, os, re, shutil, subprocess, sys
from pathlib import Path

import pytest, torch

import common
from common import COLUMNS, ROOT, load

ROW = dict.fromkeys(COLUMNS, "x")
HEADER = ",".join(COLUMNS)


@pytest.fixture
def module():
    return load("train-2-baseline.py")


@pytest.fixture
def table(tmp_path):
    return tmp_path / "deep" / "results.csv"


def row(**values):
    return ROW | values


# The table


def test_the_first_row_brings_the_header_and_the_folder(module, table):
    module.append_row(table, row(seed=1))
    module.append_row(table, row(seed=2))
    assert [r["seed"] for r in common.read_table(table)] == ["1", "2"]
    assert table.read_bytes().count(HEADER.encode()) == 1


def test_anything_can_stand_in_a_field(module, table):
    odd = ["a,b", 'say "so"', "two\nlines", "", "ünï 🦊", "=1+1", "\u2028", " blank ", '"']
    for value in odd:
        module.append_row(table, row(data=value, samples=value))
    assert (
        [r["data"] for r in common.read_table(table)]
        == [r["samples"] for r in common.read_table(table)]
        == odd
    )


def test_a_table_without_a_final_newline_is_mended(module, table):
    module.append_row(table, row(seed=1))
    module.append_row(table, row(seed=2))
    text = table.read_bytes()
    table.write_bytes(text[:-1])
    module.append_row(table, row(seed=3))
    assert table.read_bytes() == text + text.splitlines(keepends=True)[1].replace(b",1,", b",3,")
    assert [r["seed"] for r in common.read_table(table)] == ["1", "2", "3"]


def test_a_header_alone_without_a_newline_is_mended(module, table):
    table.parent.mkdir()
    table.write_text(HEADER)
    module.append_row(table, row(seed=3))
    assert [r["seed"] for r in common.read_table(table)] == ["3"]


def test_the_same_row_again_adds_nothing(module, table):
    """A run that was killed between the write and its end writes the same bytes again when it resumes."""
    for seed in (1, 2, 1, 12):
        module.append_row(table, row(seed=seed))
    assert [r["seed"] for r in common.read_table(table)] == ["1", "2", "12"]
    module.append_row(table, row(script="xx", seed=3))
    module.append_row(table, row(seed=3))  # which is how the row before ends
    assert len(common.read_table(table)) == 5


FOREIGN = [
    "a,b,c\n1,2,3\n",
    HEADER + ",more\n",
    HEADER.replace("script,", "") + "\n",
    "garbage",
    "\n",
    "\ufeff" + HEADER + "\n",
    HEADER.replace("train,test", "test,train") + "\n",
    HEADER[:-1],
    "\x00\xff",
]


@pytest.mark.parametrize("text", FOREIGN, ids=map(str, range(len(FOREIGN))))
def test_a_foreign_header_is_refused_and_the_file_left_alone(text, module, table):
    table.parent.mkdir()
    table.write_text(text, "utf-8")
    before = common.tree(table.parent)
    for dry_run in (True, False):
        with pytest.raises(OSError) as error:
            module.append_row(table, row(), dry_run)
        assert "header" in str(error.value) and str(table) in str(error.value)
    assert common.tree(table.parent) == before


def test_a_dry_run_adds_nothing(module, table):
    module.append_row(table, row(), dry_run=True)
    assert not table.exists() or table.read_bytes() == b""
    module.append_row(table, row(seed=1))
    before = table.read_bytes()
    module.append_row(table, row(seed=2), dry_run=True)
    assert table.read_bytes() == before
    table.write_bytes(before[:-1])
    module.append_row(table, row(seed=2), dry_run=True)
    assert table.read_bytes() == before[:-1]


def test_a_foreign_header_is_noticed_before_training(go, tmp_path, monkeypatch):
    module = load("train-2-baseline.py")
    monkeypatch.setattr(module, "train", lambda *args: pytest.fail("it trained"))
    table = tmp_path / "results" / "results.csv"
    table.parent.mkdir()
    table.write_text("a,b\n1,2\n")
    before = common.tree(table.parent)
    done = go(module)
    assert (
        done.status == 2
        and "header" in common.one_error(done.err)
        and common.tree(table.parent) == before
    )
    assert go(module, "--no-record", "--device", "nowhere").status == 2


def test_a_row_is_one_write(module, table, monkeypatch):
    """Through the operating system's eyes: one write for header and row together, one for each row after."""
    writes = []

    def opened(path, mode, buffering=-1):
        class File(io.FileIO):
            def write(self, data):
                writes.append(bytes(data))
                return super().write(data)

        assert buffering == 0
        return File(path, mode.replace("b", ""))

    monkeypatch.setattr(module, "open", opened, raising=False)
    module.append_row(table, row(seed=1))
    module.append_row(table, row(seed=2))
    assert len(writes) == 2 and writes[0].startswith(b"script,") and writes[1].endswith(b"\n")
    assert len(common.read_table(table)) == 2


def short(module, monkeypatch, room):
    """From now on the disk takes `room` bytes of a write to a table."""

    def opened(path, mode, buffering=-1):
        class File(io.FileIO):
            def write(self, data):
                return super().write(bytes(data)[:room])

        return File(path, mode.replace("b", ""))

    monkeypatch.setattr(module, "open", opened, raising=False)


@pytest.mark.parametrize("room", [0, 1, 50])
@pytest.mark.parametrize("state", ["new", "whole", "without a newline"])
def test_a_short_write_is_undone(room, state, module, table, monkeypatch):
    if state != "new":
        module.append_row(table, row(seed=1))
    if state == "without a newline":
        table.write_bytes(table.read_bytes()[:-1])
    before = table.read_bytes() if table.exists() else b""
    with monkeypatch.context() as patch:
        short(module, patch, room)
        with pytest.raises(OSError):
            module.append_row(table, row(seed=2))
    assert table.read_bytes() == before
    module.append_row(table, row(seed=3))  # and when there is room again
    assert [r["seed"] for r in common.read_table(table)] == ["1", "3"][state == "new" :]


def test_a_file_size_limit_stands_for_a_full_disk(module, table):
    resource = pytest.importorskip("resource")
    for seed in range(5):
        module.append_row(table, row(seed=seed))
    before = table.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
        with pytest.raises(OSError):
            module.append_row(table, row(seed=5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert table.read_bytes() == before


@pytest.mark.parametrize("header", [True, False])
def test_the_table_is_read_under_the_lock(header, module, table, monkeypatch):
    """While we wait for the lock another process writes: what it wrote counts, its header or its missing newline."""
    fcntl = pytest.importorskip("fcntl")
    other = table.with_name("other.csv")
    module.append_row(other, row(seed=1))
    if not header:
        module.append_row(table, row(seed=0))
    flock, locks = fcntl.flock, []

    def late(file, operation):
        locks.append(operation)
        text = (
            other.read_bytes()
            if header
            else table.read_bytes() + other.read_bytes().splitlines()[1]
        )
        table.write_bytes(text)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    module.append_row(table, row(seed=2))
    assert locks == [fcntl.LOCK_EX]
    assert [r["seed"] for r in common.read_table(table)] == ([] if header else ["0"]) + ["1", "2"]


def many_rows(path, barriers, worker):
    module = load("train-2-baseline.py")
    for number, barrier in enumerate(barriers):
        barrier.wait(60)
        for i in range(worker, 200, 8):
            module.append_row(
                Path(path) / str(number) / "results.csv", row(seed=i, samples="x" * (37 * i % 300))
            )


def test_eight_processes_append_at_once(tmp_path):
    """200 rows in all, one header; thrice, since it is a matter of luck who comes first."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    context = multiprocessing.get_context("fork")
    barriers = [context.Barrier(8) for _ in range(3)]
    workers = [
        context.Process(target=many_rows, args=(tmp_path, barriers, worker)) for worker in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 8
    for number in range(3):
        rows = common.read_table(tmp_path / str(number) / "results.csv")
        assert sorted(int(r["seed"]) for r in rows) == list(range(200))
        assert all(r["samples"] == "x" * (37 * int(r["seed"]) % 300) for r in rows)


# A table that cannot take the row at the end


def sabotage(module, monkeypatch, act, step=2):
    """Act once, while a run trains."""
    rate = module.learning_rate
    monkeypatch.setattr(
        module,
        "learning_rate",
        lambda now, config: (act() if now == step else None, rate(now, config))[1],
    )


def test_the_row_goes_to_a_file_of_its_own_when_the_table_cannot_take_it(go, tmp_path, monkeypatch):
    module, table = load("train-2-baseline.py"), tmp_path / "results" / "results.csv"
    sabotage(module, monkeypatch, lambda: table.write_text("a,b\n1,2\n"))
    done = go(module)
    assert (done.status, done.err) == (0, "")
    assert table.read_text() == "a,b\n1,2\n"
    (own,) = (path for path in done.results.glob("*.csv") if path != table)
    assert len(common.read_table(own)) == 1
    (note,) = (line for line in done.out.splitlines() if line.startswith("note: "))
    assert str(table) in note and "own" in note
    assert str(own) in done.out.splitlines()[-1]


def test_a_row_that_fits_nowhere_is_an_error(go, tmp_path, monkeypatch):
    """The results folder becomes a file while it trains: nothing can be written, and that is said."""
    module, results = load("train-2-baseline.py"), tmp_path / "results"

    def act():
        shutil.rmtree(results)
        results.write_text("in the way")

    sabotage(module, monkeypatch, act)
    done = go(module)
    assert done.status in (1, 2)
    common.one_error(done.err)
    assert results.read_text() == "in the way"


def test_a_results_folder_that_vanishes_is_made_again(go, tmp_path, monkeypatch):
    module = load("train-2-baseline.py")
    sabotage(module, monkeypatch, lambda: shutil.rmtree(tmp_path / "results"))
    done = go(module)
    assert done.status == 0 and len(common.read_table(done.table)) == 1


# Files that are written whole


def test_write_whole_replaces_in_one_step(module, tmp_path):
    path, seen = tmp_path / "a" / "b" / "file.txt", []
    module.write_whole(path, lambda temporary: temporary.write_text("old"))

    def write(temporary):
        assert temporary.parent == path.parent and temporary != path  # the same file system
        temporary.write_text("new, first half")
        seen.append(path.read_text())
        temporary.write_text("new")

    module.write_whole(path, write)
    assert seen == ["old"] and path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file: file write failed"),
    ],
)
def test_a_failed_write_is_noted_and_leaves_the_old_file(error, module, tmp_path, capsys):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise error

    module.write_whole(path, write)
    out, err = capsys.readouterr()
    assert (
        out.startswith("note: ") and str(path) in out and len(out.splitlines()) == 1 and err == ""
    )
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file(module, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.write_whole(path, write)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", ["checkpoints", "curves"])
def test_a_save_that_fails_does_not_end_the_run(folder, go, tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / folder).write_text("in the way")
    done = go("train-2-baseline.py")
    assert (done.status, done.err) == (0, "")
    assert len(common.read_table(done.table)) == 1
    notes = [line for line in done.out.splitlines() if line.startswith("note: ")]
    assert notes and all(folder in note for note in notes)
    assert (tmp_path / "results" / folder).read_text() == "in the way"


def test_a_checkpoint_that_cannot_be_written_half_way_does_not_end_the_run(go, monkeypatch):
    """The disk is full for one of the saves only."""
    module, saves = load("train-2-baseline.py"), []
    save = torch.save

    def full(state, path):
        saves.append(state["step"])
        if len(saves) == 2:
            Path(path).write_bytes(b"half")
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")
        save(state, path)

    monkeypatch.setattr(torch, "save", full)
    done = go(module)
    assert done.status == 0 and len(saves) >= 3 and done.out.count("note: ") == 1
    assert common.checkpoint(done.results)["step"] == 4 and not list(done.results.rglob("*.tmp"))


def test_a_full_disk(tmp_path, names):
    """A limit on the size of files, as the operating system has it: checkpoints do not fit, the row does."""
    resource = pytest.importorskip("resource")
    if os.name != "posix":
        pytest.skip("POSIX only")
    process = common.start(
        "train-2-2head.py",
        *common.SMALL,
        "--data",
        names,
        "--results-dir",
        tmp_path / "results",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
    )
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 3 and all("checkpoint" in note for note in notes)
    assert len(common.read_table(tmp_path / "results" / "results.csv")) == 1
    assert list((tmp_path / "results" / "checkpoints").iterdir()) == []


def one_of_two(barrier, names, results):
    sys.stdout = open(os.devnull, "w")
    module = load("train-2.py")
    barrier.wait(60)
    module.main(
        [*common.SMALL, "--eval-interval", "1", "--data", str(names), "--results-dir", str(results)]
    )


def test_two_identical_runs_at_once(go, tmp_path, names):
    """They write the same files, and none of them half of one."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    context, results = multiprocessing.get_context("fork"), tmp_path / "results"
    barrier = context.Barrier(2)
    runs = [context.Process(target=one_of_two, args=(barrier, names, results)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(120)
    assert [run.exitcode for run in runs] == [0, 0]
    a, b = common.read_table(results / "results.csv")
    assert common.but_times(a) == common.but_times(b)
    assert common.checkpoint(results)["step"] == 4 and not list(results.rglob("*.tmp"))
    (curve,) = results.glob("curves/*")
    assert len(curve.read_text().splitlines()) == 6


# The hash of the source


@pytest.fixture
def edited(tmp_path):
    """source_hash of a copy of train-2.py in which `old` became `new`."""
    folder = tmp_path / "scripts"
    folder.mkdir()

    def run(*edits, script="train-2.py"):
        path = folder / script
        source = (ROOT / script).read_text("utf-8")
        for old, new in edits:
            source, count = re.subn(old, new, source, count=1, flags=re.M)
            assert count == 1, old
        path.write_text(source, "utf-8")
        return load(path, fresh=True).source_hash()

    return run


@pytest.mark.parametrize(
    "old, new",
    [
        (r"^# --- Model ---\n", "# --- Model ---\n# a comment\n\n\n"),
        (r"  # \(B, T, n_embd\)$", "  # another comment"),
        (r'"""Logits of the next token[^"]*"""', '"""Another docstring."""'),
        (
            r'"""Logits of the next token[^"]*"""',
            '"""Another docstring,\n\n    of several lines.\n    """',
        ),
        (r'^( +)"""Linear warm-up', r'\1r"""Another docstring. Linear warm-up'),
        (r"^PAD, BOUNDARY = 0, 1 .*$", "PAD, BOUNDARY = 0, 1"),
        (r"^PAD, BOUNDARY = 0, 1", "PAD,  BOUNDARY  =  0,  1"),
        (r"^( +)model\.train\(\)$", r"\1model.train()   "),
        (r'knob\(32, "width', 'knob(48, "Width'),
        (r"^CONFIG = .*", 'CONFIG = "mine"'),
        (r"^# --- Results ---\n", "# --- Results ---\nNUMBER = 1\n"),
        (r"^# --- Sampling ---\n", "# --- Sampling ---\nNUMBER = 1\n"),
        (r"^# --- Main ---\n", "# --- Main ---\nNUMBER = 1\n"),
        (r"^# --- Configuration ---\n", "# --- Configuration ---\nNUMBER = 1\n"),
        (r'\A"""', '"""Another. '),
    ],
)
def test_the_source_hash_does_not_see(old, new, edited):
    assert edited((old, new)) == load("train-2.py").source_hash()


@pytest.mark.parametrize(
    "old, new",
    [
        (r"random\.Random\(42\)", "random.Random(43)"),
        (r'"utf-8-sig"', '"utf-8"'),
        (r"F\.gelu\(", "F.relu("),
        (r"bias=False", "bias=True"),
        (r"^( +)(x = x \+ self\.mlp\(.*)$", r"\1# \2"),
        (r"ignore_index=PAD", "ignore_index=BOUNDARY"),
        (r"^( +)(model\.train\(\))\n( +)(return losses)", r"\1\4\n\3\2"),
        (r"^( +)(loss\.backward\(\))$", r"\1if step: \2"),
        (r"^        (optimizer\.step\(\))$", r"    \1"),  # out of the loop
        (r"^# --- Data ---\n", "# --- Data ---\nNUMBER = 1\n"),
        (r"^# --- Model ---\n", "# --- Model ---\nNUMBER = 1\n"),
        (r"^# --- Training ---\n", "# --- Training ---\nNUMBER = 1\n"),
        (r'^NOT_FINITE = "the', 'NOT_FINITE = "The'),
    ],
)
def test_the_source_hash_sees(old, new, edited):
    assert edited((old, new)) != load("train-2.py").source_hash()


def test_every_step_has_a_hash_of_its_own(scripts):
    hashes = {path.name: load(path).source_hash() for path in scripts}
    assert (
        hashes.pop("train-2-double-embd.py") == hashes["train-2-baseline.py"]
    )  # the same code at another size
    assert len(set(hashes.values())) == 7 and all(
        re.fullmatch("[0-9a-f]{12}", value) for value in hashes.values()
    )


ALONE = """
import ast, hashlib, io, re, sys, tokenize
from pathlib import Path
for path in sys.argv[1:]:
    function = [node for node in ast.parse(Path(path).read_text("utf-8")).body if getattr(node, "name", "") == "source_hash"]
    space = dict(globals(), __file__=path)
    exec(compile(ast.Module(function, []), path, "exec"), space)
    print(space["source_hash"]())
"""


def test_the_source_hash_is_the_same_under_every_python(scripts, tmp_path):
    """The tokens of an f-string became others in Python 3.12."""
    found = {shutil.which(f"python3.{minor}") for minor in range(10, 16)}
    found |= {
        str(path)
        for minor in range(10, 16)
        for path in Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")
    }
    pythons = [path for path in sorted(filter(None, found)) if Path(path).exists()]
    strange = tmp_path / "train-strange.py"
    strange.write_text(
        (ROOT / "train-2.py")
        .read_text("utf-8")
        .replace(
            "# --- Model ---\n",
            '''# --- Model ---
A = f"{{a}} {1 + 1:>{3}} {2!r:5} x\\n{[1][0]:,}" f'{A:{"a"}}' rf"\\d{{1}}"
B = f"""one { 1 } # no comment
two {{{2}}}"""
''',
            1,
        ),
        "utf-8",
    )
    files = [*map(str, scripts), str(strange)]
    results = {}
    for python in pythons:
        done = subprocess.run([python, "-c", ALONE, *files], capture_output=True, text=True)
        if done.returncode == 0 or "Error" in done.stderr and ".pyenv/shims" not in python:
            assert done.returncode == 0, done.stderr
            results[python] = done.stdout.split()
    if len(results) < 2:
        pytest.skip("one Python only")
    here = [load(path).source_hash() for path in scripts]
    for python, hashes in results.items():
        assert hashes[:-1] == here, python
    assert len({hashes[-1] for hashes in results.values()}) == 1, f"f-strings: {results}"


def test_data_sets_share_no_files(go, names, monkeypatch):
    """A run on the bundled sample, or on another names.txt, leaves the curve of the recorded run alone."""
    module, blob = load("train-2-baseline.py"), names.read_bytes()
    right, stems = hashlib.sha256(blob).hexdigest(), []
    for name, sha in (
        ("names.txt", right),
        ("names.txt", "0" * 64),
        ("sample-names.txt", "0" * 64),
    ):
        monkeypatch.setattr(module, "read_names", lambda save: (Path(name), blob))
        monkeypatch.setattr(module, "SHA256", sha)
        done = go(module, data=None, results=f"results{len(stems)}")
        assert done.status == 0
        stems += [path.stem for path in (done.results / "curves").iterdir()]
    assert len(set(stems)) == len(stems) == 3
