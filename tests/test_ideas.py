"""Ideas: every patch applies, keeps the rules and trains; the tools take them as steps."""

import difflib
import functools
import itertools
import os
import re
import shutil
import subprocess
from dataclasses import asdict

import pytest
import renew
import report
import reproduce
from common import ROOT, assert_only_differs, bare, load, sections, tree
from lib.command import Failure
from lib.files import numbered
from lib.known import CHOSEN, LONG, TUNED
from lib.measured import VALIDATE, Measured
from lib.names import script_of
from lib.patches import applied, head_of, patches
from lib.stats import changes
from lib.steps import LISTED
from lib.tables import RESULTS, read_csv
from tools import BASE, CHAIN, LAST, add_idea, edit, miniature

IDEAS = patches(ROOT)
SETTINGS = [row for _, row in numbered(ROOT / "results" / "ideas" / "settings.csv", LISTED)]


@pytest.fixture(scope="module")
def folder():
    """The scripts and those that the patches make."""
    with applied(ROOT) as folder:
        yield folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda m: {})
    return miniature(tmp_path / "project")


@pytest.fixture(scope="module")
def measured():
    """The steps of the project itself."""
    return Measured(ROOT)


# --- Every patch ---
@pytest.mark.parametrize("name", IDEAS)
def test_an_idea_keeps_the_rules(name, folder):
    """It samples, keeps results and is called as its base, and has under 50 lines of its own.

    The patch begins with its label; another paragraph says what to expect.
    """
    path = folder / name
    base = folder / f"{script_of(load(path).BUILDS_ON)}.py"
    mine, its = sections(path), sections(base)
    assert_only_differs(path, base, {*mine} - {"Sampling", "Results", "Main"})
    changed = [x for x in mine if mine[x] != its[x] and x not in ("top", "Configuration")]
    lines = difflib.ndiff(bare(base, *changed), bare(path, *changed))
    assert sum(line.startswith("+ ") for line in lines) < 50
    assert max(map(len, path.read_text("utf-8").splitlines())) <= 100
    head = head_of(IDEAS[name])
    assert head.startswith(f"{load(path).__doc__.partition(':')[0]}: ")
    assert len(head.strip().split("\n\n")) > 1


@pytest.mark.parametrize("name", IDEAS)
def test_an_idea_trains(name, folder, go):
    """Also with a preset that sets other sizes and dropout, where the idea has presets."""
    module = load(folder / name)
    module.source_hash = functools.cache(module.source_hash)
    runs = [[]] + ([["--preset", "best", "--n-layer", "2"]] if module.PRESETS else [])
    for words in runs:
        ended = go(module, *words, "--steps", "2", "--batch-size", "2")
        assert (ended.status, ended.err) == (0, ""), ended.err
    assert len(read_csv(ended.table, RESULTS)) == len(runs)


def test_labels_are_unique(measured):
    """Also those of settings.csv, which is refused else."""
    labels = [step.label for step in measured.steps.values() if not step.is_preset]
    assert len(labels) == len(set(labels))
    assert len(labels) == len(CHAIN) + len(IDEAS) + len(SETTINGS), "none is left out"


def test_every_idea_of_settings_says_what_to_expect(measured):
    assert all(row["text"] and row["label"] and row["builds_on"] for row in SETTINGS)
    keys = {step.key for step in measured.steps.values() if step.listed}
    assert keys == {row["name"] for row in SETTINGS}, "as it is written anywhere else"


def test_what_an_idea_sets_is_the_best_that_was_tried(measured):
    """On the validation set, over the seeds that were tried with both settings."""
    m = measured
    for step in [step for step in m.steps.values() if step.is_idea]:
        own, base = asdict(step.config), asdict(m.step(step.builds_on).config)
        chosen = m.values(step.key, condition=VALIDATE)
        for changed, name in m.candidates(step):
            if any(own[field] != base.get(field) for field in changed):
                worse = changes(m.values(name, condition=VALIDATE), chosen)
                assert worse and sum(worse.values()) >= 0, (step.key, changed)


def test_a_tuned_step_has_the_peak_rate_with_the_lowest_validation_loss(measured):
    """Over the same seeds of every rate, of which none is lacking."""
    for step in measured.group(TUNED):
        losses = measured.rates(step)
        means = {rate: sum(found.values()) / len(found) for rate, found in losses.items()}
        assert min(means, key=means.get) == step.config.learning_rate, step.key
        assert len({(*found,) for found in losses.values()}) == 1 and len(losses) > 2, step.key


