"""Runs that are interrupted or killed go on as if nothing had happened."""

import os
import random
import re
import signal
import subprocess

import common
import pytest
import torch
from common import ROOT, load

LONG = ["--steps", 12, "--eval-interval", 3, "--batch-size", 8]
RANDOM = ["--dropout", 0.2, "--lr-decay-to", 0.1]  # what the order of random numbers shows in


def saved(results):
    (path,) = results.glob("checkpoints/*.pt")
    return path


def anew(done):
    """The line that says why a run started from the beginning, which must be one."""
    lines = [line for line in done.out.splitlines() if "checkpoint" in line]
    assert len(lines) == 1 and lines[0].startswith("note: ") and "anew" in lines[0]
    return lines[0]


@pytest.fixture
def interrupted(go, monkeypatch):
    """A run that receives Ctrl-C while it computes step `at`, counted from 0."""

    def run(script, at, *argv, **options):
        module = load(script) if isinstance(script, str) else script
        rate = module.learning_rate

        def learning_rate(step, config):
            if step == at:
                os.kill(os.getpid(), signal.SIGINT)
            return rate(step, config)

        with monkeypatch.context() as patch:
            patch.setattr(module, "learning_rate", learning_rate)
            done = go(module, *LONG, *argv, small=False, **options)
        assert done.status == 130
        return done

    return run


def resume(go, script="train-2.py", *argv, **options):
    done = go(script, *LONG, *argv, "--resume", small=False, **options)
    assert (done.status, done.err) == (0, "")
    return done


