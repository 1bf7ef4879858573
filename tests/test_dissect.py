"""results/dissect.py: tables of what trained models do, checked against the models themselves."""

import csv
import sys

import pytest
import torch
import torch.nn.functional as F
from common import ROOT, tree
from tools import BASE, CHAIN, LAST, LN, ROPE, edit, miniature

sys.path.insert(0, str(ROOT / "results"))

import dissect
from lib.checkpoints import restore
from lib.command import Failure
from lib.figures import data_of

FINAL, BEST = f"{LAST}@final", f"{LAST}@best"
NUM = 40


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project whose models were trained for a few steps, and dissected."""
    project = miniature(tmp_path_factory.mktemp("dissect") / "project", CHAIN)
    for step in project.steps.values():
        preset = ["--preset", step.preset] if step.preset else []
        step.module.main(["--device", "cpu", *preset])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dissect, "NUM", NUM)
        dissect.main(["--seeds", "1"], project.root)
    module = project.steps[LAST].module
    project.data = module.load_data(None, module.Config(), "cpu")
    return project


def model_of(project, key):
    step = project.steps[key]
    path = project.results / "checkpoints" / f"{step.run_name(0)}.pt"
    return step.module, restore(step.module, torch.load(path, weights_only=True))


def read(project, file):
    """The rows of a table by step."""
    tables = {}
    with open(project.results / file, newline="") as lines:
        for row in csv.DictReader(lines):
            assert row.get("seed", "0") == "0"
            key = f"{row['script']}@{row['preset']}" if row["preset"] else row["script"]
            assert row["fingerprint"] == project.steps[key].fingerprint
            tables.setdefault(key, []).append(row)
    return tables


def test_losses_by_position_are_those_of_the_script(trained):
    tables = read(trained, "by-position.csv")
    assert tables.keys() == {LN, ROPE, FINAL}
    for key, rows in tables.items():
        module, model = model_of(trained, key)
        losses = module.token_losses(model, trained.data.test)
        reach = [sum(len(name) >= n - 1 for name in trained.data.test_items) for n in range(1, 9)]
        assert [int(row["position"]) for row in rows] == [*range(1, 9)]  # seven letters and the end
        assert [int(row["targets"]) for row in rows] == reach
        for row in rows:
            column = losses[:, int(row["position"]) - 1]
            mean = column.sum().item() / int(row["targets"])
            assert float(row["loss"]) == pytest.approx(mean, abs=2e-6)


def attention(project):
    """{(layer, head, query, key): weight}"""
    rows = read(project, "attention.csv")[FINAL]
    assert {row["name"] for row in rows} == {"elizabeth"}
    places = ("layer", "head", "query", "key")
    return {tuple(int(row[x]) for x in places): float(row["weight"]) for row in rows}


def test_attention_is_causal_and_every_row_adds_up_to_1(trained):
    sums = {}
    for (layer, head, query, key), weight in attention(trained).items():
        assert 0 <= key <= query <= 9
        sums[layer, head, query] = sums.get((layer, head, query), 0) + weight
    config = trained.steps[FINAL].config
    assert len(sums) == config.n_layer * config.n_head * 10
    assert max(sums)[:2] == (config.n_layer, config.n_head)
    assert all(total == pytest.approx(1, abs=1e-3) for total in sums.values())


def test_the_weights_are_those_with_which_the_kernel_mixes_the_values(trained, monkeypatch):
    """In every layer; and the table has those of a model that samples: nothing is dropped out."""
    module, model = model_of(trained, FINAL)
    kernel, mixed = F.scaled_dot_product_attention, []

    def spy(q, k, v, **options):
        out = kernel(q, k, v, **options)
        mixed.append((v[0], out[0]))
        return out

    tokens = torch.tensor([1, *(trained.data.chars.index(char) + 2 for char in "elizabeth")])
    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    weights = dissect.attention_weights(model, tokens)
    assert len(weights) == len(mixed) == trained.steps[FINAL].config.n_layer
    for layer, (values, out) in zip(weights, mixed, strict=True):
        torch.testing.assert_close(layer @ values, out)
    for (layer, head, query, key), weight in attention(trained).items():
        place = layer - 1, head - 1, query, key
        assert weight == pytest.approx(weights[place].item(), abs=6e-5)


def test_generated_names_are_counted(trained):
    tables = read(trained, "generated.csv")
    assert tables.keys() == {LAST, FINAL, BEST}
    known = {*(trained.root / "data" / "names.txt").read_text().split("\n")}
    for key, (row,) in tables.items():
        module, model = model_of(trained, key)
        names = module.generate(model, trained.data, NUM, torch.Generator().manual_seed(0))
        assert int(row["names"]) == NUM == len(names)
        assert int(row["new"]) == sum(name not in known for name in names) > 0


def test_the_error_over_names_is_that_of_leaving_each_out_in_turn(trained):
    """The jackknife, which knows no formula, comes to nearly the same."""
    tables = read(trained, "over-names.csv")
    assert tables.keys() == {key for key, step in trained.steps.items() if step.builds_on}
    for key, (row,) in tables.items():
        module, model = model_of(trained, key)
        _, base = model_of(trained, trained.steps[key].builds_on)
        test = trained.data.test
        changes = (module.token_losses(model, test) - module.token_losses(base, test)).sum(dim=1)
        targets = (test[:, 1:] != module.PAD).sum(dim=1)
        without = (changes.sum() - changes) / (targets.sum() - targets)
        error = 1.96 * (len(test) - 1) ** 0.5 * without.double().std(correction=0).item()
        assert float(row["error"]) == pytest.approx(error, rel=0.02)


@pytest.fixture
def changed(trained, tmp_path):
    """The project, to be changed."""
    project = miniature(tmp_path / "project", CHAIN)
    (project.results / "checkpoints").symlink_to(trained.results / "checkpoints")
    return project


def test_report_draws_what_was_found_of_the_present_state(trained, changed):
    for file in "by-position.csv", "attention.csv":
        (changed.results / file).write_bytes((trained.results / file).read_bytes())
    assert {"by-position.png", "attention.png"} <= data_of(changed.measured()).keys()
    for name in LN, LAST:
        edit(changed.path(name), "n_layer: int = option(4", "n_layer: int = option(3")
    assert not {"by-position.png", "attention.png"} & data_of(changed.measured()).keys()


@pytest.mark.parametrize(
    "old, new",
    [
        ("batch_size: int = option(32", "batch_size: int = option(16"),
        ("x = F.relu(self.fc(x))", "x = F.relu(1 * self.fc(x))"),
    ],
    ids=["settings", "source"],
)
def test_a_checkpoint_of_an_earlier_state_is_refused(changed, old, new):
    edit(changed.path(LN), old, new)
    before = tree(changed.root)
    with pytest.raises(Failure, match="earlier state") as failure:
        dissect.main(["--seeds", "1"], changed.root)
    assert f"{LN}.py --seed 0" in str(failure.value)
    assert tree(changed.root) == before, "nothing is half-written"


def test_without_the_last_step_one_line_says_so(tmp_path):
    project = miniature(tmp_path / "project", [BASE])
    with pytest.raises(Failure, match="'train-2' is no script"):
        dissect.main([], project.root)


def test_an_unfinished_run_is_refused(trained, tmp_path):
    step = trained.steps[LN]
    file = f"checkpoints/{step.run_name(0)}.pt"
    path = tmp_path / file
    path.parent.mkdir()
    state = torch.load(trained.results / file, weights_only=True)
    dissect.trained(step, 0, trained.results)
    torch.save(state | {"step": state["step"] - 1}, path)
    with pytest.raises(Failure, match="unfinished"):
        dissect.trained(step, 0, tmp_path)
