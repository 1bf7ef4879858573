"""The one name of a step: how it is read, where it is taken, and the ideas of settings.csv."""

import compare
import pytest
import report
import reproduce
from lib.command import Failure
from lib.names import with_preset
from lib.pages import rebuild
from lib.steps import find, named
from lib.tables import Condition
from tools import (
    BASE,
    CHAIN,
    HEADS,
    LAST,
    WIDE,
    Project,
    add_idea,
    edit,
    miniature,
    real_steps,
    write_stub,
    write_table,
)

STEPS, _ = real_steps()
ONE_HEAD = f"{HEADS},n_head=1"


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


@pytest.fixture
def whole(tmp_path):
    """A project with all scripts and presets."""
    return Project(tmp_path / "project", CHAIN)


# --- How a name is read ---
@pytest.mark.parametrize(
    "name, key",
    [
        ("train-2.py", "train-2"),
        ("train-2.py@final", "train-2@final"),
        ("train-2.py,learning_rate=4e-3", "train-2,learning_rate=0.004"),
        ("train-2,lr_decay_to=0,learning_rate=4e-3", "train-2,learning_rate=0.004,lr_decay_to=0.0"),
        ("train-2,n_layer=4", "train-2"),  # its default
        ("train-2@final,learning_rate=1e-3,n_layer=02", "train-2@final,n_layer=2"),
        ("train-2@64x4,n_embd=32", "train-2@64x4,n_embd=32"),  # the script's default
        ("train-2,validate=True", "train-2,validate=True"),
        ("train-2,validate=False", "train-2"),
    ],
)
def test_one_step_has_one_name(name, key):
    step = named(STEPS, name)
    assert step.key == key
    settings = key.split(",")[1:]
    assert [f"{x}={y}" for x, y in step.settings.items()] == settings
    assert step.run_name(3) == f"{key}-seed3"
    _, config, overrides = step.module.parse(step.words[1:])
    assert config == step.config and overrides.split() == settings


@pytest.mark.parametrize(
    "name, message",
    [
        ("train-2,n_layers=2", "has no setting n_layers; it has batch_size, dropout,"),
        ("train-2,n_layer=two", "invalid int value: 'two'"),
        ("train-2,learning_rate=-1", "--learning-rate must be between"),
        ("train-2,validate=1", "validate is True or False"),
        ("train-2,seed=1", "seed is no part of a name"),
        ("train-2,threads=2", "threads is no part of a name"),
        ("train-2,n_layer=2,n_layer=3", "has n_layer twice"),
        ("train-2,n_layer", "'n_layer' is no setting such as n_layer=2"),
        ("train-2@gone,n_layer=2", "is no script, preset or idea here"),
        ("train-9,n_layer=2", "is no script, preset or idea here"),
    ],
)
def test_what_is_no_name_is_one_line_that_has_it(name, message):
    with pytest.raises(Failure, match=message) as failure:
        named(STEPS, name)
    assert repr(name) in str(failure.value) and "\n" not in str(failure.value)


def test_a_preset_is_put_into_a_name():
    assert with_preset("train-2,n_head=1", "fast") == "train-2@fast,n_head=1"
    assert with_preset("train-2@20k,n_head=1", "") == "train-2,n_head=1"
    assert with_preset("train-2-relu", "fast") == "train-2-relu@fast"


# --- Which rows are of it ---
def test_a_name_and_a_condition_are_one_set(project):
    project.add_row(HEADS, 0, 2.0)
    settings = {"learning_rate": 0.002}
    project.add_row(HEADS, 0, 2.1, settings, overrides="learning_rate=0.002")
    both = settings | {"validate": True}
    project.add_row(HEADS, 0, 2.2, both, overrides="learning_rate=0.002 validate=True")
    m = project.measured()

    def values(name, *flags):
        return m.values(name, "test", Condition(*flags))

    name = f"{HEADS},learning_rate=2e-3"
    assert values(HEADS) == {0: 2.0}
    assert values(name) == values(HEADS, "--learning-rate", "0.002") == {0: 2.1}
    assert values(name, "--validate") == values(f"{name},validate=True") == {0: 2.2}
    assert values(HEADS, "--validate", "--learning-rate", "2e-3") == {0: 2.2}
    assert values(f"{HEADS},validate=True") == {}
    assert m.effect(name).mean == pytest.approx(0.1), "it builds on its script"
    assert m.others() == []
    twice = pytest.raises(
        Failure, match=f"learning_rate is in the name {HEADS},learning_rate=0.002"
    )
    for command, words in (compare.main, [name, HEADS]), (reproduce.main, ["--dry-run", name]):
        with twice:
            command([*words, "--", "--learning-rate", "1e-3"], project.root)


