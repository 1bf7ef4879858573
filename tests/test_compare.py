"""results/compare.py: what is compared with what, and how; candidates in a table."""

import csv
import io
import math
import shutil

import compare
import pytest
import report
import reproduce
from lib.command import Failure
from lib.names import expand
from lib.steps import find_steps
from tools import BASE, CHAIN, HEADS, LAST, ROPE, WIDE, Project, add_idea, edit, write_table

NGRAM = {"context": 5, "counts": 9, "seconds": 1, "train": 1.0, "test_error": 0.01}


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


@pytest.fixture
def call(project, capsys):
    """compare.py on the project: the lines that it printed."""

    def run(*argv):
        capsys.readouterr()
        compare.main(list(argv), project.root)
        return capsys.readouterr().out.replace("−", "-").splitlines()

    return run


def add_ngram(project, step, test, data_hash=None):
    """A row of ngram.csv of Kneser-Ney, counted on the names of a step."""
    path, module = project.results / "ngram.csv", project.steps[BASE].module
    row = {"step": step, "data": "names.txt", "model": "Kneser-Ney", "discount": 0.8}
    row["data_hash"] = data_hash or module.NAMES_SHA256[:12]
    row |= NGRAM | {"test": test, "test_from_2nd": test, "test_unseen": test}
    columns = "step data data_hash model context discount counts seconds train test "
    columns = f"{columns}test_from_2nd test_unseen test_error".split()
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    write_table(path, [*rows, {column: row[column] for column in columns}])


def says(project, idea, *words):
    """Write lines such as `Test: its own` into the head of an idea's patch."""
    patch = project.results / "ideas" / f"{idea.removeprefix('train-2-')}.patch"
    edit(patch, "Group: depth\n", "Group: depth\n" + "".join(f"{x}\n" for x in words))
    project.look_again()


# --- Two names ---
def test_an_idea_that_draws_other_batches_is_compared_unpaired(tmp_path, capsys):
    """With Welch's interval, by hand: variances 0.02 and 0.005 of 2 and 3 runs."""
    project = Project(tmp_path / "project", CHAIN)
    idea = add_idea(project, "drawn")
    project.add_rows(LAST, [2.0, 2.1, 2.0])
    project.add_rows(idea, [2.5, 2.7])
    paired = project.measured().effect(idea)
    says(project, idea, "Batches: its own")
    m = project.measured()
    found = m.effect(idea)
    errors = 0.02 / 2, 0.01 / 3 / 3
    df = sum(errors) ** 2 / (errors[0] ** 2 + errors[1] ** 2 / 2)
    assert found.mean == pytest.approx(2.6 - 6.1 / 3) and found.df == pytest.approx(df)
    assert found.mean != pytest.approx(paired.mean)
    project.add_row(idea, 0, 2.4, {"n_layer": 2}, overrides="n_layer=2")
    assert m.pairing(idea, f"{idea},n_layer=2") == "paired", "both draw the same"
    assert m.pairing(LAST, f"{LAST},batch_size=16") == "unpaired"
    by_split = project.measured("--split-seed", "any")
    assert by_split.pairing(idea, LAST) == "paired", "by split, whatever they draw"
    mine = project.path("train-2-mine")
    shutil.copy(project.path(LAST), mine)
    edit(mine, f'BUILDS_ON = "{ROPE}"', f'BUILDS_ON = "{idea}"')
    pairing = project.measured().pairing
    assert pairing("train-2-mine", idea) == "paired", "a copy of it draws as it does"
    assert pairing("train-2-mine", LAST) == "unpaired"
    compare.main([idea, LAST], project.root)
    said = capsys.readouterr().out
    assert "unpaired: they draw other batches" in said and "change in test   in train" not in said
    assert "2.7000" in said and f"+{found.mean:.4f} ± {found.half:.4f}" in said
    report.main(["--", "--steps", "5000"], project.root)
    assert f"+{found.mean:.4f}" in capsys.readouterr().out


def test_two_with_different_test_sets_have_no_change(tmp_path):
    project = Project(tmp_path / "project", CHAIN)
    idea = add_idea(project, "split")
    says(project, idea, "Test: its own")
    project.add_rows(LAST, [2.0, 2.1])
    project.add_rows(idea, [2.5, 2.7])
    project.add_row(LAST, 0, 2.2, {"split_seed": 7}, overrides="split_seed=7")
    project.add_row(LAST, 0, 2.3, {"validate": True}, overrides="validate=True")
    for name in idea, f"{LAST},split_seed=7", f"{LAST},validate=True":
        assert project.measured().effect(name, LAST) is None
        with pytest.raises(Failure, match="different test sets, so there is no change"):
            compare.main([name, LAST], project.root)


