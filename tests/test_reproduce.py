"""results/reproduce.py: what is lacking, and that no failure or interruption loses a run."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import reproduce
import torch
from common import ROOT, tree
from lib import checkpoints
from lib.checkpoints import trained
from lib.command import Failure
from lib.steps import find_steps
from lib.tables import Condition, read_csv
from tools import BASE, COLUMNS, write_stub


@pytest.fixture
def root(tmp_path):
    """A project with a script that has a preset, and an empty table."""
    root = tmp_path / "project"
    write_stub(root, "train-2.py")
    (root / "results").mkdir()
    (root / "results" / "results.csv").write_text(",".join(COLUMNS) + "\n")
    return root


@pytest.fixture
def call(root, capfd):
    """reproduce.py on the project: the lines that it printed."""

    def run(*argv):
        capfd.readouterr()
        reproduce.main(list(argv), root)
        return capfd.readouterr().out.splitlines()

    return run


@pytest.fixture
def plan(call):
    """The runs that are lacking, by a dry run."""

    def run(*argv):
        first, *runs = call("--dry-run", *argv)
        assert first.startswith(f"{len(runs)} runs are lacking")
        return runs

    return run


def calls(root):
    """The command lines that the scripts were run with."""
    path = root / "calls"
    return path.read_text().splitlines() if path.exists() else []


PLAIN, BIG = "train-2-seed0", "train-2@big-seed0"


def test_what_is_lacking_by_names_and_seeds_the_longest_first(root, plan):
    write_stub(root, "train-2-long.py", steps=1000)
    before = tree(root)
    kinds = [f"{x}{preset}" for x in ("train-2-long", "train-2") for preset in ("@big", "")]
    expected = [f"{kind}-seed{seed}" for kind in kinds for seed in (5, 6)]
    assert plan("--seeds", "5-6", *kinds[::-1]) == expected
    assert plan("--seeds", "2") == [f"{x}-seed{seed}" for x in kinds[2:] for seed in (0, 1)]
    assert plan("train-2,n_embd={8,32}") == [PLAIN, "train-2,n_embd=8-seed0"]
    assert plan("train-2.py") == plan("train-2") == [PLAIN], "a name is one step"
    deep = "train-2,n_layer=3-seed0"
    assert plan("train-2@big", "train-2", "train-2,n_layer=3") == [deep, BIG, PLAIN]
    assert tree(root) == before, "a dry run writes and runs nothing"


@pytest.mark.parametrize(
    "argv",
    ["train-9", "train-2@bi", "--seeds=0"]
    + [f"-- {flag}" for flag in ("--results-dir=x", "--seed", "--preset", "--resume")],
)
def test_what_cannot_be_run_is_refused(call, root, argv):
    """Also flags after -- that every run is given anyway."""
    with pytest.raises(Failure, match="is not for the scripts" if " " in argv else None) as failure:
        call(*argv.split())
    assert failure.value.status == 2
    assert not calls(root)


def test_the_canonical_runs_are_made_once_until_their_step_changes(root, call, plan):
    call("--seeds", "2")
    end = f"--device cpu --data {root / 'data' / 'names.txt'} --results-dir {root / 'results'}"
    kinds = "train-2.py --preset big", "train-2.py"
    assert calls(root) == [f"{kind} --seed {seed} {end}" for kind in kinds for seed in (0, 1)]
    assert call("--seeds", "2")[0].startswith("0 runs are lacking")
    assert len(plan("--seeds", "3")) == 2
    script = root / "train-2.py"
    text = script.read_text()
    script.write_text(text.replace("threads: int = 1", "threads: int = 2"))
    assert plan() == []
    script.write_text(text.replace("n_embd: int = 32", "n_embd: int = 48"))
    assert plan() == [PLAIN], "the preset has its own"
    script.write_text(text.replace("the source", "another source"))
    assert plan() == [BIG, PLAIN]


def save(results, run, **changes):
    """A checkpoint of a run; with changes, of something else."""
    made_by = {"script": "train-2", "source": "the source", "settings": run.settings}
    made_by |= {"data_hash": "ab" * 6, "chars": [], "max_len": 1}
    step = changes.pop("step", 2)
    path = results / "checkpoints" / f"{run.name}.pt"
    path.parent.mkdir(exist_ok=True)
    torch.save({"run": made_by | changes, "model": {}, "step": step}, path)
    return path


def test_again_makes_what_the_table_has_where_no_trained_model_is(root, call, plan):
    """The row that is there stays. What `trained` says of a lacking model is such a command."""
    call("train-2")
    table = root / "results" / "results.csv"
    before = table.read_text()
    assert plan("train-2") == [] and plan("--again", "train-2") == [PLAIN]
    call("--again", "train-2")
    assert len(calls(root)) == 2
    assert table.read_text().startswith(before) and table.read_text() != before
    step = find_steps(root)["train-2"]
    save(root / "results", reproduce.Run(step, 0, Condition()))
    assert plan("--again", "train-2") == [PLAIN], "it is unfinished"
    save(root / "results", reproduce.Run(step, 0, Condition()), step=10)
    assert plan("--again", "train-2") == []
    with pytest.raises(Failure) as failure:
        trained(step, 1, root / "results", Condition("--steps", "7"), seeds=3)
    words = str(failure.value).partition("reproduce.py ")[2].split()
    assert plan(*words) == [f"train-2,steps=7-seed{seed}" for seed in range(3)]


def test_what_follows_two_dashes_goes_to_the_scripts(root, call, plan, tmp_path):
    """Runs with them are no runs without them; a script's name is not for its presets."""
    flags = "--", "--steps", "7"
    name = "train-2,steps=7-seed0"
    assert plan(*flags) == plan("train-2", *flags) == [name]
    assert plan("train-2@big", *flags) == ["train-2@big,steps=7-seed0"]
    call(*flags)
    assert calls(root)[0].startswith("train-2.py --seed 0 --steps 7 --device cpu --data ")
    assert (root / "results" / "logs" / f"{name}.log").exists()
    assert plan(*flags) == []
    assert plan() == [BIG, PLAIN]
    towns = tmp_path / "towns.txt"
    towns.write_text("ulm\n")
    call("train-2", "--", "--data", str(towns))
    assert calls(root)[1].endswith(f"--data {towns} --results-dir {root / 'results'}")