@pytest.mark.parametrize("at", [3, 5, 8, 11])
def test_an_interrupted_run_goes_on(at, go, interrupted):
    """From its last evaluation to the row, curve and weights of a run that was not interrupted."""
    done = interrupted("train-2.py", at, *RANDOM)
    assert "--resume" in common.one_error(done.err)
    assert not done.table.exists()
    assert common.checkpoint(done.results)["step"] == at // 3 * 3
    resumed = resume(go, "train-2.py", *RANDOM)
    assert "checkpoint" not in resumed.out
    steps = re.findall(r"^step +(\d+)", resumed.out, re.M)
    assert steps == [str(step) for step in range(at // 3 * 3 + 3, 13, 3)]
    twin = go("train-2.py", *LONG, *RANDOM, small=False, results="twin")
    common.assert_twins(done.results, twin.results)


def test_every_script_goes_on(script, go, interrupted):
    module = load(script)
    done = interrupted(module, 7)
    resume(go, module)
    common.assert_twins(done.results, go(module, *LONG, small=False, results="twin").results)


def test_without_resume_a_run_starts_from_the_beginning(go, interrupted):
    interrupted("train-2.py", 7)
    done = go("train-2.py", *LONG, small=False)
    assert len(re.findall("^step ", done.out, re.M)) == 4


def test_before_the_first_evaluation_nothing_is_written(go, interrupted):
    """So --resume says that there is nothing to go on from."""
    assert not interrupted("train-2.py", 2).results.exists()
    done = resume(go)
    assert "there is none" in anew(done)
    assert len(common.read_table(done.table)) == 1


DAMAGED = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "garbage": lambda path: path.write_bytes(b"garbage" * 1000),
    "of something else": lambda path: torch.save([1, 2], path),
    "of another program": lambda path: torch.save({"step": 3, "model": {}}, path),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_checkpoint_is_not_used(damage, go, interrupted):
    done = interrupted("train-2.py", 7)
    path = saved(done.results)
    damage(path)
    again = go("train-2.py", *LONG, "--resume", small=False)
    assert "cannot be read" in anew(again) and str(path) in anew(again)
    if path.is_dir():  # in its place none can be saved: that is said as well
        assert again.status == 1 and common.one_error(again.err)
    else:
        twin = go("train-2.py", *LONG, small=False, results="twin")
        common.assert_twins(done.results, twin.results)


OTHER_RUNS = {  # of whose checkpoint --resume says: it was made with another ...
    "settings": ("train-2.py", ["--learning-rate", 0.01]),
    "preset": ("train-2.py", ["--preset", "64x4"]),
    "script": ("train-2-2head-4layer-mlp-ln-rope.py", []),
}


@pytest.mark.parametrize("word", OTHER_RUNS)
def test_the_checkpoint_of_another_run_is_not_used(word, go, interrupted):
    """Even if it lies where this run's would."""
    script, argv = OTHER_RUNS[word]
    other = saved(interrupted(script, 7, *argv, results="other").results)
    own = interrupted("train-2.py", 7).results
    other.replace(saved(own))
    done = resume(go)
    assert word in anew(done).split("with another")[1]
    twin = go("train-2.py", *LONG, small=False, results="twin")
    common.assert_twins(own, twin.results)


def test_the_checkpoint_of_other_data_is_not_used(go, interrupted, names):
    """The same characters, and the longest as long: one name more."""
    old = saved(interrupted("train-2.py", 7).results)
    names.write_bytes(names.read_bytes() + b"anna\n")
    assert "there is none" in anew(resume(go, results="new"))  # it has another name
    own = interrupted("train-2.py", 7, results="own").results
    old.replace(saved(own))
    assert "data_hash" in anew(resume(go, results="own")).split("with another")[1]


@pytest.mark.parametrize("key", ["torch", "device"])
def test_the_checkpoint_of_another_torch_or_device_is_not_used(key, go, interrupted):
    path = saved(interrupted("train-2.py", 7).results)
    state = torch.load(path, weights_only=True)
    state["run"][key] = "another"
    torch.save(state, path)
    assert key in anew(resume(go)).split("with another")[1]


def test_the_checkpoint_of_another_source_is_not_used(go, interrupted, tmp_path):
    """A comment does no harm, a change of the code does."""
    script = tmp_path / "train-2-mine.py"
    source = (ROOT / "train-2.py").read_text("utf-8")
    script.write_text(source, "utf-8")
    interrupted(load(script), 7)
    script.write_text(source.replace("F.gelu(", "F.relu("), "utf-8")
    assert "source" in anew(resume(go, load(script, fresh=True)))
    interrupted(load(script, fresh=True), 7)
    script.write_text(script.read_text("utf-8").replace("F.relu(", "F.relu(  # ReLU\n"), "utf-8")
    assert "anew" not in resume(go, load(script, fresh=True)).out


def test_resuming_a_finished_run_adds_no_second_row(go):
    done = go("train-2.py", *LONG, small=False)
    before = done.table.read_bytes(), common.checkpoint(done.results)
    again = resume(go)
    assert "step " not in again.out and "ten names" in again.out
    assert common.same(before, (done.table.read_bytes(), common.checkpoint(done.results)))


def test_a_finished_run_whose_row_is_lost_is_recorded_again(go):
    """Killed after the last step, before its row was written."""
    done = go("train-2.py", *LONG, small=False)
    row = common.read_table(done.table)
    done.table.unlink()
    resume(go)
    assert common.read_table(done.table) == row


def test_ctrl_c_at_the_terminal(go, tmp_path, names):
    """One line, status 130, no traceback; what the last evaluation saved is kept."""
    argv = ["--steps", 50_000, "--eval-interval", 20, "--batch-size", 2, "--device", "cpu"]
    process = common.start(
        "train-2-2head.py", *argv, "--data", names, "--results-dir", tmp_path / "results"
    )
    lines = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert lines[-1].startswith("step ") and process.returncode == 130
    assert "--resume" in common.one_error(err)
    step = common.checkpoint(tmp_path / "results")["step"]
    assert 20 <= step < 50_000 and step % 20 == 0
    assert not list((tmp_path / "results").rglob("*.tmp"))


def test_killed_at_random_moments(go, tmp_path, names):
    """Files stay whole, and the resumed run equals its twin. STRESS=30 SEED=1 for other kills."""
    rng = random.Random(os.environ.get("SEED", 0))
    argv = ["--steps", 60, "--eval-interval", 2, "--batch-size", 4, "--n-layer", 1, *RANDOM]
    argv += ["--device", "cpu"]
    twin = go("train-2.py", *argv, small=False, results="twin")
    for number in range(int(os.environ.get("STRESS", 2))):
        results = tmp_path / f"results{number}"
        flags = ["--data", names, "--results-dir", results]
        process = common.start("train-2.py", *argv, "--resume", *flags)
        for _ in range(rng.choice([0, 2, 3, 10, 25, 31, 33])):
            process.stdout.readline()
        try:  # then somewhere in the next interval
            process.wait(rng.random() * 0.02)
        except subprocess.TimeoutExpired:
            process.kill()
        _, err = process.communicate()
        assert err == ""
        for path in results.glob("checkpoints/*.pt"):
            assert torch.load(path, weights_only=True)["step"] % 2 == 0
        if (results / "results.csv").exists():
            assert len(common.read_table(results / "results.csv")) == 1
        done = go("train-2.py", *argv, "--resume", small=False, results=results.name)
        assert (done.status, done.err) == (0, "")
        common.assert_twins(results, twin.results)