def test_an_ngram_model_is_the_one_counted_on_the_same_names(tmp_path, capsys):
    project = Project(tmp_path / "project", CHAIN)
    fewer, other = add_idea(project, "fewer"), add_idea(project, "shallow")
    says(project, fewer, "Names: its own", "Batches: its own")
    add_ngram(project, LAST, 1.5)
    for key in fewer, other:
        project.add_rows(key, [2.0, 2.0])
    project.add_row(LAST, 0, 2.0, {"validate": True}, overrides="validate=True")
    assert project.measured().effect(other, "kneser-ney").mean == pytest.approx(0.5)
    with pytest.raises(Failure, match=f"run python results/ngram.py {fewer}$"):
        compare.main([fewer, "kneser-ney"], project.root)
    add_ngram(project, fewer, 1.9)
    add_ngram(project, f"{fewer},n_layer=5", 1.6)
    project.add_row(fewer, 0, 2.0, {"n_layer": 5}, overrides="n_layer=5")
    m = project.measured()
    assert m.effect(fewer, "kneser-ney").mean == pytest.approx(0.1)
    assert m.effect("kneser-ney", fewer).mean == pytest.approx(-0.1)
    assert m.effect(f"{fewer}@64x4", "kneser-ney") is None, "no runs"
    assert m.effect(f"{fewer},n_layer=5", "kneser-ney").mean == pytest.approx(0.1)
    says(project, fewer, "Names: its own, by n_layer")
    assert project.measured().effect(f"{fewer},n_layer=5", "kneser-ney").mean == pytest.approx(0.4)
    there = project.measured("--n-layer", "5")
    assert there.effect(fewer, "kneser-ney").mean == pytest.approx(0.4), "as in the name"
    assert m.pairing(f"{fewer},n_layer=5", fewer) == "paired"
    says(project, fewer, "Batches: its own, by n_layer")
    assert project.measured().pairing(f"{fewer},n_layer=5", fewer) == "unpaired"
    says(project, fewer, "Test: its own, by n_layer")
    assert project.measured().pairing(f"{fewer},n_layer=5", fewer) is None
    says(project, fewer, "Names: its own, by n_layers")
    assert fewer not in project.steps
    assert "'Names: its own, by n_layers', but there is no setting" in capsys.readouterr().err
    with pytest.raises(Failure, match="of the default split alone"):
        compare.main([f"{LAST},validate=True", "kneser-ney"], project.root)


def test_a_mean_beside_a_change_is_over_the_same_seeds(project):
    """And the number of seeds is in the table where it is not the same for all."""
    project.add_rows(BASE, [2.5, 2.5])
    project.add_rows(HEADS, [2.0, 2.2])
    assert "seeds" not in project.block("comparison")
    project.add_rows(HEADS, [2.0, 2.2, 9.0])
    row = project.cells("comparison", "2 heads")
    assert row["test"] == "2.1000" and row["change in test"].startswith("−0.4000")
    project.add_row(BASE, 2, 2.5)
    project.add_row(BASE, 3, 2.5)
    assert project.cells("comparison", "2 heads")["seeds"] == "3"
    assert project.cells("comparison", "baseline")["seeds"] == "4"


def test_more_seeds_than_are_looked_for_and_tiny_chances_are_said_so(project, call):
    project.add_rows(BASE, [2.0, 2.0, 2.0])
    project.add_rows(HEADS, [2.0, 2.9, 1.0])
    assert (
        call(HEADS, BASE)[-1]
        == "detecting a change of 0.005 with 80% power takes more than 1000 seeds"
    )
    project.add_rows(WIDE, [1.0, 1.0001, 1.0])
    assert "p < 0.0001" in call(WIDE, BASE)[-2]


# --- Candidates ---
def test_braces_stand_for_several_names():
    assert expand("train-2,a={1,2},b={x,y}") == [
        f"train-2,a={a},b={b}" for a in (1, 2) for b in ("x", "y")
    ]
    assert expand("train-2-{a,b}") == ["train-2-a", "train-2-b"]
    assert expand("chain,n=2") == [f"{name.removesuffix('.py')},n=2" for name in CHAIN]
    for name in "train-2,a={1,2", "train-2,a=1}", "train-2,a={1,{2,3}}":
        with pytest.raises(Failure, match="braces do not match"):
            expand(name)


GRID = f"{HEADS},learning_rate={{5e-4,1e-3,2e-3,4e-3}}"


