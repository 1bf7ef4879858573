"""results/bench.py: what is timed is the script's own training. The times are not tested."""

import sys
from dataclasses import replace

import pytest
import torch
from common import ROOT, tree
from tools import BASE, HEADS, edit, miniature

sys.path.insert(0, str(ROOT / "results"))

import bench
from lib.tables import read_table


@pytest.fixture
def project(tmp_path):
    return miniature(tmp_path / "project", [BASE, HEADS])


def test_the_figures_are_told_and_kept_a_row_a_step(project, capsys):
    """A step's new figures replace its old ones; report.py shows those of the present state."""
    for names in [BASE, HEADS], [HEADS]:
        before = tree(project.root)
        bench.main([*names, "--turns", "2", "--steps", "1"], project.root)
        after = tree(project.root)
        assert {path for path in after if after[path] != before.get(path)} == {"results/speed.csv"}
    *_, first, _, _, again = capsys.readouterr().out.splitlines()
    assert first.startswith(BASE) and first.endswith("  –")
    name, milliseconds, ratio, *words = again.split()
    assert [name, *words] == [HEADS, "times", BASE]
    base, row = read_table(project.root, "speed.csv")
    assert [base["script"], row["script"]] == [BASE, HEADS]
    assert row["ms_per_step"] == pytest.approx(float(milliseconds), abs=0.006)
    assert row["ratio"] == pytest.approx(float(ratio), abs=0.006)
    assert base["ratio"] is None
    assert project.cells("losses", "2 heads")["relative step time"] == f"{row['ratio']:.2f}"
    assert project.cells("losses", "baseline")["relative step time"] == "–"
    edit(project.path(HEADS), "steps: int = option(4,", "steps: int = option(5,")
    assert project.cells("losses", "2 heads")["relative step time"] == "–"


def test_medians_of_turns_that_alternate(monkeypatch):
    """Each turn counts but the first, which warms up; the ratio is of neighbours in time."""
    times = {"step": [9.0, 0.004, 0.1, 0.006], "base": [9.0, 0.002, 0.025, 0.006]}
    order = []

    class Subject:
        def __init__(self, name, data, turn):
            self.name = name

        def turn(self):
            order.append(self.name)
            return times[self.name].pop(0)

    monkeypatch.setattr(bench, "Subject", Subject)
    milliseconds, ratio = bench.compare("step", "base", None, 3, 5)
    assert order == ["step", "base"] * 4
    assert milliseconds == pytest.approx(6)  # of 4, 100 and 6
    assert ratio == pytest.approx(2)  # of 2, 4 and 1


def test_the_turns_train_as_the_script_does(project):
    """Turns of two steps, one after the other; more than the script's own make no difference."""
    step = project.steps[HEADS]
    module, config = step.module, step.config
    data = module.load_data(None, config, "cpu")
    subject = bench.Subject(step, project.root / "data" / "names.txt", 2)
    for _ in range(3):
        assert subject.turn() > 0

    torch.manual_seed(0)
    model = module.Transformer(config, len(data.chars) + 2, data.max_len)
    optimizer = module.make_optimizer(model, config)
    state = {"step": 0, "seconds": 0.0, "curve": []}
    module.train(model, optimizer, data, replace(config, steps=6), state, None)
    assert state["curve"] and not subject.state["curve"], "no evaluation is timed"
    for name, value in model.state_dict().items():
        assert torch.equal(subject.model.state_dict()[name], value), name
