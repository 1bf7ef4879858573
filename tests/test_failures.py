"""What a failure looks like: one line, a status, nothing half-written. And runs that are interrupted go on."""

import os, pickle, random, re, shutil, signal, subprocess, sys, warnings

import pytest, torch

import common
from common import CHAIN, ROOT, SMALL, load

LONG = "--steps 12 --eval-interval 3 --batch-size 8".split()


def refused(done, *words, status=2):
    """A failure: the status, one line that has these words, and no results."""
    line = re.sub(
        r"\S*/(?=[^/\s])", "", common.one_error(done.err)
    )  # folders have names that prove nothing
    assert done.status == status
    for word in words:
        assert re.search(word, line, re.I), f"{word} is not in {line!r}"
    assert "training" not in done.out


# Wrong use


@pytest.mark.parametrize(
    "argv, words",
    [
        ("--device tpu", "--device tpu"),
        ("--device CPU", "--device"),
        ("--device cuda:99", "--device"),
        ("--n-head 3", "n-embd 32 n-head 3"),
        ("--n-embd 30 --n-head 4", "n-embd n-head"),
        ("--n-embd 30 --n-head 2", "even|odd 15"),
        ("--n-embd 2", "even|odd"),
        ("--n-embd 0", "--n-embd"),
        ("--n-embd -32", "--n-embd"),
        ("--n-head 0", "--n-head"),
        ("--n-layer -1", "--n-layer"),
        ("--steps 0", "--steps"),
        ("--steps -1", "--steps"),
        ("--steps 1.5", "--steps"),
        ("--steps many", "--steps many"),
        ("--steps 1e3", "--steps"),
        ("--steps 99999999999999999999", "--steps"),
        ("--steps", "--steps"),
        ("--steps=", "--steps"),
        ("--batch-size 0", "--batch-size"),
        ("--eval-interval 0", "--eval-interval"),
        ("--warmup-steps -1", "--warmup-steps"),
        ("--threads 0", "--threads"),
        ("--threads 100000", "--threads"),
        ("--seed -1", "--seed"),
        ("--seed 99999999999999999999", "--seed"),
        ("--dropout 1", "--dropout"),
        ("--dropout 1.5", "--dropout"),
        ("--dropout -0.1", "--dropout"),
        ("--dropout nan", "--dropout"),
        ("--learning-rate 0", "--learning-rate"),
        ("--learning-rate -1", "--learning-rate"),
        ("--learning-rate nan", "--learning-rate"),
        ("--learning-rate inf", "--learning-rate"),
        ("--learning-rate fast", "--learning-rate"),
        ("--lr-decay-to -1", "--lr-decay-to"),
        ("--lr-decay-to 1.1", "--lr-decay-to"),
        ("--lr-decay-to nan", "--lr-decay-to"),
        ("--weight-decay -1", "--weight-decay"),
        ("--weight-decay inf", "--weight-decay"),
        ("--grad-clip -1", "--grad-clip"),
        ("--grad-clip nan", "--grad-clip"),
        ("--preset tiny", "--preset tiny final"),
        ("--preset", "--preset"),
        ("--preset fina", "--preset"),
        ("--data", "--data"),
        ("--compile 1", "1"),
    ],
)
def test_wrong_use(argv, words, go):
    done = go("train-2.py", *argv.split())
    refused(done, *words.split())
    assert not done.results.exists() and done.out == ""


def test_a_line_break_in_an_argument_leaves_the_message_one_line(go):
    for argv in (["--bogus\nline"], ["--device", "a\nb"], ["--data", "no\nsuch file"]):
        refused(go("train-2.py", *argv))


def test_n_embd_and_n_head_are_checked_where_there_are_heads(step, go):
    if CHAIN[step.name][3] > 1:
        refused(go(step, "--n-embd", 33), "n-embd", "n-head")


def test_a_device_that_is_not_there(go):
    for device in ("cuda", "mps"):
        if not getattr(torch, device).is_available():
            refused(go("train-2.py", "--device", device), "--device", device)