def test_a_run_by_hand_counts_for_the_name_of_its_settings(tmp_path, capsys):
    project = miniature(tmp_path / "project", (BASE, HEADS))
    for flags in [], ["--n-head", "1", "--learning-rate", "4e-3"]:
        project.steps[HEADS].module.main(["--device", "cpu", *flags])
    name = f"{HEADS}.py,n_head=1,learning_rate=4e-3"
    reproduce.main(["--dry-run", name], project.root)
    assert "0 runs are lacking" in capsys.readouterr().out
    reproduce.main(["--seeds", "2", name], project.root)
    assert len(project.results_rows()) == 3
    assert f"{HEADS},learning_rate=0.004,n_head=1-seed1" in capsys.readouterr().out
    capsys.readouterr()
    compare.main([name, HEADS], project.root)
    said = capsys.readouterr().out
    assert said.startswith(f"{HEADS},learning_rate=0.004,n_head=1 against {HEADS}\n")
    with pytest.raises(Failure, match="name two steps that differ"):
        compare.main([f"{HEADS},n_head=2", HEADS], project.root)


def test_names_are_taken_beside_those_of_groups(tmp_path, capsys):
    """And their flags reach the script."""
    root = tmp_path / "project"
    write_stub(root, "train-2.py")
    (root / "results").mkdir()
    words = ["train-2@big,steps=7", "train-2.py,n_embd=64", "train-2,n_embd=32"]
    reproduce.main(["--dry-run", *words], root)
    names = sorted(capsys.readouterr().out.splitlines()[1:])
    assert names == ["train-2,n_embd=64-seed0", "train-2-seed0", "train-2@big,steps=7-seed0"]
    (root / "results" / "results.csv").touch()
    reproduce.main([words[0]], root)
    called = (root / "calls").read_text()
    assert called.startswith("train-2.py --preset big --steps 7 --seed 0 --device cpu ")


# --- Where else it stands ---
def test_markers_and_what_builds_on_what_take_names(whole):
    """A step that no table lists is made for them, and comes into no table of a page."""
    for name in "shallow", "narrow":
        add_idea(whole, name)
    patch = whole.results / "ideas" / "shallow.patch"
    edit(patch, f'+BUILDS_ON = "{LAST}"', f'+BUILDS_ON = "{LAST}.py,learning_rate=2e-3"')
    whole.look_again()
    steps = whole.steps
    assert steps["train-2-shallow"].builds_on == "train-2,learning_rate=0.002"
    assert steps["train-2-shallow@20k"].builds_on == "train-2@20k,learning_rate=0.002"
    assert steps["train-2-shallow@fast"].builds_on == "train-2@fast", "which sets the rate"
    assert "train-2,learning_rate=0.002" not in steps
    settings = {"learning_rate": 0.002}
    whole.add_row(LAST, 0, 2.0, settings, overrides="learning_rate=0.002")
    whole.add_row("train-2-shallow", 0, 2.5)
    whole.add_row(LAST, 0, 2.25)
    whole.page.write_text(
        "A <!-- effect train-2-shallow train-2,learning_rate=2e-3 >0 --><!-- end -->\n"
        "B <!-- mean train-2,learning_rate=0.002 --><!-- end -->\n"
    )
    _, text, _ = rebuild(whole.page, whole.measured())
    assert "+0.500 (one seed)" in text and "2.000 (one seed)" in text
    row = whole.cells("group", "shallow", "depth")
    assert row["builds on"] == "train-2,learning_rate=0.002"
    assert row["change in test"] == "+0.5000 (one seed)"
    assert "learning_rate" not in whole.block("losses") + whole.block("recipes")


def test_a_name_that_builds_on_nothing_is_one_line(project):
    edit(project.path(HEADS), f'BUILDS_ON = "{BASE}"', f'BUILDS_ON = "{BASE},n_head=2"')
    with pytest.raises(Failure, match=f"{HEADS} builds on .* has no setting n_head"):
        project.look_again()


# --- Ideas that need no code ---
COLUMNS = "name short label group builds_on text".split()


def add_settings(project, *rows):
    """Rows of settings.csv, beside those that it has: what a name is, and what is not as usual."""
    known = []
    for name, changes in rows:
        row = {"name": name, "short": "", "label": name.partition(",")[2], "group": "controls"}
        known.append(row | {"builds_on": "", "text": "What to expect."} | changes)
    write_table(project.results / "ideas" / "settings.csv", known)
    project.look_again()


def test_a_row_of_settings_is_an_idea_like_one_by_a_patch(project, capsys):
    """It is listed, linked, counted, run by its group, and called by its short name."""
    add_settings(
        project,
        (ONE_HEAD, {"label": "one head"}),
        (f"{HEADS},steps=9000", {"short": f"{HEADS}@long"}),
    )
    long = f"{HEADS},steps=9000"
    assert [x.key for x in project.measured().group("controls")] == [ONE_HEAD, long]
    assert find(project.steps, f"{HEADS}@long").key == long
    assert find(project.steps, f"{HEADS}@long,n_head=1").key == f"{HEADS},n_head=1,steps=9000"

    def plan(*words):
        capsys.readouterr()
        reproduce.main(["--dry-run", *words], project.root)
        return {line.removesuffix("-seed0") for line in capsys.readouterr().out.splitlines()[1:]}

    assert plan("controls") == {ONE_HEAD, long}
    assert plan(f"{HEADS}@long") == {long}
    assert plan() == {BASE, WIDE, HEADS, ONE_HEAD, long}
    assert plan("--", "--validate") == {f"{x},validate=True" for x in (BASE, WIDE, HEADS)}

    project.add_row(HEADS, 0, 2.0)
    project.add_row(HEADS, 0, 2.5, {"n_head": 1}, overrides="n_head=1")
    project.add_row(HEADS, 0, 1.5, {"steps": 9000}, overrides="steps=9000")
    row = project.cells("group", "one head", "controls")
    assert row["builds on"] == "2 heads" and row["change in test"] == "+0.5000 (one seed)"
    assert "[one head](results/ideas/settings.csv)" in project.block("group", "controls")
    assert "one head" not in project.block("losses") + project.block("comparison")
    marker = f"<!-- mean {HEADS}@long --><!-- end -->"
    project.page.write_text(f"A {marker} and <!-- count controls --><!-- end -->.\n")
    _, text, _ = rebuild(project.page, project.measured())
    assert "1.500 (one seed)" in text and "-->2<!--" in text


