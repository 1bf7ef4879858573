"""results/dissect.py: tables of what trained models do, checked against the models themselves."""

import shutil

import dissect
import pytest
import torch
from lib.checkpoints import restore
from lib.command import Failure
from lib.figures import look_of
from lib.look import look
from lib.tables import read_table
from tools import BASE, CHAIN, LAST, LN, ROPE, miniature

FINAL, BEST = f"{LAST}@final", f"{LAST}@best"
NUM, NAME = 40, "elena"
TABLES = "by-position.csv", "generated.csv", "over-names.csv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project whose models were trained for a few steps, and dissected."""
    project = miniature(tmp_path_factory.mktemp("dissect") / "project", CHAIN)
    for step in project.steps.values():
        preset = ["--preset", step.preset] if step.preset else []
        step.module.main(["--device", "cpu", *preset])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dissect, "NUM", NUM)
        patch.setattr(dissect, "NAME", NAME)
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
    for row in read_table(project.root, file):
        assert row.get("seed", 0) == 0
        assert row["fingerprint"] == project.steps[row["step"]].fingerprint
        tables.setdefault(row["step"], []).append(row)
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


def test_generated_names_are_counted(trained):
    tables = read(trained, "generated.csv")
    assert tables.keys() == {LAST, FINAL, BEST}
    known = {*(trained.root / "data" / "names.txt").read_text().split("\n")}
    for key, (row,) in tables.items():
        module, model = model_of(trained, key)
        names = module.generate(model, trained.data, NUM, torch.Generator().manual_seed(0))
        assert int(row["names"]) == NUM == len(names)
        assert int(row["new"]) == sum(name not in known for name in names) > 0


def test_the_test_sampling_error_is_that_of_the_jackknife(trained):
    """Which leaves out each name in turn, and needs no formula."""
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


def test_rows_of_a_step_that_was_not_dissected_stay(trained, tmp_path, monkeypatch):
    """Unless it is no more; all others are made anew, in their places."""
    root = tmp_path / "project"
    shutil.copytree(trained.root, root)
    files = [root / "results" / name for name in TABLES]
    before = [path.read_text("utf-8") for path in files]
    for path, text in zip(files, before, strict=True):
        header, first, *_ = text.splitlines(True)
        left = [first.replace(first.split(",")[0], step) for step in (f"{LAST}-no-more", BASE)]
        path.write_text(text.replace(header, header + "".join(left)), "utf-8")
    table = root / "results" / "results.csv"
    lines = table.read_text("utf-8").splitlines(True)
    table.write_text("".join(x for x in lines if not x.startswith(f"{LAST},best,")), "utf-8")
    monkeypatch.setattr(dissect, "NUM", NUM)
    monkeypatch.setattr(dissect, "NAME", NAME)
    dissect.main(["--seeds", "1"], root)
    assert BEST in before[1] and BEST in before[2]
    assert [path.read_text("utf-8") for path in files] == before


def test_one_name_is_followed_through_the_chain(trained):
    """The page and the figure have what the models say; of steps that have changed, nothing."""
    assert read(trained, "look.csv").keys() == {x.removesuffix(".py") for x in CHAIN}
    run = {"script": "", "chars": trained.data.chars, "max_len": trained.data.max_len}
    seen = {key: look(*model_of(trained, key), run, NAME) for key in (BASE, LAST)}
    for key, label in (BASE, "baseline"), (LAST, "+ GELU"):
        line = [x for x in trained.block("look").splitlines() if x.startswith(f"| [{label}]")]
        cells = [*(f"{p:.1%}" for _, p in seen[key].correct), f"{seen[key].loss:.2f}"]
        assert line[0].strip("| ").split(" | ")[1:] == cells
    header, _, *rows = trained.block("likeliest").splitlines()
    assert header == "| after | 1 | 2 | 3 | 4 | 5 |" and len(rows) == 6
    expected = " | ".join(f"{char} {p:.1%}" for char, p in seen[LAST].likeliest[2])
    assert rows[2] == f"| `^el` | {expected} |"
    data = look_of(trained.measured())
    assert (data["step"], data["name"]) == (LAST, NAME)
    for layer, found in zip(seen[LAST].weights, data["weights"], strict=True):
        for head, matrix in zip(layer, found, strict=True):
            assert matrix == [pytest.approx(row, abs=1e-6) for row in head]
    table = trained.results / "look.csv"
    now, kept = trained.steps[LAST].fingerprint, table.read_text("utf-8")
    table.write_text(kept.replace(now, "0123456789ab"), "utf-8")
    assert look_of(trained.measured()) == {} and "recorded" in trained.block("likeliest")
    assert "[baseline]" in trained.block("look") and "GELU" not in trained.block("look")
    table.write_text(kept, "utf-8")


def test_a_checkpoint_of_another_source_or_unfinished_is_refused(trained, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / f"{LN}-seed0.pt"
    state = torch.load(trained.results / "checkpoints" / path.name, weights_only=True)
    for change in {"run": state["run"] | {"source": "x"}}, {"step": 3}:
        torch.save(state | change, path)
        with pytest.raises(Failure, match=f"earlier state, or unfinished.*--seeds 1 {LN}$"):
            dissect.trained(trained.steps[LN], 0, tmp_path)