def test_sizes_that_fit_in_no_memory(go):
    huge = str(2**31 - 1)  # more than any machine has, so that it fails at once
    for argv in (
        ["--n-embd", str(10**6)],
        ["--steps", huge, "--batch-size", str(2**20)],
        ["--steps", huge, "--batch-size", huge],
    ):
        done = go("train-2.py", *argv)
        assert done.status in (1, 2)
        line = common.one_error(done.err)
        assert "memory" in line or "large" in line or "size" in line
        assert not done.table.exists() or done.table.read_bytes() == b""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't "
            "allocate memory: you tried to allocate 68719476736 bytes. Error code 12\nmore"
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore"),
    ],
)
def test_memory_that_runs_out(error, go, monkeypatch):
    """MemoryError has no text as a rule."""
    module = load("train-2-baseline.py")

    def fail(*args, **keywords):
        raise error

    monkeypatch.setattr(module, "masked_loss", fail)
    refused(go(module), "memory", status=1)


def test_a_bug_keeps_its_traceback(go, monkeypatch):
    module = load("train-2-baseline.py")

    def fail(*args, **keywords):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(module, "masked_loss", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        go(module)


# Data

DATA = {
    "empty": (b"", "small.txt 0 few"),
    "blank lines only": (b"\n \n\t\r\n\n", "small.txt 0 few"),
    "a byte-order mark only": (b"\xef\xbb\xbf", "small.txt 0 few"),
    "one line": (b"anna\n", "small.txt 1 few"),
    "Latin-1": ("zoë\nåsa\n".encode("latin-1"), "small.txt UTF-8"),
    "UTF-16": ("anna\nbea\n".encode("utf-16"), "small.txt UTF-8"),
    "cut within a character": ("anna\nzoë".encode()[:-1], "small.txt UTF-8"),
    "a lone surrogate": (b"anna\nb\xed\xa0\x80b\n", "small.txt UTF-8"),
    "gzip": (b"\x1f\x8b\x08\x00\xff\xfe", "small.txt UTF-8"),
    "one line too long": (b"anna\n" * 10 + b"x" * 100_000 + b"\n", "small.txt 100,?000 long"),
    "many lines and one rather long": (
        b"anna\n" * 50_000 + b"x" * 3_000 + b"\n",
        "small.txt 3,?000 long",
    ),
    "no line ends": (b"anna bea " * 20_000, "small.txt long|few"),
}


@pytest.mark.parametrize("blob, words", DATA.values(), ids=DATA)
def test_bad_data(blob, words, go, names):
    names.write_bytes(blob)
    done = go("train-2-baseline.py")
    refused(done, *words.split())
    assert not done.results.exists()


def test_data_that_is_missing_or_a_folder_or_below_a_file(go, tmp_path, names):
    for path in (tmp_path / "nothing.txt", tmp_path, names / "below.txt"):
        refused(go("train-2-baseline.py", data=path), path.name, "UTF-8 text, one item a line")


def test_a_data_file_whose_name_is_not_utf_8(go, tmp_path, names):
    """Such names exist on Linux; Python holds them with surrogates, which no UTF-8 output takes as they are."""
    path = os.fsencode(tmp_path) + b"/n\xff.txt"
    try:
        with open(path, "wb") as file:
            file.write(names.read_bytes())
    except OSError:
        pytest.skip("not on this file system")
    done = go("train-2-baseline.py", data=os.fsdecode(path))
    assert (done.status, done.err) == (0, "")
    assert len(common.read_table(done.table)) == 1


# Results


@pytest.mark.parametrize("inside", [False, True])
def test_a_results_folder_that_is_a_file(inside, go, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = go("train-2-baseline.py", results="file/results" if inside else "file")
    refused(done, "file|directory", "--results-dir")
    assert (tmp_path / "file").read_text() == "in the way"
    quiet = go("train-2-baseline.py", "--no-record", results="file")
    assert (quiet.status, quiet.err) == (0, "")


def test_a_table_that_is_a_folder(go, tmp_path):
    (tmp_path / "results" / "results.csv").mkdir(parents=True)
    refused(go("train-2-baseline.py"), "results.csv")


def unprivileged():
    """What to put before a command so that folder permissions count for it: nothing, unless this is root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("POSIX only")
    if os.geteuid():
        return []
    prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    if (
        not shutil.which("setpriv")
        or subprocess.run([*prefix, "true"], capture_output=True).returncode
    ):
        pytest.skip("nothing is closed to root")
    return prefix


@pytest.mark.parametrize(
    "closed", [["."], ["curves", "checkpoints"]], ids=["all", "curves and checkpoints"]
)
def test_a_results_folder_that_is_not_writable(closed, names, tmp_path):
    """Refused before training; or, where the table can take the row, only noted."""
    results = tmp_path / "results"
    for folder in closed:
        (results / folder).mkdir(parents=True)
    for folder in closed:
        os.chmod(results / folder, 0o500 if folder == "." else 0)
    argv = [
        *unprivileged(),
        *common.command("train-2-baseline.py", *SMALL, "--data", names, "--results-dir", results),
    ]
    done = subprocess.run(argv, capture_output=True, text=True)
    for folder in closed:
        os.chmod(results / folder, 0o700)
    if closed == ["."]:
        line = common.one_error(done.stderr)
        assert (
            done.returncode == 2
            and "results.csv" in line
            and "Permission denied" in line
            and "--results-dir" in line
        )
        assert done.stdout == "" and list(results.iterdir()) == []
    else:
        assert (done.returncode, done.stderr) == (0, "")
        for folder in closed:
            assert f"note: cannot write {results / folder}" in done.stdout
        assert len(common.read_table(results / "results.csv")) == 1


# Not finite


@pytest.mark.parametrize("name", ["train-2-baseline.py", "train-2-2head-4layer.py", "train-2.py"])
def test_a_loss_that_is_not_finite_ends_the_run(name, go):
    """Within an evaluation interval; weights of 1e30 overflow in the next step."""
    done = go(name, *LONG, "--steps", 9, "--learning-rate", 1e30, small=False)
    refused(done, "not finite", r"step \d", "--learning-rate", status=1)
    step = int(re.search(r"step ([\d,]+)", done.err)[1])
    assert step <= 6 and step % 3 == 0
    assert done.table.read_bytes() == b"" and not list(done.results.glob("curves/*"))
    assert done.out.count("\nstep ") == step // 3  # nothing was evaluated after it


def test_a_loss_that_becomes_not_finite_at_the_very_end(go, monkeypatch):
    """In the last update, which no training loss sees."""
    done = go("train-2.py", "--steps", 1, "--learning-rate", 1e38, small=False)
    refused(done, "not finite", "step 1", status=1)
    assert done.table.read_bytes() == b"" and not list(done.results.glob("curves/*"))
    done = go("train-2.py", "--steps", 1, "--learning-rate", 1e38, "--resume", small=False)
    assert done.status == 1 and done.table.read_bytes() == b""


def test_debug_names_the_operation(go):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns with the place in the forward pass
        done = go("train-2.py", *LONG, "--learning-rate", 1e30, "--debug", small=False)
    refused(done, r"\w+Backward\d*", "nan", status=1)
    assert done.table.read_bytes() == b""


# Interrupted runs


def interrupt(module, patch, at, number=signal.SIGINT):
    """The signal arrives while the run computes step `at`."""
    signal.signal(number, lambda *args: pytest.fail("the run does not listen to this signal"))
    rate = module.learning_rate
    patch.setattr(
        module,
        "learning_rate",
        lambda step, config: (
            os.kill(os.getpid(), number) if step == at else None,
            rate(step, config),
        )[1],
    )


@pytest.fixture
def interrupted(go, monkeypatch):
    """A run that a signal interrupts at a step."""

    def run(script, at, *argv, number=signal.SIGINT, **options):
        module = load(script) if isinstance(script, (str, os.PathLike)) else script
        with monkeypatch.context() as patch:
            interrupt(module, patch, at, number)
            done = go(module, *LONG, *argv, small=False, **options)
        assert done.status == 128 + number
        refused(
            done,
            f"step {at + 1}\\b",
            "--resume" if "--no-record" not in argv else "saved",
            status=128 + number,
        )
        return done

    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("at", [0, 1, 2, 3, 5, 8, 10])
def test_an_interrupted_run_goes_on(at, number, go, interrupted, tmp_path):
    """At whatever step, on an evaluation or between two: weights, curve and row of the run that was not interrupted."""
    argv = ["--dropout", 0.2, "--grad-clip", 0.5, "--lr-decay-to", 0.1, "--weight-decay", 0.1]
    done = interrupted("train-2.py", at, *argv, number=number)
    assert done.table.read_bytes() == b"" and not list(done.results.glob("curves/*"))
    state = common.checkpoint(done.results)
    assert state["step"] == at + 1
    resumed = go("train-2.py", *LONG, *argv, "--resume", small=False)
    twin = go("train-2.py", *LONG, *argv, small=False, results="twin")
    assert (resumed.status, resumed.err, twin.status) == (0, "", 0)
    common.assert_twins(done.results, twin.results)
    lines = lambda text: re.findall(r"^step .*?  test [\d.]+", text, flags=re.M)
    assert len(lines(twin.out)) == 4
    both = lines(done.out) + lines(resumed.out)
    assert sorted(set(both)) == sorted(lines(twin.out)) and len(both) - len(set(both)) <= 1
    assert set(re.findall(r"ten names.*", resumed.out)) == set(re.findall(r"ten names.*", twin.out))


def test_every_step_of_the_chain_goes_on(step, go, interrupted):
    interrupted(step, 6)
    assert go(step, *LONG, "--resume", small=False).status == 0
    twin = go(step, *LONG, small=False, results="twin")
    common.assert_twins(twin.results.parent / "results", twin.results)


def test_a_run_may_be_interrupted_again_and_again(go, interrupted):
    argv = ["--dropout", 0.5]
    for at, more in ((1, []), (4, ["--resume"]), (5, ["--resume"]), (9, ["--resume"])):
        done = interrupted("train-2.py", at, *argv, *more)
        assert common.checkpoint(done.results)["step"] == at + 1
    go("train-2.py", *LONG, *argv, "--resume", small=False)
    common.assert_twins(
        done.results, go("train-2.py", *LONG, *argv, small=False, results="twin").results
    )


def test_a_signal_during_the_last_step_ends_a_finished_run(go, monkeypatch):
    """All steps are done: the run may say so and end, or be recorded; either way --resume ends with the one row."""
    module = load("train-2-baseline.py")
    with monkeypatch.context() as patch:
        interrupt(module, patch, 11)
        done = go(module, *LONG, small=False)
    assert done.status in (0, 130)
    assert go(module, *LONG, "--resume", small=False).status == 0
    common.assert_twins(done.results, go(module, *LONG, small=False, results="twin").results)


def test_a_signal_before_training_is_heeded(go, names, monkeypatch):
    """While the data loads."""
    module = load("train-2-baseline.py")
    load_data = module.load_data
    with monkeypatch.context() as patch:
        patch.setattr(
            module,
            "load_data",
            lambda *a, **k: (os.kill(os.getpid(), signal.SIGINT), load_data(*a, **k))[1],
        )
        done = go(module, *LONG, small=False)
    refused(done, "step 0", status=130)
    assert go(module, *LONG, "--resume", small=False).status == 0
    common.assert_twins(done.results, go(module, *LONG, small=False, results="twin").results)


def test_an_interrupted_run_without_records_saves_nothing(go, interrupted):
    done = interrupted("train-2-baseline.py", 4, "--no-record")
    assert not done.results.exists()


def test_a_second_signal_ends_at_once(tmp_path, names):
    """Even when the loop never looks at the first one."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import common, os, signal\n"
        f"module = common.load('train-2-baseline.py')\n"
        f"def stuck(*a, **k):\n"
        f"    os.kill(os.getpid(), signal.SIGINT)\n    print('first', flush=True)\n"
        f"    os.kill(os.getpid(), signal.SIGINT)\n    print('second', flush=True)\n"
        f"module.load_data = stuck\n"
        f"module.main(['--results-dir', {str(tmp_path / 'r')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "first\n", "")


def resume(go, script="train-2-baseline.py", *argv, **options):
    return go(script, *LONG, "--resume", *argv, small=False, **options)


def test_resume_without_a_checkpoint(go):
    refused(resume(go), "resume", r"seed\d.*\.pt")


class Payload:
    """What a checkpoint could do to whoever loads it as a pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        "half",
        "empty",
        "garbage",
        "text",
        "another pickle",
        "a tensor",
        "a list",
        "weights alone",
        "a folder",
        "code",
    ],
)
def test_resume_with_a_damaged_checkpoint(damage, go, interrupted, tmp_path):
    done = interrupted("train-2-baseline.py", 4)
    (path,) = done.results.glob("checkpoints/*.pt")
    blob = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(blob[:-100])
    if damage == "half":
        path.write_bytes(blob[: len(blob) // 2])
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "garbage":
        path.write_bytes(random.Random(0).randbytes(5000))
    if damage == "text":
        path.write_text("no checkpoint")
    if damage == "another pickle":
        path.write_bytes(pickle.dumps({"step": 4, "curve": [1, 2]}))
    if damage == "a tensor":
        torch.save(torch.zeros(3), path)
    if damage == "a list":
        torch.save([1, 2, 3], path)
    if damage == "weights alone":
        torch.save({"model": {"weight": torch.zeros(3)}, "step": 4}, path)
    if damage == "a folder":
        path.mkdir()
    if damage == "code":
        torch.save({"step": Payload(str(tmp_path / "it ran"))}, path)
    before = path.is_dir() or path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = resume(go)
    refused(again, "resume", r"seed\d.*\.pt")
    assert not (tmp_path / "it ran").exists()
    assert done.table.read_bytes() == b"" and before == (path.is_dir() or path.read_bytes())


def test_resume_with_other_settings(go, interrupted):
    done = interrupted("train-2-baseline.py", 4)
    refused(resume(go, "train-2-baseline.py", "--threads", 2), "threads", "1", "2")
    refused(resume(go, "train-2-baseline.py", "--seed", 1), "resume", r"seed\d.*\.pt")
    refused(resume(go, "train-2-baseline.py", "--learning-rate", 0.01), "resume", r"seed\d.*\.pt")
    # and a checkpoint that was moved to the name of another run says in what it differs
    other = interrupted(
        "train-2-baseline.py", 4, "--learning-rate", 0.01, "--seed", 1, results="other"
    )
    (source,) = done.results.glob("checkpoints/*.pt")
    (target,) = other.results.glob("checkpoints/*.pt")
    target.write_bytes(source.read_bytes())
    refused(
        resume(go, "train-2-baseline.py", "--learning-rate", 0.01, "--seed", 1, results="other"),
        "learning_rate.*0.001.*0.01",
        "seed",
    )


def test_resume_with_the_checkpoint_of_another_script(go, interrupted):
    one, other = (
        interrupted(script, 4, results=script)
        for script in ("train-2-2head-4layer-mlp-ln.py", "train-2-2head-4layer.py")
    )
    (source,) = one.results.glob("checkpoints/*.pt")
    (target,) = other.results.glob("checkpoints/*.pt")
    target.write_bytes(source.read_bytes())
    refused(
        resume(go, "train-2-2head-4layer.py", results="train-2-2head-4layer.py"),
        "script",
        "train-2-2head-4layer-mlp-ln.py",
    )


def test_resume_with_other_data(go, interrupted, names):
    interrupted("train-2-baseline.py", 4)
    names.write_bytes(names.read_bytes() + b"anna\n")  # the same characters, and as long
    refused(resume(go), "data_hash|the data|data (file|was|differ)")


def test_resume_with_another_source(go, tmp_path, interrupted):
    script = tmp_path / "train-2-mine.py"
    source = (ROOT / "train-2.py").read_text("utf-8")
    script.write_text(source, "utf-8")
    interrupted(load(script), 4)
    script.write_text(source.replace("F.gelu(", "F.relu("), "utf-8")
    refused(resume(go, load(script, fresh=True)), "source")
    script.write_text(source.replace("F.gelu(", "F.gelu( # as it was\n"), "utf-8")
    assert resume(go, load(script, fresh=True)).status == 0


def test_resuming_a_finished_run_adds_no_second_row(go):
    done = go("train-2.py", *LONG, small=False)
    before = (
        done.table.read_bytes(),
        {path: path.read_bytes() for path in done.results.glob("curves/*")},
    )
    state = common.checkpoint(done.results)
    for _ in range(2):
        again = resume(go, "train-2.py")
        assert (again.status, again.err) == (0, "")
        assert before == (
            done.table.read_bytes(),
            {path: path.read_bytes() for path in done.results.glob("curves/*")},
        )
        assert common.same(common.checkpoint(done.results), state)


def test_a_finished_run_whose_row_is_lost_can_be_recorded(go):
    """Killed after the last step, before the row was written."""
    done = go("train-2.py", *LONG, small=False)
    row = common.read_table(done.table)
    done.table.unlink()
    assert resume(go, "train-2.py").status == 0
    assert common.read_table(done.table) == row


# In processes of their own: one for every kind of exit


def test_status_2(tmp_path, names):
    process = common.start(
        "train-2.py", "--n-head", 5, "--data", names, "--results-dir", tmp_path / "r"
    )
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "") and "n-head" in common.one_error(err)
    assert not (tmp_path / "r").exists()


def test_status_1(tmp_path, names):
    process = common.start(
        "train-2-2head-4layer-mlp.py",
        *LONG,
        "--learning-rate",
        "1e30",
        "--data",
        names,
        "--results-dir",
        tmp_path / "r",
    )
    out, err = process.communicate()
    assert process.returncode == 1 and "not finite" in common.one_error(err)


@pytest.mark.parametrize(
    "number, name, knobs",
    [
        (signal.SIGINT, "train-2.py", ["--dropout", 0.1, "--n-layer", 1]),
        (signal.SIGTERM, "train-2-2head.py", []),
    ],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_from_outside(number, name, knobs, go, tmp_path, names):
    """As soon as the second line of progress is there."""
    argv = ["--steps", 600, "--eval-interval", 20, "--batch-size", 2, *knobs]
    process = common.start(name, *argv, "--data", names, "--results-dir", tmp_path / "results")
    lines = [process.stdout.readline() for _ in range(3)]
    process.send_signal(number)
    out, err = process.communicate()
    assert [line.split()[:2] for line in lines[1:]] == [["step", "0"], ["step", "20"]]
    assert process.returncode == 128 + number
    line = common.one_error(err)
    step = int(re.search(r"step (\d+)", line)[1])
    assert 20 <= step < 600 and "--resume" in line
    assert common.checkpoint(tmp_path / "results")["step"] == step
    assert go(name, *argv, "--resume", small=False).status == 0
    twin = go(name, *argv, small=False, results="twin")
    common.assert_twins(tmp_path / "results", twin.results)


def test_standard_output_closed_early(go, tmp_path, names):
    """`| head -1`: training goes on and is recorded."""
    process = common.start(
        "train-2-baseline.py", *LONG, "--data", names, "--results-dir", tmp_path / "results"
    )
    assert "small.txt" in process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert (process.wait(), err) == (0, "")
    common.assert_twins(
        tmp_path / "results", go("train-2-baseline.py", *LONG, small=False, results="twin").results
    )


@pytest.mark.parametrize("kind", ["closed", "full"])
def test_standard_output_that_takes_nothing(kind, tmp_path, names):
    """`>&-`, or a log on a full disk."""
    if kind == "full" and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    redirect = ">&-" if kind == "closed" else ">/dev/full"
    line = " ".join(
        map(
            str,
            common.command(
                "train-2-baseline.py", *LONG, "--data", names, "--results-dir", tmp_path / "results"
            ),
        )
    )
    done = subprocess.run(["sh", "-c", f"{line} {redirect}"], stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in done.stderr
    assert (
        len(common.read_table(tmp_path / "results" / "results.csv")) == 1 and done.returncode == 0
    )


# Killed


def test_killed_at_random_moments(go, tmp_path, names):
    """SIGKILL: table and last checkpoint stay valid, and the resumed run equals its twin. STRESS=N for more."""
    rounds = int(os.environ.get("STRESS", 3))
    rng = random.Random(os.environ.get("SEED", 0))
    argv = [
        "--steps",
        60,
        "--eval-interval",
        2,
        "--batch-size",
        4,
        "--dropout",
        0.1,
        "--n-layer",
        1,
    ]
    twin = go("train-2.py", *argv, small=False, results="twin")
    assert twin.status == 0
    for number in range(rounds):
        results = tmp_path / f"results{number}"
        for life in range(rng.choice([1, 2])):
            again = ["--resume"] if life and list(results.glob("checkpoints/*.pt")) else []
            process = common.start(
                "train-2.py", *argv, *again, "--data", names, "--results-dir", results
            )
            lines = rng.choice([0, 1, 2, 8, 20, 28, 31, 40])
            for _ in range(lines):
                if not process.stdout.readline():
                    break
            try:  # then somewhere within the next interval
                process.wait(rng.random() * (0.02 if lines else 2.5))
            except subprocess.TimeoutExpired:
                pass
            process.kill()
            out, err = process.communicate()
            assert err == "" and process.returncode in (0, -signal.SIGKILL)
            if (results / "results.csv").exists() and (results / "results.csv").stat().st_size:
                assert len(common.read_table(results / "results.csv")) == 1
            if list(results.glob("checkpoints/*.pt")):
                assert common.checkpoint(results)["step"] <= 60
        again = ["--resume"] if list(results.glob("checkpoints/*.pt")) else []
        done = go("train-2.py", *argv, *again, small=False, results=results.name)
        assert (done.status, done.err) == (0, "")
        common.assert_twins(results, twin.results)