def add_grid(project, condition=""):
    """Three rates of 2 heads, of which 2e-3 is the best; nothing at 4e-3."""
    for rate, losses in {5e-4: [2.3, 2.4], 1e-3: [2.2, 2.2], 2e-3: [2.0, 2.1]}.items():
        for seed, loss in enumerate(losses):
            own = {} if rate == 1e-3 else {"learning_rate": rate}
            own |= {"validate": True} if condition else {}
            words = " ".join(f"{x}={y}" for x, y in own.items())
            project.add_row(HEADS, seed, loss, own, overrides=words)


def test_candidates_are_sorted_and_the_lowest_is_marked_on_the_validation_set(project, call):
    add_grid(project)
    add_grid(project, "--validate")
    head, *rows, missing, note = call(GRID, HEADS)
    names = [row.split()[0] for row in rows]
    assert names == [f"{HEADS},learning_rate=0.002", HEADS, f"{HEADS},learning_rate=0.0005"]
    assert rows[0].split()[1:3] == ["2", "2.0500"] and "-0.1500 ± 0.6353 n.s." in rows[0]
    assert "validation" not in head and not any("lowest" in row for row in rows)
    assert missing == f"{HEADS},learning_rate=0.004: no runs" and "not for choosing" in note
    head, *rows = call(GRID, HEADS, "--", "--validate")
    assert "validation" in head and [row.endswith("lowest") for row in rows[:3]] == [1, 0, 0]
    assert rows[-1].endswith("learning_rate=0.002 is the largest that was tried: try beyond it")
    project.add_row(HEADS, 0, 2.9, {"learning_rate": 4e-3, "validate": True})
    assert not any("try beyond" in row for row in call(GRID, HEADS, "--", "--validate"))


def test_the_table_is_written_for_a_program_too(project, capsys):
    add_grid(project, "--validate")
    compare.main(["--csv", GRID, HEADS, "--", "--validate"], project.root)
    first, *_, last = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert float(first["mean"]) == 2.05 and first["lowest"] == "1" and first["seeds"] == "2"
    assert float(first["change"]) == -0.15 and math.isclose(float(first["half"]), 0.635310)
    assert last["name"].endswith("0.0005") and last["lowest"] == "0"


def test_each_script_has_its_own_lowest(project, call):
    """It and what it is compared with are tuned likewise."""
    add_grid(project, "--validate")
    project.add_row(BASE, 0, 2.5, {"validate": True}, overrides="validate=True")

    def lowest():
        rows = call(GRID, f"{BASE},learning_rate=2e-3", BASE, "--", "--validate")
        return [row.split()[0] for row in rows if row.endswith("lowest")]

    assert lowest() == [f"{HEADS},learning_rate=0.002"], "a single one is no choice"
    own = {"learning_rate": 2e-3, "validate": True}
    project.add_row(BASE, 0, 2.6, own, overrides="learning_rate=0.002 validate=True")
    assert lowest() == [f"{HEADS},learning_rate=0.002", BASE]


# --- Only what is asked about ---
def test_nothing_else_is_loaded(project, call, capsys):
    """A script that is half written stops only the command that names it."""
    project.path("train-2-half").write_text("def half(")
    add_grid(project)
    assert call(f"{HEADS},learning_rate=2e-3", HEADS)
    reproduce.main(["--dry-run", HEADS], project.root)
    assert [*find_steps(project.root, [WIDE])] == [BASE, WIDE]
    with pytest.raises(Failure, match="cannot load train-2-half.py"):
        compare.main(["train-2-half", HEADS], project.root)


def test_what_is_in_no_table_says_why(tmp_path, capsys):
    project = Project(tmp_path / "project", CHAIN)
    idea = add_idea(project, "shallow")
    for seed in 0, 1, 2:
        project.add_row(idea, seed, 2.0, {"steps": 1000}, overrides="steps=1000")
    project.add_row(idea, 0, 2.0)
    project.add_row(idea, 1, 2.0, source="0123456789ab")
    report.main([], project.root)
    said = capsys.readouterr().err
    counted = "1 run counts; 3 runs at steps=1000; 1 run made by another source"
    assert f"note: {idea}: {counted}; a page needs three seeds\n" in said


def test_labels_that_are_the_same_are_an_error_that_names_both(tmp_path):
    project = Project(tmp_path / "project", CHAIN)
    first, second = add_idea(project, "shallow"), add_idea(project, "deep")
    folder = project.results / "ideas"
    edit(folder / "deep.patch", '+"""deep: ', '+"""shallow: ')
    project.look_again()
    with pytest.raises(Failure, match=f"'shallow' is that of {second} .* and {first} "):
        report.main([], project.root)
    shutil.copy(project.path(LAST), project.path("train-2-copy"))
    (folder / "deep.patch").unlink()
    report.main([], project.root)