@pytest.mark.parametrize(
    "changes, same",
    [
        ({}, True),
        ({"settings": {"threads": 2}}, True),
        ({"settings": {"n_embd": 32}}, False),
        ({"source": "another source"}, False),
        ({"data_hash": "cd" * 6}, False),
        (None, False),
    ],
)
def test_only_a_checkpoint_of_the_run_is_gone_on_from_or_used(
    changes, same, root, tmp_path, monkeypatch
):
    """One of another source, other settings or other data, or a damaged one, is neither."""
    monkeypatch.setattr(checkpoints, "restore", lambda module, state: "a model")
    condition = Condition("--steps", "7")
    run = reproduce.Run(find_steps(root)["train-2@big"], 3, condition)
    changes = changes and changes | {"settings": run.settings | changes.get("settings", {})}
    path = save(tmp_path, run, step=7, **(changes or {}))
    if changes is None:
        path.write_bytes(b"half a checkpoint")
    assert ("--resume" in run.command(root, "names.txt", tmp_path)) == same
    if same:
        assert trained(run.step, 3, tmp_path, condition) == "a model"
    else:
        with pytest.raises(Failure, match="of an earlier state, or unfinished"):
            trained(run.step, 3, tmp_path, condition)


def test_failed_runs_stop_no_other_and_are_made_by_the_next_call(root, call, capfd):
    bad = 'assert seed != 1 or (HERE / "fixed").exists(), print("note") or "what went wrong"'
    write_stub(root, "train-2.py", bad)
    with pytest.raises(Failure, match="2 of 4 runs failed") as failure:
        call("--seeds", "2", "--jobs", "2")
    assert failure.value.status == 1
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 2
    assert all(line.endswith(": AssertionError: what went wrong") for line in lines)
    (root / "fixed").touch()
    call("--seeds", "2")
    assert ["--seed 1" in line for line in calls(root)[4:]] == [True, True]
    assert call("--seeds", "2")[0].startswith("0 runs are lacking")


def test_the_table_is_looked_at_before_the_first_run(root, call):
    """One with other columns is refused; one without a byte is as good as none."""
    table = root / "results" / "results.csv"
    table.write_text("script,seed\n")
    with pytest.raises(Failure, match="results.csv has a foreign header"):
        call()
    assert not calls(root)
    table.write_bytes(b"")
    call("train-2")
    assert len(calls(root)) == 1


def test_without_names_txt_nothing_is_run(tmp_path):
    """Without network a script would train on the bundled list."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    shutil.copy(ROOT / f"{BASE}.py", root)
    (root / "data" / "sample-names.txt").write_text("anna\nbea\ncleo\n")
    with pytest.raises(Failure, match="names.txt") as failure:
        reproduce.main([], root)
    assert failure.value.status == 1
    assert not (root / "results").exists()


@pytest.mark.parametrize("table", [True, False], ids=["a table", "no table"])
def test_a_list_of_commands_runs_anywhere_and_its_tables_are_joined(
    table, root, call, plan, tmp_path
):
    """As the page does it, beside the recorded table or after a start-over."""
    if not table:
        (root / "results" / "results.csv").unlink()
    before = tree(root)
    words = "--seeds", "2", "--list", "--each-dir", "--list-dir", str(tmp_path / "scripts")
    commands = call("train-2@big", *words)
    assert len(commands) == 2 and tree(root) == before, "the checkout may be read-only"
    for line in commands:
        name = shlex.split(line)[-2]
        Path(name).mkdir(parents=True)
        (Path(name) / "results.csv").write_text(",".join(COLUMNS) + "\n")
        subprocess.run(line, shell=True, cwd=tmp_path, check=True)
    page = (ROOT / "results" / "README.md").read_text("utf-8")
    join = re.search(r"^for table in .*?^done$", page, re.M | re.S)[0]
    subprocess.run(join, shell=True, cwd=root, check=True)
    assert plan("train-2@big", "--seeds", "2") == []
    assert len(read_csv(root / "results" / "results.csv", COLUMNS)) == 2


@pytest.mark.skipif(os.name != "posix", reason="elsewhere it cannot be caught")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_what_stops_the_command_alone_ends_its_runs(name, root):
    """The first run sends it, and leaves its own number."""
    note = '(HERE / "number").write_text(str(os.getpid()))'
    stop = f"os.kill(os.getppid(), {signal.Signals[name]})"
    write_stub(root, "train-2.py", f"{note}; {stop}; time.sleep(600)")
    shutil.copy(ROOT / "results" / "reproduce.py", root / "results")
    shutil.copytree(ROOT / "results" / "lib", root / "results" / "lib")
    words = [sys.executable, str(root / "results" / "reproduce.py"), "--seeds", "2"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.startswith("error: stopped")
    assert len(calls(root)) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((root / "number").read_text()), 0)
