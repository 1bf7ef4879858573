"""Ideas: every patch applies, keeps the rules and trains; the tools take them as steps."""

import difflib
import shutil
import subprocess
import sys

import pytest
from common import ROOT, bare, load, one_error, sections, tree, violation
from tools import BASE, CHAIN, HEADS, LAST, add_idea, edit, miniature

sys.path.insert(0, str(ROOT / "results"))

import compare
import renew
import report
import reproduce
from lib import command
from lib.command import Failure
from lib.measured import Measured
from lib.steps import applied, head_of, patches
from lib.tables import RESULTS, read_csv

IDEAS = patches(ROOT)


@pytest.fixture(scope="module")
def folder():
    """The scripts and those that the patches make."""
    with applied(ROOT) as folder:
        yield folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda m: {})
    return miniature(tmp_path / "project")


def label_of(path):
    """What stands in the docstring before the first colon."""
    return load(path).__doc__.partition(":")[0]


# --- Every patch ---
@pytest.mark.parametrize("name", IDEAS)
def test_an_idea_keeps_the_rules(name, folder):
    """It differs from its base in Data, Model or Training, in under 30 lines of code.

    Above the patch stands its label, and in another paragraph what to expect.
    """
    path = folder / name
    base = folder / f"{load(path).BUILDS_ON.partition('@')[0]}.py"
    mine, its = sections(path), sections(base)
    changed = [x for x in mine if mine[x] != its[x]]
    assert set(changed) <= {"Configuration", "Data", "Model", "Training"}, changed
    changed.remove("Configuration")
    assert violation(path, base, changed) is None
    lines = difflib.ndiff(bare(base, *changed), bare(path, *changed))
    assert sum(line.startswith("+ ") for line in lines) < 30
    assert max(map(len, path.read_text("utf-8").splitlines())) <= 100
    head = head_of(IDEAS[name])
    assert head.startswith(f"{label_of(path)}: ")
    assert len(head.strip().split("\n\n")) > 1


@pytest.mark.parametrize("name", IDEAS)
def test_an_idea_trains(name, folder, go):
    """Also through a preset with other sizes and dropout, where it has that."""
    module = load(folder / name)
    runs = [[]] + ([["--preset", "best", "--n-layer", "2"]] if module.PRESETS else [])
    for words in runs:
        ended = go(module, *words, "--steps", "2", "--batch-size", "2")
        assert (ended.status, ended.err) == (0, ""), ended.err
    assert len(read_csv(ended.table, RESULTS)) == len(runs)


def test_labels_are_unique(folder):
    labels = [label_of(folder / name) for name in [*CHAIN, *IDEAS]]
    assert len(labels) == len(set(labels))


def test_a_learning_rate_of_its_own_is_the_best_of_its_grid():
    """Ideas that were tried at several rates, on the validation set, have the best as default."""
    m = Measured(ROOT)
    for step in m.steps.values():
        tried = m.at_rates(step)
        if step.patch and len(tried) > 1:
            losses = {rate: m.mean(step.key, condition=x).mean for rate, x in tried.items()}
            assert step.config.learning_rate == min(losses, key=losses.get), step.key


# --- How the tools take them ---
def git(root, *words):
    subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


def test_the_way_from_a_patch_to_a_script_and_back(project, tmp_path, monkeypatch):
    """git apply makes the script; renew.py makes the patch, whatever a user's git does."""
    script = add_idea(project, "shallow")
    root, patch = project.root, project.results / "ideas" / "shallow.patch"
    text = patch.read_text("utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    git(root, "init", "--quiet")
    settings = "diff.noprefix true", "diff.external false", "color.ui always", "diff.context 0"
    for setting in settings:
        git(root, "config", *setting.split())
        git(root, "config", "--global", *setting.split())
    git(root, "apply", str(patch))
    script_text = project.path(script).read_text("utf-8")
    patch.write_text("shallow: as told.\nGroup: depth\n", "utf-8")
    renew.main([script], root)
    assert patch.read_text("utf-8").split("\ndiff --git")[1] == text.split("\ndiff --git")[1]
    assert head_of(patch) == "shallow: as told.\nGroup: depth\n\n"
    project.path(script).unlink()
    with applied(root) as made:
        assert (made / f"{script}.py").read_text("utf-8") == script_text
    for name in "train-2-gone", "train-2", BASE:
        with pytest.raises(Failure, match="builds on a script in the root|train-2-gone"):
            renew.main([name], root)


def test_presets_of_ideas_are_run_only_when_named_and_compared_with_the_same(project, capsys):
    """Without names, but with flags, the chain is run."""
    script = add_idea(project, "shallow")

    def plan(*words):
        capsys.readouterr()
        reproduce.main(["--dry-run", *words], project.root)
        return capsys.readouterr().out.splitlines()[1:]

    assert [line for line in plan() if script in line] == [f"{script}-seed0"]
    assert plan(script) == plan(f"{script}.py") == plan("depth") == [f"{script}-seed0"]
    assert plan("depth@64x4") == [f"{script}@64x4-seed0"]
    assert project.steps[f"{script}@final"].builds_on == f"{LAST}@final"
    names = [name.partition("-learning_rate=")[0] for name in plan("--", "--learning-rate", "0.1")]
    assert sorted(f"{name}.py" for name in names) == sorted(CHAIN)


def test_a_script_in_the_root_wins_over_its_patch(project, capsys):
    """As after its git apply: renew.py leaves the patch as it is. No group is own steps."""
    script = add_idea(project, "mine", group="own steps")
    assert project.steps[script].config.n_layer == 3
    with applied(project.root) as folder:
        shutil.copy(folder / f"{script}.py", project.root)
    edit(project.path(script), "n_layer: int = option(3,", "n_layer: int = option(2,")
    edit(project.path(LAST), "import argparse\n", "import abc\nimport argparse\n")
    project.look_again()
    assert project.steps[script].config.n_layer == 2
    assert project.steps[script].group == "own steps"
    before = tree(project.results)
    capsys.readouterr()
    renew.main([], project.root)
    assert tree(project.results) == before
    assert capsys.readouterr().out == "patches written: 0\n"


@pytest.mark.parametrize("how", ["does not fit", "another script", "two scripts", "broken"])
def test_a_patch_that_cannot_be_applied_is_left_out(project, how, capsys):
    """With those that build on it, presets included; the others can be worked with."""
    script, other = add_idea(project, "shallow"), add_idea(project, "deep", 5)
    leaf = add_idea(project, "leaf")
    folder = project.root / "results" / "ideas"
    edit(folder / "leaf.patch", f'+BUILDS_ON = "{LAST}"', f'+BUILDS_ON = "{script}"')
    patch = folder / "shallow.patch"
    if how == "does not fit":
        edit(patch, '-"""+ GELU: ', '-"""of yesterday: ')
    elif how == "another script":
        patch = patch.rename(folder / "renamed.patch")
    elif how == "two scripts":
        patch.write_text(patch.read_text("utf-8") + "diff --git a/x b/x\n", "utf-8")
    else:
        edit(patch, f'+BUILDS_ON = "{LAST}"', "+BUILDS_ON = 1 / 0")
    capsys.readouterr()
    project.look_again()
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"note: {patch.name} is left out: ")
    assert all(line.startswith(f"note: {leaf}") for line in rest) and rest
    assert {other, f"{other}@64x4", LAST} <= project.steps.keys()
    assert not [key for key in project.steps if key.startswith((script, leaf))]
    project.page.write_text(f"It is <!-- mean {leaf}@64x4 <2 --><!-- end -->.\n")
    report.main([], project.root)
    assert "(not recorded)" in project.page.read_text()


