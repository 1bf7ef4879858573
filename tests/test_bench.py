"""results/bench.py: what is timed is the script's own training. The times are not tested."""

from dataclasses import replace

import bench
import pytest
import torch
from lib.tables import read_table
from tools import BASE, HEADS, edit, miniature


@pytest.fixture
def project(tmp_path):
    return miniature(tmp_path / "project", [BASE, HEADS])


def test_the_table_has_a_row_per_step(project, capsys):
    """New times of a step replace its old ones; pages show those of the present script."""
    for names in [BASE, HEADS, f"{HEADS},n_head=1"], [HEADS]:
        bench.main([*names, "--turns", "2", "--steps", "1"], project.root)
    *_, printed = capsys.readouterr().out.splitlines()
    name, milliseconds, ratio, *words = printed.split()
    assert [name, *words] == [HEADS, "times", BASE]
    base, row, narrow = read_table(project.root, "speed.csv")
    assert [x["step"] for x in (base, row, narrow)] == [BASE, HEADS, f"{HEADS},n_head=1"]
    assert row["ms_per_step"] == pytest.approx(float(milliseconds), abs=0.006)
    assert row["ratio"] == pytest.approx(float(ratio), abs=0.006)
    assert base["ratio"] is None
    assert project.cells("losses", "2 heads")["relative step time"] == f"{row['ratio']:.2f}"
    edit(project.path(HEADS), "steps: int = option(4,", "steps: int = option(5,")
    assert project.cells("losses", "2 heads")["relative step time"] == "–"


def test_the_ratio_is_to_the_base_and_both_figures_are_medians(monkeypatch):
    """Over the turns, without the first, which warms up."""
    seconds = {"it": iter([9, 0.006, 0.002, 0.004]), "base": iter([9, 0.004, 0.001, 0.001])}

    class Subject:
        def __init__(self, step, names, length):
            self.turn = lambda: next(seconds[step])

    monkeypatch.setattr(bench, "Subject", Subject)
    milliseconds, ratio = bench.compare("it", "base", None, 3, 25)
    assert (milliseconds, ratio) == pytest.approx((4, 2))


def test_the_turns_train_as_the_script_does(project):
    """Three turns of two steps end with the weights of six steps of the script."""
    step = project.steps[HEADS]
    module, config = step.module, step.config
    data = module.load_data(None, config, "cpu")
    subject = bench.Subject(step, project.root / "data" / "names.txt", 2)
    assert all(0 < subject.turn() < 60 for _ in range(3)), "seconds per step"

    model = module.make_model(config, data, "cpu")
    optimizer = module.make_optimizer(model, config)
    state = {"step": 0, "seconds": 0.0, "curve": []}
    module.train(model, optimizer, data, replace(config, steps=6), state, None)
    for name, value in model.state_dict().items():
        assert torch.equal(subject.model.state_dict()[name], value), name