def test_ideas_of_settings_build_on_each_other(whole):
    rate = "train-2,learning_rate=0.002"
    rows = (f"{rate},lr_decay_to=0", {"group": "training", "builds_on": rate}), (rate, {})
    add_settings(whole, *rows)
    assert whole.steps[f"{rate},lr_decay_to=0.0"].builds_on == rate
    wide = find(whole.steps, "train-2@64x4,lr_decay_to=0.0,learning_rate=0.002")
    assert wide.builds_on == "train-2@64x4,learning_rate=0.002", "as without the preset"


def test_candidates_of_settings_are_those_that_vary_in_one_of_them(whole):
    """If the settings were tried themselves."""
    name = "train-2,learning_rate=0.002,lr_decay_to=0.0"
    add_settings(whole, (name, {"label": "cosine"}), ("train-2,grad_clip=1", {}))
    for rate, end, clip in (
        (2e-3, 0.0, 0.0),
        (4e-3, 0.0, 0.0),
        (2e-3, 0.5, 0.0),
        (4e-3, 1.0, 0.0),  # in two of them
        (2e-3, 0.0, 2.0),  # in another one
        (1e-3, 1.0, 2.0),  # of clipping, which was not tried at 1
    ):
        settings = {"learning_rate": rate, "lr_decay_to": end, "grad_clip": clip}
        whole.add_row(LAST, 0, 2 + rate, settings | {"validate": True})
    lines = [line.split(" | ")[:2] for line in whole.block("tried").splitlines()[2:]]
    link = "| [cosine](results/ideas/settings.csv)"
    assert lines == [
        [link, "learning_rate=0.002 lr_decay_to=0.0 (its own)"],
        [link, "learning_rate=0.004 lr_decay_to=0.0"],
        [link, "learning_rate=0.002 lr_decay_to=0.5"],
    ]


def test_settings_of_an_idea_that_does_not_apply_are_left_out_with_it(whole, capsys):
    script = add_idea(whole, "shallow")
    on_it = (f"{script},n_embd=16", {}), (f"{script}@64x4,n_head=2", {"builds_on": LAST})
    other = "train-2,n_head=1", {"builds_on": script}
    add_settings(whole, *on_it, other)
    assert {x.key for x in whole.measured().group("controls")} == {x for x, _ in [*on_it, other]}
    edit(whole.results / "ideas" / "shallow.patch", '-"""+ GELU: ', '-"""of yesterday: ')
    capsys.readouterr()
    whole.look_again()
    notes = capsys.readouterr().err
    for name, _ in [*on_it, other]:
        assert f"note: {name} is left out: its base is missing\n" in notes
        assert name not in whole.steps
    whole.page.write_text(f"A <!-- mean {script},n_embd=16 --><!-- end -->.\n")
    assert "(not recorded)" in rebuild(whole.page, whole.measured())[1]


TWICE = f"{HEADS},n_head=01"


@pytest.mark.parametrize(
    "name, changes, message",
    [
        (f"{HEADS},n_heads=1", {}, "has no setting n_heads"),
        (HEADS, {}, f"'{HEADS}' is there already"),
        (f"{HEADS},n_head=2", {}, f"is there already, as {HEADS}"),
        (TWICE, {}, f"is there already, as {ONE_HEAD}"),
        (f"{HEADS},steps=9", {"short": f"{HEADS}@one"}, "must be .* a word of its own"),
        (f"{HEADS},steps=9", {"short": "nine"}, "must be .* a word of its own"),
    ],
)
def test_a_wrong_row_of_settings_is_one_line_with_its_place(project, name, changes, message):
    with pytest.raises(Failure, match=message) as failure:
        first = ONE_HEAD, {"label": "one head", "short": f"{HEADS}@one"}
        add_settings(project, first, (name, changes))
    assert f"{project.results / 'ideas' / 'settings.csv'}, line 3: " in str(failure.value)
    assert "\n" not in str(failure.value)


def test_settings_with_other_columns_are_one_line(project):
    path = project.results / "ideas" / "settings.csv"
    path.write_text("name,label\n")
    with pytest.raises(Failure, match="settings.csv has a foreign header; it must be name,short,"):
        report.main([], project.root)