def test_an_idea_may_copy_the_script_of_another(project, capsys):
    """Whichever comes first in the alphabet; it is left out with the other one."""
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
    assert "no train-2-shallow.py, which it copies" in capsys.readouterr().err


def test_without_git_one_line_says_so(project, monkeypatch, capsys):
    add_idea(project, "shallow")
    monkeypatch.setenv("PATH", "")
    before = tree(project.root)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        command.run(lambda: report.main([], project.root))
    assert "git" in one_error(capsys.readouterr().err)
    assert tree(project.root) == before


def test_patches_apply_inside_a_repository_too(project, monkeypatch):
    """Where the temporary folder lies in a repository, git apply would do nothing, silently."""
    script = add_idea(project, "shallow")
    monkeypatch.setattr("tempfile.tempdir", str(project.root / "data"))
    monkeypatch.setenv("GIT_DIR", str(project.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(project.root))
    with applied(project.root) as folder:
        assert "option(3," in (folder / f"{script}.py").read_text("utf-8")
    assert not folder.exists()


def test_flags_for_the_scripts_are_a_condition_for_all_commands(project, capsys):
    """However a number is written. One that a script does not take stops at once."""
    flags = "--", "--validate", "--learning-rate", "1e-3"
    rate = {"learning_rate": 0.001, "validate": True}
    for step, loss in (HEADS, 2.0), (BASE, 2.5):
        project.add_row(step, 0, loss, rate, overrides="learning_rate=0.001 validate=True")
    compare.main([HEADS, BASE, *flags], project.root)
    assert "change in test:  −0.5000 (one seed)" in capsys.readouterr().out
    assert project.cells("rates", "2 heads")["0.001"] == "2.0000<br>−0.5000 (one seed)"
    before = project.table.read_bytes()
    reproduce.main([HEADS, BASE, *flags], project.root)
    assert project.table.read_bytes() == before, "none is lacking"
    with pytest.raises(SystemExit):
        reproduce.main([BASE, "--", "--n-layer", "2"], project.root)
    assert "--n-layer" in capsys.readouterr().err


# --- Writing them anew ---
def test_what_merges_is_written_and_what_does_not_is_listed(project, capsys):
    """A conflict, and a patch that is none, stop no other; a second time nothing changes."""
    root, ideas = project.root, project.results / "ideas"
    add_idea(project, "shallow")
    narrow = add_idea(project, "narrow", 4)
    git(root, "init", "--quiet")
    git(root, "add", *CHAIN)
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a")
    (ideas / "empty.patch").write_text("empty: there is no diff.\n")
    edit(project.path(LAST), "n_layer: int = option(4,", "n_layer: int = option(6,")
    edit(project.path(LAST), "import argparse\n", "import abc\nimport argparse\n")
    before = (ideas / "shallow.patch").read_bytes()
    for written in 1, 0:
        capsys.readouterr()
        with pytest.raises(Failure, match="2 patches do not merge.*git apply --3way"):
            renew.main([], root)
        said = capsys.readouterr().out.splitlines()
        assert said[0] == f"patches written: {written}"
        assert {line.partition(" ")[0] for line in said[1:]} == {"empty.patch", "shallow.patch"}
        assert (ideas / "shallow.patch").read_bytes() == before
    with applied(root) as folder:
        paths = project.path(LAST), folder / f"{narrow}.py"
        old, new = (path.read_text("utf-8").splitlines() for path in paths)
    changed = [x for x in difflib.ndiff(old, new) if x[0] in "+-"]
    assert len(changed) == 4, "its docstring and BUILDS_ON"
