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
import sample
from lib import command
from lib.command import Failure
from lib.measured import Measured
from lib.pages import fill
from lib.steps import applied, head_of, patches
from lib.tables import RESULTS, Condition, read_csv

IDEAS = patches(ROOT)


@pytest.fixture(scope="module")
def folder():
    """The scripts and those that the patches make."""
    with applied(ROOT) as folder:
        yield folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda m: {})
    return miniature(tmp_path / "project", [*CHAIN])


# --- Every patch ---
@pytest.mark.parametrize("name", IDEAS)
def test_an_idea_keeps_the_rules(name, folder):
    """It differs from its base in Data, Model or Training, in under 30 lines of code."""
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


def label_of(path):
    """What stands in the docstring before the first colon."""
    return load(path).__doc__.partition(":")[0]


@pytest.mark.parametrize("name", IDEAS)
def test_an_idea_says_what_it_is(name, folder):
    head = head_of(IDEAS[name])
    assert head.startswith(f"{label_of(folder / name)}: ")
    assert len(head.strip().split("\n\n")) > 1, "what to expect"


@pytest.mark.parametrize("name", IDEAS)
def test_an_idea_trains(name, folder, go):
    """Also through a preset with other sizes and dropout, where it has that."""
    module = load(folder / name)
    runs = [[]] + ([["--preset", "best", "--n-layer", "2"]] if module.PRESETS else [])
    for words in runs:
        ended = go(module, *words)
        assert (ended.status, ended.err) == (0, ""), ended.err
    assert len(read_csv(ended.table, RESULTS)) == len(runs)


def test_labels_are_unique(folder):
    labels = [label_of(folder / name) for name in [*CHAIN, *IDEAS]]
    assert len(labels) == len(set(labels))


# --- How the tools take them ---
def git(root, *words):
    subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


