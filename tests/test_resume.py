"""Runs that are stopped or killed go on as if nothing had happened, and overwrite nothing else."""

import re
import shutil
import signal
import time
from pathlib import Path

import common
import pytest
import torch
from common import ROOT, load

LONG = "--steps 12 --eval-interval 3 --batch-size 8 --device cpu --n-layer 1".split()
LONG += "--dropout 0.2 --lr-decay-to 0.1".split()  # what the order of random numbers shows in


class Stopped(Exception):
    """What a test stops a run with."""


@pytest.fixture
def stopped(go, tmp_path, monkeypatch):
    """A run that ends while it computes step `at`, counted from 0: its results folder."""

    def run(at, *argv, script="train-2.py", results="results", **options):
        module = load(script)
        rate = module.learning_rate

        def learning_rate(step, config):
            if step == at:
                raise Stopped
            return rate(step, config)

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(module, "learning_rate", learning_rate)
            go(module, *LONG, *argv, small=False, results=results, **options)
        return tmp_path / results

    return run


def resume(go, *argv, script="train-2.py", **options):
    return go(script, *LONG, "--resume", *argv, small=False, **options)


def steps(done):
    """Where a run that did not fail was evaluated."""
    assert (done.status, done.err) == (0, "")
    return [int(step) for step in re.findall(r"^step +(\d+)", done.out, re.M)]


def saved(results):
    """The checkpoint's path; the temporary one of a run that was stopped may be beside it."""
    (path,) = Path(results).glob("checkpoints/*.pt")
    return path


@pytest.fixture
def twin(go):
    """The results of the same run, not interrupted."""
    return lambda *argv: go("train-2.py", *LONG, *argv, small=False, results="twin").results


@pytest.mark.parametrize("at", [3, 8, 11])
def test_a_stopped_run_goes_on(at, go, stopped, twin):
    """From its last evaluation to the row and weights of a run that was not stopped."""
    results = stopped(at)
    assert common.read_table(results / "results.csv") == []
    done = resume(go)
    assert steps(done) == [*range(at // 3 * 3 + 3, 13, 3)] and "note: threads" not in done.out
    common.assert_twins(results, twin())


def test_where_there_is_no_checkpoint_it_starts(go, stopped, twin):
    """None at all, or none before the first evaluation."""
    assert steps(resume(go, results="new")) == [3, 6, 9, 12]
    results = stopped(2)
    assert list((results / "checkpoints").iterdir()) == []
    assert steps(resume(go)) == [3, 6, 9, 12]
    common.assert_twins(results, twin())


def test_a_fresh_start_keeps_the_old_checkpoint_until_its_first_evaluation(go, stopped, twin):
    results = stopped(7)
    before = saved(results).read_bytes()
    stopped(2)
    assert saved(results).read_bytes() == before
    assert steps(resume(go)) == [9, 12]
    common.assert_twins(results, twin())
    assert steps(go("train-2.py", *LONG, small=False)) == [3, 6, 9, 12]


def test_a_save_that_is_killed_leaves_the_old_checkpoint_whole(go, twin, tmp_path, monkeypatch):
    """Half-way through the file of step 9."""
    write, saves = Path.write_bytes, []

    def write_bytes(path, content):
        saves.extend([path] if ".pt" in path.name else [])
        if len(saves) == 4:  # one before training, then steps 3, 6 and 9
            write(path, content[: len(content) // 2])
            raise Stopped
        return write(path, content)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Path, "write_bytes", write_bytes)
        go("train-2.py", *LONG, small=False)
    results = tmp_path / "results"
    saves.pop().unlink()  # what was half-written is left over
    assert common.checkpoint(results)["step"] == 6
    assert steps(resume(go)) == [9, 12]
    common.assert_twins(results, twin())


def test_resuming_a_finished_run_adds_no_second_row(go, monkeypatch):
    """Later, too; where the table lacks the row, it is added."""
    done = go("train-2.py", *LONG, small=False)
    before, rows = common.tree(done.results), common.read_table(done.table)
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2099, 1, 1, 0, 0, 0, 0, 1, 0)))
    again = resume(go)
    assert steps(again) == [] and "ten samples" in again.out
    assert common.tree(done.results) == before
    done.table.unlink()
    assert steps(resume(go)) == [] and common.read_table(done.table) == rows
    assert steps(resume(go, "--seed=1")) == [3, 6, 9, 12]  # another run adds its own
    assert len(common.read_table(done.table)) == 2


def refuse(go, results, *words, **options):
    """--resume stops in a line with these words, and everything stays as it is."""
    before = common.tree(results)
    done = resume(go, results=results.name, **options)
    message = common.one_error(done.err)
    assert done.status == 1 and "without --resume" in message and str(saved(results)) in message
    assert all(word in message for word in words), message
    assert "\nstep " not in done.out and common.tree(results) == before