def test_the_preset_long_has_the_settings_with_the_lowest_validation_loss(measured):
    """Over the seeds that it and another candidate have."""
    own = tuple(getattr(measured.steps[LONG].config, x) for x in CHOSEN)
    names = measured.long_candidates
    chosen = measured.values(names.pop(own), condition=VALIDATE)
    assert len(names) > 5
    for tried, name in names.items():
        worse = changes(measured.values(name, condition=VALIDATE), chosen)
        assert worse and sum(worse.values()) >= 0, tried


# --- How the tools take them ---
def git(root, *words):
    subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


def test_the_way_from_a_patch_to_a_script_and_back(project, tmp_path, monkeypatch):
    """git apply makes the script; renew.py makes the patch, whatever a user's git does."""
    script = add_idea(project, "shallow")
    root, patch = project.root, project.results / "ideas" / "shallow.patch"
    text = patch.read_text("utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    git(root, "init", "--quiet")
    for setting in "diff.noprefix true", "color.ui always", "diff.context 0":
        git(root, "config", "--global", *setting.split())
    git(root, "apply", str(patch))
    script_text = project.path(script).read_text("utf-8")
    patch.write_text("shallow: a text of its own.\nGroup: depth\n", "utf-8")
    renew.main([script], root)
    assert patch.read_text("utf-8").split("\ndiff --git")[1] == text.split("\ndiff --git")[1]
    assert head_of(patch) == "shallow: a text of its own.\nGroup: depth\n\n"
    project.path(script).unlink()
    with applied(root) as made:
        assert (made / f"{script}.py").read_text("utf-8") == script_text
    with pytest.raises(Failure, match="builds on a script in the root"):
        renew.main([BASE], root)


def test_presets_of_ideas_are_run_only_when_named_and_compared_with_the_same(project, capsys):
    script = add_idea(project, "shallow")

    def plan(*words):
        capsys.readouterr()
        reproduce.main(["--dry-run", *words], project.root)
        return capsys.readouterr().out.splitlines()[1:]

    assert [line for line in plan() if script in line] == [f"{script}-seed0"]
    assert plan("depth") == [f"{script}-seed0"], "a group"
    assert plan("depth@64x4") == [f"{script}@64x4-seed0"]
    assert project.steps[f"{script}@final"].builds_on == f"{LAST}@final"


def test_a_script_in_the_root_wins_over_its_patch(project):
    """As after git apply; renew.py leaves the patch as it is."""
    script = add_idea(project, "mine")
    assert project.steps[script].config.n_layer == 3
    with applied(project.root) as folder:
        shutil.copy(folder / f"{script}.py", project.root)
    edit(project.path(script), "n_layer: int = option(3,", "n_layer: int = option(2,")
    project.look_again()
    assert project.steps[script].config.n_layer == 2
    edit(project.path(LAST), "import argparse\n", "import abc\nimport argparse\n")
    before = tree(project.results)
    renew.main([], project.root)
    assert tree(project.results) == before


@pytest.mark.parametrize(
    "old, new",
    [
        ('-"""+ GELU: ', '-"""of yesterday: '),  # does not apply
        (f'+BUILDS_ON = "{LAST}"', "+BUILDS_ON = 1 / 0"),  # cannot be loaded
    ],
)
def test_a_patch_that_cannot_be_used_is_left_out(project, old, new, capsys):
    """With those that build on it, presets included; the others can be used."""
    script, other = add_idea(project, "shallow"), add_idea(project, "deep", 5)
    leaf = add_idea(project, "leaf")
    folder = project.root / "results" / "ideas"
    edit(folder / "leaf.patch", f'+BUILDS_ON = "{LAST}"', f'+BUILDS_ON = "{script}"')
    edit(folder / "shallow.patch", old, new)
    capsys.readouterr()
    project.look_again()
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith("note: shallow.patch is left out: ")
    assert all(line.startswith(f"note: {leaf}") for line in rest) and rest
    assert {other, f"{other}@64x4", LAST} <= project.steps.keys()
    assert not [key for key in project.steps if key.startswith((script, leaf))]
    project.page.write_text(f"It is <!-- mean {leaf}@64x4 <2 --><!-- end -->.\n")
    report.main([], project.root)
    assert "(not recorded)" in project.page.read_text()


def test_an_idea_may_copy_the_script_of_another(project, capsys):
    """Whichever comes first in the alphabet. Without the other patch it is left out."""
    first = add_idea(project, "shallow")
    with applied(project.root) as folder:
        shutil.copy(folder / f"{first}.py", project.root)
    second = add_idea(project, "again", 2, of=first)
    project.path(first).unlink()
    project.look_again()
    assert project.steps[second].config.n_layer == 2
    assert project.steps[second].builds_on == first
    (project.results / "ideas" / "shallow.patch").unlink()
    project.look_again()
    assert second not in project.steps
    assert "it copies train-2-shallow.py, which is not there" in capsys.readouterr().err


# --- Writing them anew ---
def commit(root):
    git(root, "init", "--quiet")
    git(root, "add", *CHAIN)
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a")


def renewed(root, capsys):
    """How many patches renew.py has written, and what else it has printed."""
    capsys.readouterr()
    renew.main([], root)
    first, *rest = capsys.readouterr().out.splitlines()
    return int(first.removeprefix("patches written: ")), rest


def test_no_patch_changes_with_what_it_neither_holds_nor_follows(project, capsys):
    """A patch has no hash of a script. A line above moves its hunks: it is written anew."""
    add_idea(project, "shallow")
    patch = project.results / "ideas" / "shallow.patch"
    assert not re.search("^(index|similarity) ", patch.read_text("utf-8"), re.M)
    last = project.path(LAST)
    edit(last, "\n# --- Main ---\n", "\n# A comment.\n# --- Main ---\n")
    assert renewed(project.root, capsys) == (0, [])
    edit(last, "import argparse\n", "import abc\nimport argparse\n")
    assert renewed(project.root, capsys) == (1, [])
    assert renewed(project.root, capsys) == (0, [])


def test_without_a_history_what_does_not_apply_is_no_conflict(project, capsys):
    """One line says why it is not merged."""
    add_idea(project, "shallow")
    edit(project.path(LAST), "n_layer: int = option(4,", "n_layer: int = option(6,")
    capsys.readouterr()
    with pytest.raises(Failure):
        renew.main([], project.root)
    out, err = capsys.readouterr()
    assert out.splitlines()[1] == "shallow.patch stays as it is: it does not apply"
    assert len(err.splitlines()) == 1 and err.startswith("note: no git history")


@pytest.mark.parametrize("committed", [False, True])
def test_what_merges_is_written_and_what_does_not_is_listed(project, capsys, committed):
    """A conflict stops no other patch, and what builds on one that merges follows."""
    root, ideas = project.root, project.results / "ideas"
    add_idea(project, "shallow")
    narrow = add_idea(project, "narrow", 4)
    with applied(root) as folder:
        shutil.copy(folder / f"{narrow}.py", root)
    leaf = add_idea(project, "leaf", 4, of=narrow)
    project.path(narrow).unlink()
    commit(root)
    edit(project.path(LAST), "n_layer: int = option(4,", "n_layer: int = option(6,")
    edit(project.path(LAST), "\ndef option(", "\n# What a field is.\ndef option(")  # their context
    if committed:
        commit(root)
    before = (ideas / "shallow.patch").read_bytes()
    if getattr(os, "geteuid", bool)() == 0:  # git distrusts what belongs to somebody else
        os.chown(root, 65534, -1)
    for written in 2, 0:
        capsys.readouterr()
        with pytest.raises(Failure, match="1 patches do not merge.*git apply --reject"):
            renew.main([], root)
        first, second = capsys.readouterr().out.splitlines()
        assert first == f"patches written: {written}" and second.startswith("shallow.patch ")
        assert (ideas / "shallow.patch").read_bytes() == before
    with applied(root) as folder:
        scripts = project.path(LAST), folder / f"{narrow}.py", folder / f"{leaf}.py"
        texts = [path.read_text("utf-8").splitlines() for path in scripts]
    for old, new in itertools.pairwise(texts):
        changed = [x for x in difflib.ndiff(old, new) if x[0] in "+-"]
        assert len(changed) == 4, "its docstring and BUILDS_ON"
