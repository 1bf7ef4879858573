"""Runs that are stopped or killed go on as if nothing had happened, and overwrite nothing else."""

import io
import re
import shutil
import sys
import time
from pathlib import Path

import common
import pytest
import torch
from common import ROOT, load

LAST = "train-2.py"
LONG = "--steps 12 --eval-interval 3 --n-layer 1 --lr-decay-to 0.1 --dropout 0.2".split()


@pytest.fixture
def stopped(go, tmp_path, monkeypatch):
    """A run that ends while it computes step `at`, counted from 0: its results folder."""

    def run(at, *argv, script=LAST, results="results"):
        module = load(script)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            common.stop_at(module, at, patch)
            go(module, *LONG, *argv, results=results)
        return tmp_path / results

    return run


def resume(go, *argv, script=LAST):
    return go(script, *LONG, "--resume", *argv)


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
    return lambda *argv: go(LAST, *LONG, *argv, results="twin").results


@pytest.mark.parametrize("at", [2, 8])
def test_a_stopped_run_goes_on(at, go, stopped, twin):
    """From its last evaluation, if any, to the row and weights of a run that was not stopped."""
    results = stopped(at)
    assert common.read_table(results / "results.csv") == []
    assert len(list((results / "checkpoints").iterdir())) == (at > 2)
    done = resume(go)
    assert steps(done) == [*range(at // 3 * 3 + 3, 13, 3)] and "note: threads" not in done.out
    common.assert_twins(results, twin())


def test_resuming_a_finished_run_adds_no_second_row(go, monkeypatch):
    """Whenever that is."""
    done = go(LAST, *LONG)
    before = common.tree(done.results)
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2099, 1, 1, 0, 0, 0, 0, 1, 0)))
    again = resume(go)
    assert steps(again) == [] and "ten samples" in again.out
    assert common.tree(done.results) == before


def test_where_there_is_no_checkpoint_resume_starts_anew(go):
    assert steps(resume(go)) == [3, 6, 9, 12]


def refuse(go, results, *words, script=LAST):
    """--resume stops with one line that has these words, and everything stays as it is."""
    before = common.tree(results)
    done = resume(go, script=script)
    message = common.one_error(done.err)
    assert done.status == 1 and "without --resume" in message and str(saved(results)) in message
    assert all(word in message for word in words), message
    assert "\nstep " not in done.out and common.tree(results) == before


def test_the_checkpoint_of_a_changed_script_is_not_overwritten(go, stopped, tmp_path):
    """A changed comment does no harm; changed code or another default does."""
    script = tmp_path / "train-2-mine.py"
    text = (ROOT / LAST).read_text("utf-8")

    def edited(old, new):
        assert text.count(old) == 1
        script.write_text(text.replace(old, new), "utf-8")
        return load(script, fresh=True)

    script.write_text(text, "utf-8")
    results = stopped(7, script=script)
    source = edited("min(481, max", "min(480, max")
    refuse(go, results, "different", "source", script=source)
    default = edited("warmup_steps: int = option(0", "warmup_steps: int = option(7")
    refuse(go, results, "different", "warmup_steps", script=default)
    comment = edited("# --- Model ---\n", "# --- Model ---\n# A comment.\n")
    assert steps(resume(go, script=comment)) == [9, 12]


OTHERS = {  # whose checkpoint lies where this run's would
    "preset": ["--preset", "64x4"],
    "seed": ["--seed", 1],
    "data_hash": ["--data", "other.txt"],
}


@pytest.mark.parametrize("word", OTHERS)
def test_the_checkpoint_of_another_run_is_not_overwritten(
    word, go, stopped, names, tmp_path, monkeypatch
):
    """Other data: the same characters, and the longest as long, one name more."""
    monkeypatch.chdir(tmp_path)
    Path("other.txt").write_bytes(names.read_bytes() + b"anna\n")
    other, results = saved(stopped(3, *OTHERS[word], results="other")), stopped(3)
    other.replace(saved(results))
    refuse(go, results, "different", word)


def test_a_checkpoint_that_cannot_be_read_is_not_overwritten(go, stopped):
    """Only a run that starts over replaces it, at its first evaluation."""
    results = stopped(3)
    torch.save({"step": 3}, saved(results))  # it is of something else
    refuse(go, results, "cannot read")
    saved(results).write_bytes(saved(results).read_bytes()[:-1000])
    refuse(go, results, "cannot read")
    before = saved(results).read_bytes()
    stopped(2)
    assert saved(results).read_bytes() == before
    assert steps(go(LAST, *LONG)) == [3, 6, 9, 12]


@pytest.mark.parametrize("what", ["torch", "data", "threads"])
def test_another_machine_or_path_goes_on(what, go, stopped, names, tmp_path, twin, monkeypatch):
    """With a note where the last digits may differ; here they do not."""
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    moved = tmp_path / "elsewhere" / names.name
    moved.parent.mkdir()
    shutil.copy(names, moved)
    argv = {"data": ["--data", moved], "threads": ["--threads=2"]}.get(what, [])
    results = stopped(7)
    if what == "torch":
        state = torch.load(saved(results), weights_only=True)
        state["run"] |= {"torch": "another", "device": "cpu (another)"}
        torch.save(state, saved(results))
    done = resume(go, *argv)
    assert steps(done) == [9, 12] and ("note: threads, machine" in done.out) == (what != "data")
    common.assert_twins(results, twin(*argv))


def test_ctrl_c_is_one_line_that_says_how_to_go_on(go, twin, monkeypatch):
    """And the run goes on from its last checkpoint."""

    class Terminal(io.StringIO):
        def write(self, text):
            if text.startswith("step      6"):
                raise KeyboardInterrupt  # whenever it comes
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", Terminal())
    done = go(LAST, *LONG, shell=True)
    monkeypatch.undo()
    (message,) = done.err.splitlines()
    assert done.status == 1 and "--resume" in message
    assert common.read_table(done.table) == []
    assert steps(resume(go)) == [6, 9, 12]
    common.assert_twins(done.results, twin())