SETTINGS = {
    "none": {},
    "diff.noprefix": {"diff.noprefix": "true"},
    "an external diff": {"diff.external": "false"},
    "colors": {"color.ui": "always"},
    "no context": {"diff.context": "0"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_way_from_a_patch_to_a_script_and_back(project, tmp_path, monkeypatch, settings):
    """git apply makes the script; renew.py makes the patch, whatever a user's git does."""
    script = add_idea(project, "shallow")
    root, patch = project.root, project.results / "ideas" / "shallow.patch"
    text, home = patch.read_text("utf-8"), tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    git(root, "init", "--quiet")
    for key, value in settings.items():
        git(root, "config", key, value)
        git(root, "config", "--global", key, value)
    if "diff.external" in settings:
        monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    subprocess.run(["git", "apply", str(patch)], cwd=root, check=True)
    script_text = project.path(script).read_text("utf-8")
    patch.write_text("shallow: as told.\nGroup: depth\n", "utf-8")
    renew.main([script], root)
    assert patch.read_text("utf-8").split("\ndiff --git")[1] == text.split("\ndiff --git")[1]
    assert head_of(patch) == "shallow: as told.\nGroup: depth\n\n"
    project.path(script).unlink()
    with applied(root) as made:
        assert (made / f"{script}.py").read_text("utf-8") == script_text


def test_a_script_that_builds_on_none_in_the_root_has_no_patch(project):
    for name in "train-2-gone", "train-2", BASE:
        with pytest.raises(Failure):
            renew.main([name], project.root)


def test_a_patch_dropped_into_the_folder_appears(project, capsys):
    """Run, compared, and nothing left behind but its results."""
    project.page.write_text("<!-- group depth -->\n<!-- end -->\n", "utf-8")
    script = add_idea(project, "shallow")
    before = {path.name for path in project.root.iterdir()}
    reproduce.main([script, LAST, "--seeds", "2"], project.root)
    report.main([], project.root)
    assert {path.name for path in project.root.iterdir()} == before
    rows = project.results_rows()
    losses = [{r["seed"]: r["test"] for r in rows if r["script"] == x} for x in (script, LAST)]
    change = sum(losses[0][seed] - losses[1][seed] for seed in (0, 1)) / 2
    page = project.page.read_text("utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("| [shallow]")]
    assert line.startswith("| [shallow](results/ideas/shallow.patch) | + GELU | ")
    assert f"{change:+.4f} ± ".replace("-", "−") in line
    capsys.readouterr()
    compare.main([f"{script}.py", LAST], project.root)
    assert f"change in test:  {change:+.4f} ± ".replace("-", "−") in capsys.readouterr().out
    reproduce.main([script], project.root)
    assert capsys.readouterr().out.endswith("0 runs are lacking\n")


def test_presets_of_ideas_are_run_only_when_named_and_compared_with_the_same(project, capsys):
    script = add_idea(project, "shallow")

    def plan(*names):
        reproduce.main([*names, "--dry-run"], project.root)
        return capsys.readouterr().out.splitlines()[1:]

    assert [line for line in plan() if script in line] == [f"{script}-seed0"]
    assert plan(script) == plan(f"{script}.py") == plan("depth") == [f"{script}-seed0"]
    assert plan("depth@64x4") == [f"{script}@64x4-seed0"]
    assert project.steps[f"{script}@final"].builds_on == f"{LAST}@final"


def test_no_group_is_own_steps_and_a_script_in_the_root_wins(project):
    script = add_idea(project, "mine", group="own steps")
    assert project.steps[script].group == "own steps"
    assert project.steps[script].config.n_layer == 3
    with applied(project.root) as folder:
        shutil.copy(folder / f"{script}.py", project.root)
    edit(project.path(script), "n_layer: int = option(3,", "n_layer: int = option(2,")
    project.look_again()
    assert project.steps[script].config.n_layer == 2
    assert project.steps[script].group == "own steps"


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
    assert "(not recorded)" in project.page.read_text() or how == "another script"


def test_an_idea_may_copy_the_script_of_another(project, capsys):
    """Whichever comes first in the alphabet."""
    first = add_idea(project, "shallow")
    with applied(project.root) as folder:
        shutil.copy(folder / f"{first}.py", project.root)
    second = add_idea(project, "again", 2, of=first)
    project.path(first).unlink()
    project.look_again()
    assert project.steps[second].config.n_layer == 2
    assert project.steps[second].builds_on == first
    git(project.root, "init", "--quiet")
    edit(project.path(LAST), "import argparse\n", "import abc\nimport argparse\n")
    (project.results / "ideas" / "shallow.patch").unlink()
    project.look_again()
    assert second not in project.steps
    assert "no train-2-shallow.py, which it copies" in capsys.readouterr().err


def test_without_git_one_line_says_so(project, monkeypatch, capsys):
    add_idea(project, "shallow")
    monkeypatch.setenv("PATH", "")
    before = tree(project.root)
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


def test_names_from_an_idea_that_reproduce_trained(project, capsys):
    script = add_idea(project, "shallow")
    reproduce.main([script], project.root)
    capsys.readouterr()
    sample.main(["train-2-shallow-seed0", "--num", "3"], project.root)
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    assert "has changed" not in captured.err


# --- The family, and other learning rates ---
def test_what_is_significant_after_holm_is_marked(project):
    """Of two effects with intervals without zero the weaker is not, as one of four.

    Controls are no part of the family, nor are ideas with two seeds.
    """
    effects = {"sure": (0.5, 0.501, 0.499), "weak": (0.3, 0.38, 0.2), "a": (0.1, -0.1, 0.05)}
    scripts = {name: add_idea(project, name) for name in [*effects, "b"]}
    scripts["control"] = add_idea(project, "control", group="controls")
    for seed in range(3):
        project.add_row(LAST, seed, 2.0)
        project.add_row(scripts["b"], seed, 2 + (-0.1) ** seed)
        project.add_row(scripts["control"], seed, 2.5 + seed / 1e4)
        for name, losses in effects.items():
            project.add_row(scripts[name], seed, 2 + losses[seed])
    m = project.measured()
    significant = {key for key, change in m.family.items() if change.significant}
    assert significant == {scripts["sure"], scripts["weak"]}
    assert m.surviving == {scripts["sure"]}
    for name, verdict in ("sure", "yes"), ("weak", "no"):
        assert project.cells("group", name, "depth")["Holm"] == verdict
    assert "Holm" not in project.block("group", "controls")
    words = "ideas", "ideas-significant", "ideas-holm", "ideas-by-chance", "controls"
    assert [fill(m, f"count {word}")[0] for word in words] == ["4", "2", "1", "0", "1"]


def at(rate):
    """The flags of a run at a learning rate on the validation set."""
    return "--validate", "--learning-rate", str(rate)


def test_runs_at_other_rates_are_rows_that_count_under_a_condition(project, capsys):
    for step, rate in (HEADS, "1e-3"), (HEADS, 0.5), (BASE, 1e-3):
        reproduce.main([step, "--", *at(rate)], project.root)
    assert project.cells("losses", "2 heads")["seeds"] == "0"
    m = project.measured()
    assert m.others() == []
    rates = m.at_rates(m.steps[HEADS])
    assert [*rates] == [1e-3, 0.5]
    change = m.effect(HEADS, BASE, condition=Condition(*at(0.001))).mean
    words = f"{change:+.4f} (one seed)".replace("-", "−")
    assert words in project.cells("rates", "2 heads")["0.001"]
    assert "seed" not in project.cells("rates", "2 heads")["0.5"]
    capsys.readouterr()
    compare.main([HEADS, BASE, "--", *at(0.001)], project.root)
    assert f"change in test:  {words}" in capsys.readouterr().out
    reproduce.main([HEADS, "--", *at("1e-3")], project.root)
    assert capsys.readouterr().out == "0 runs are lacking\n"
    edit(project.path(HEADS), "optimizer.step()", "optimizer.step()\n        pass")
    assert project.measured().at_rates(project.measured().steps[HEADS]) == {}


def test_what_ideas_come_to_on_the_validation_set_is_listed(project):
    script = add_idea(project, "shallow")
    reproduce.main([script, LAST, "--", *at(1e-3)], project.root)
    losses = {row["script"]: row["test"] for row in project.results_rows()}
    loss, base = losses[script], losses[LAST]
    cells = [f"{loss:.4f}", f"{loss - base:+.4f} (one seed)".replace("-", "−")]
    assert [*project.cells("tried", "shallow").values()][1:] == ["0.001", "1", *cells]


def test_a_flag_that_a_script_does_not_take_stops_at_once(project, capsys):
    with pytest.raises(SystemExit):
        reproduce.main([BASE, "--", "--n-layer", "2"], project.root)
    assert "--n-layer" in capsys.readouterr().err


def test_without_names_the_chain_is_run_under_a_condition(project, capsys):
    add_idea(project, "shallow")
    capsys.readouterr()
    reproduce.main(["--dry-run", "--", *at(0.1)], project.root)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert sorted(f"{line.partition('-learning_rate=')[0]}.py" for line in lines) == sorted(CHAIN)


# --- Writing them anew ---
@pytest.fixture
def repository(project):
    """The project with an idea, its scripts committed, as git needs it for merging."""
    add_idea(project, "shallow")
    git(project.root, "init", "--quiet")
    git(project.root, "add", *CHAIN)
    git(project.root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a")
    return project


def test_patches_follow_a_script_that_changed(repository, capsys):
    root = repository.root
    edit(repository.path(LAST), "import argparse\n", "import abc\nimport argparse\n")
    edit(repository.path(LAST), '"optimizer steps")', '"steps of the optimizer")')
    capsys.readouterr()
    renew.main([], root)
    assert capsys.readouterr().out == "1 patches written\n"
    with applied(root) as folder:
        paths = repository.path(LAST), folder / "train-2-shallow.py"
        old, new = (path.read_text("utf-8").splitlines() for path in paths)
    changed = [x for x in difflib.ndiff(old, new) if x[0] in "+-"]
    assert len(changed) == 6 and any("option(3" in line for line in changed)
    before = tree(repository.results)
    renew.main([], root)
    assert tree(repository.results) == before


def test_what_merges_is_written_and_what_does_not_is_listed(repository, capsys):
    """A conflict, and a patch that is none, stop no other."""
    project, ideas = repository, repository.results / "ideas"
    add_idea(project, "narrow", 4)
    (ideas / "empty.patch").write_text("empty: there is no diff.\n")
    edit(project.path(LAST), "n_layer: int = option(4,", "n_layer: int = option(6,")
    before = (ideas / "shallow.patch").read_bytes()
    capsys.readouterr()
    with pytest.raises(Failure, match="2 patches do not merge.*git apply --3way"):
        renew.main([], project.root)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "1 patches written"
    assert {line.partition(" ")[0] for line in said[1:]} == {"empty.patch", "shallow.patch"}
    assert (ideas / "shallow.patch").read_bytes() == before
    project.look_again()
    assert project.steps["train-2-narrow"].config.n_layer == 6


def test_a_patch_whose_script_lies_in_the_root_stays_as_it_is(repository, capsys):
    """As after its git apply: the script wins over the patch."""
    (patch,) = patches(repository.root).values()
    with applied(repository.root) as folder:
        shutil.copy(folder / "train-2-shallow.py", repository.root)
    before = patch.read_bytes()
    edit(repository.path(LAST), "import argparse\n", "import abc\nimport argparse\n")
    capsys.readouterr()
    renew.main([], repository.root)
    assert patch.read_bytes() == before
    assert capsys.readouterr().out == "0 patches written\n"


def test_effects_at_two_sizes(project):
    """Significant at both sizes, turned, lost, at 64x4 only, and not run there."""
    noise, wide = [0.1, -0.1, 0.05], f"{LAST}@64x4"
    told, turned = [0.5, 0.5001, 0.5002], [-0.5, -0.5001, -0.5002]
    changes = {"kept": (told, told), "turns": (told, turned), "news": (noise, told)}
    changes |= {"lost": (told, noise), "small": (told, None)}
    for seed in range(3):
        project.add_row(LAST, seed, 2.0)
        project.add_row(wide, seed, 2.0)
    for name, (here, there) in changes.items():
        script = add_idea(project, name)
        for seed in range(3):
            project.add_row(script, seed, 2.0 + here[seed])
            if there:
                project.add_row(f"{script}@64x4", seed, 2.0 + there[seed])
    words = "measured", "significant", "kept", "turned"
    m = project.measured()
    assert [fill(m, f"count transfer-{x}")[0] for x in words] == ["4", "3", "1", "1"]
    lines = project.block("transfer").splitlines()[2:]
    assert {line[3:].split("]")[0] for line in lines} == {"news", "kept", "turns", "lost"}
    assert lines[0].endswith("| +0.5001 ± 0.0002 |")


def test_a_learning_rate_of_its_own_is_the_best_of_its_grid():
    """Ideas that were tried at several rates, on the validation set, have the best as default."""
    m = Measured(ROOT)
    for step in m.steps.values():
        tried = m.at_rates(step)
        if step.patch and len(tried) > 1:
            losses = {rate: m.mean(step.key, condition=x).mean for rate, x in tried.items()}
            assert step.config.learning_rate == min(losses, key=losses.get), step.key