EDITS = {  # what is edited in the script, into what, and what is then said to differ
    "source": ("min(481, max", "min(480, max"),
    "n_embd": ("n_embd: int = option(32", "n_embd: int = option(24"),
    "warmup_steps": ("warmup_steps: int = option(0", "warmup_steps: int = option(7"),
}


@pytest.mark.parametrize("word", EDITS)
def test_the_checkpoint_of_another_script_is_not_overwritten(word, go, stopped, tmp_path):
    """A comment does no harm, a change of the code or of a default does, also when finished."""
    script = tmp_path / "train-2-mine.py"
    text = (ROOT / "train-2.py").read_text("utf-8")
    script.write_text(text, "utf-8")
    results = stopped(7, script=load(script).__file__)
    old, new = EDITS[word]
    assert text.count(old) == 1
    script.write_text(text.replace(old, new), "utf-8")
    refuse(go, results, "different", word, script=load(script, fresh=True))
    script.write_text(text.replace("# --- Model ---\n", "# --- Model ---\n# A comment.\n"), "utf-8")
    assert steps(resume(go, script=load(script, fresh=True))) == [9, 12]
    script.write_text(text.replace(old, new), "utf-8")
    refuse(go, results, "different", word, script=load(script, fresh=True))


OTHERS = {  # whose checkpoint lies where this run's would
    "learning_rate": ("train-2.py", ["--learning-rate", 0.01]),
    "preset": ("train-2.py", ["--preset", "64x4"]),
    "seed": ("train-2.py", ["--seed", 1]),
    "data_hash": ("train-2.py", ["--data", "other.txt"]),
}


@pytest.mark.parametrize("word", OTHERS)
def test_the_checkpoint_of_another_run_is_not_overwritten(
    word, go, stopped, names, tmp_path, monkeypatch
):
    """Other data: the same characters, and the longest as long, one name more."""
    monkeypatch.chdir(tmp_path)
    Path("other.txt").write_bytes(names.read_bytes() + b"anna\n")
    script, argv = OTHERS[word]
    other, results = saved(stopped(7, *argv, script=script, results="other")), stopped(7)
    other.replace(saved(results))
    refuse(go, results, "different", word)


DAMAGED = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "garbage": lambda path: path.write_bytes(b"garbage" * 1000),
    "of something else": lambda path: torch.save([1, 2], path),
    "of another format": lambda path: torch.save({"step": 3, "model": {}}, path),
    "of another program": lambda path: torch.save({"run": {"script": "x"}, "step": 3}, path),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_checkpoint_that_cannot_be_read_is_not_overwritten(damage, go, stopped):
    results = stopped(7)
    damage(saved(results))
    refuse(go, results, "cannot read")


@pytest.mark.parametrize("what", ["torch", "device", "data", "threads"])
def test_another_machine_or_path_goes_on(what, go, stopped, names, tmp_path, twin, monkeypatch):
    """With a note where the last digits may differ; here they do not."""
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    moved = tmp_path / "moved.txt"
    shutil.copy(names, moved)
    argv = {"data": ["--data", moved], "threads": ["--threads=2"]}.get(what, [])
    results = stopped(7)
    if what in ("torch", "device"):
        state = torch.load(saved(results), weights_only=True)
        state["run"][what] = "another"
        torch.save(state, saved(results))
    done = resume(go, *argv)
    assert steps(done) == [9, 12] and ("note: threads, machine" in done.out) == (what != "data")
    common.assert_twins(results, twin(*argv))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_ended_goes_on(end, go, tmp_path, names, twin):
    """As users see it, from another folder: Ctrl-C is one line that says how to go on."""
    long = ["--steps", 300, "--eval-interval", 6, "--batch-size", 2, "--n-layer", 1, "--dropout=.2"]
    argv = [*long, "--device", "cpu", "--data", names.name, "--results-dir", "results"]
    process = common.start("train-2.py", *argv, cwd=tmp_path)
    while not (line := process.stdout.readline()).startswith("step     12 "):
        assert line
    process.send_signal(end)
    out, err = process.communicate()
    assert "ten samples" not in out
    if end == signal.SIGINT:
        assert process.returncode == 1 and len(err.splitlines()) == 1 and "--resume" in err
    assert torch.load(saved(tmp_path / "results"), weights_only=True)["step"] % 6 == 0
    done = go("train-2.py", *long, "--resume", small=False)
    assert 0 < len(steps(done)) < 50
    twin = go("train-2.py", *long, small=False, results="twin")
    common.assert_twins(done.results, twin.results)
