"""Ideas: every patch applies, keeps the rules and trains; the tools take them as steps."""

import difflib
import re
import shutil
import subprocess
import sys

import pytest
from common import ROOT, bare, load, one_error, read_table, sections, tree, violation
from tools import BASE, CHAIN, HEADS, LAST, ROPE, edit, miniature, write_table

sys.path.insert(0, str(ROOT / "results"))

import renew
import report
import reproduce
import sample
from harness import canvas, command, effect_pictures, pictures
from harness.command import Failure
from harness.effects import family
from harness.evidence import gather
from harness.figures import resolve
from harness.ideas import applied, group_of, head_of, patches
from harness.stats import interval, signed

IDEAS = patches(ROOT)


@pytest.fixture(scope="module")
def folder():
    """The scripts and those that the patches make."""
    with applied(ROOT) as folder:
        yield folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "draw", lambda evidence: {})
    return miniature(tmp_path / "project", [*CHAIN])


def add_idea(project, name, layers=3, group="depth"):
    """The name of an idea, whose patch is made in the project as the README says."""
    script, root = f"train-2-{name}.py", project.root
    shutil.copy(project.path(LAST), root / script)
    edit(root / script, '"""+ GELU: ', f'"""{name}: ')
    edit(root / script, f'BUILDS_ON = "{ROPE}"', f'BUILDS_ON = "{LAST}"')
    edit(root / script, "n_layer: int = option(4,", f"n_layer: int = option({layers},")
    if not (root / ".git").exists():
        git(root, "init", "--quiet")
        git(root, "add", *CHAIN)
        git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "scripts")
    git(root, "add", "-N", script)
    words = "diff", "-C", "--find-copies-harder", "--", f"{LAST}.py", script
    diff = git(root, *words)
    git(root, "rm", "--quiet", "--force", "--cached", script)
    (root / script).unlink()
    patch = root / "results" / "ideas" / f"{name}.patch"
    patch.parent.mkdir(exist_ok=True)
    head = f"{name}: {layers} layers.\n" + (f"Group: {group}\n" if group else "")
    patch.write_text(f"{head}\n{diff}", "utf-8")
    project.look_again()
    return script.removesuffix(".py")


def git(root, *words):
    return subprocess.run(
        ["git", *words], cwd=root, check=True, capture_output=True, text=True
    ).stdout


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
    assert len(read_table(ended.table)) == len(runs)


def test_labels_are_unique(folder):
    labels = [label_of(folder / name) for name in [*CHAIN, *IDEAS]]
    assert len(labels) == len(set(labels))


# --- How the tools take them ---
def test_the_commands_of_the_readme(tmp_path, folder):
    """A patch is applied, and the two lines make such a patch of the script again."""
    section = (ROOT / "README.md").read_text("utf-8").split("\n## Ideas\n")[1].split("\n## ")[0]
    apply, train, _, add, diff = re.findall("^(?:git|[.]venv).*$", section, flags=re.M)
    for name in CHAIN:
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "results" / "ideas", tmp_path / "results" / "ideas")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", *CHAIN)
    git(tmp_path, *apply.split()[1:])
    script = train.split()[-1]
    assert (tmp_path / script).read_bytes() == (folder / script).read_bytes()
    text = (tmp_path / script).read_text("utf-8")
    (tmp_path / script).rename(tmp_path / "train-2-mine.py")
    for line in add, diff:
        subprocess.run(line, shell=True, cwd=tmp_path, check=True)
    (tmp_path / "train-2-mine.py").unlink()
    with applied(tmp_path) as made:
        assert (made / "train-2-mine.py").read_text("utf-8") == text


def test_a_patch_dropped_into_the_folder_appears(project, capsys):
    """Run, compared, and nothing left behind but its results."""
    project.page.write_text("<!-- ideas --><!-- end -->\n", "utf-8")
    script = add_idea(project, "shallow")
    before = {path.name for path in project.root.iterdir()}
    reproduce.main([script], project.root)
    with applied(project.root) as folder:
        for path, seed in (
            (folder / f"{script}.py", "1"),
            (project.path(LAST), "0"),
            (project.path(LAST), "1"),
        ):
            words = ["--data", str(project.root / "data" / "names.txt"), "--device", "cpu"]
            words += ["--results-dir", str(project.results), "--seed", seed]
            load(path, fresh=True).main(words)
    report.main([], project.root)
    assert {path.name for path in project.root.iterdir()} == before
    rows = read_table(project.table)
    mine = {row["seed"]: float(row["test"]) for row in rows if row["script"] == script}
    its = {r["seed"]: float(r["test"]) for r in rows if (r["script"], r["preset"]) == (LAST, "")}
    assert mine.keys() == its.keys() == {"0", "1"}
    change = sum(mine[seed] - its[seed] for seed in mine) / 2
    page = project.page.read_text("utf-8")
    assert "#### Depth\n" in page
    (line,) = [line for line in page.splitlines() if line.startswith("| [shallow]")]
    assert line.startswith("| [shallow](results/ideas/shallow.patch) | + GELU | ")
    assert f"{change:+.4f} (".replace("-", "−") in line
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
    script = add_idea(project, "mine", group=None)
    assert group_of(patches(project.root)[f"{script}.py"]) == "own steps"
    assert project.steps[script].config.n_layer == 3
    with applied(project.root) as folder:
        shutil.copy(folder / f"{script}.py", project.root)
    edit(project.path(script), "n_layer: int = option(3,", "n_layer: int = option(2,")
    project.look_again()
    assert project.steps[script].config.n_layer == 2
    assert project.steps[script].group == "own steps"


@pytest.mark.parametrize("how", ["does not fit", "makes another script", "changes a script too"])
def test_a_patch_that_cannot_be_applied_is_left_out(project, how, capsys):
    """With those that build on it; the other scripts and ideas can be worked with."""
    script, other = add_idea(project, "shallow"), add_idea(project, "deep", 5)
    leaf = add_idea(project, "leaf")
    folder = project.root / "results" / "ideas"
    edit(folder / "leaf.patch", f'+BUILDS_ON = "{LAST}"', f'+BUILDS_ON = "{script}"')
    patch = folder / "shallow.patch"
    if how == "does not fit":
        edit(patch, '-"""+ GELU: ', '-"""of yesterday: ')
    elif how == "makes another script":
        patch = patch.rename(folder / "renamed.patch")
    else:
        first, *context = project.path(BASE).read_text("utf-8").split("\n")[:4]
        lines = [f"-{first}", f"+{first} ", *(f" {line}" for line in context)]
        name = f"{BASE}.py"
        more = f"diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -1,4 +1,4 @@\n"
        more += "\n".join(lines) + "\n"
        patch.write_text(patch.read_text("utf-8") + more, "utf-8")
    capsys.readouterr()
    project.look_again()
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"note: {patch} is left out: ")
    assert all(line.startswith(f"note: {leaf}") for line in rest) and rest
    assert other in project.steps and LAST in project.steps
    assert not {script, leaf} & project.steps.keys()


def test_without_git_one_line_says_so(project, monkeypatch, capsys):
    add_idea(project, "shallow")
    monkeypatch.setenv("PATH", "")
    before = tree(project.root)
    with pytest.raises(SystemExit):
        command.run(lambda: report.main([], project.root))
    assert "git" in one_error(capsys.readouterr().err)
    assert tree(project.root) == before


def test_a_script_may_build_on_an_idea(project):
    """The one in the root, the other a patch: both are steps, and the diff is of the two."""
    script = add_idea(project, "shallow")
    with applied(project.root) as folder:
        shutil.copy(folder / f"{script}.py", project.path("train-2-mine"))
    edit(project.path("train-2-mine"), f'BUILDS_ON = "{LAST}"', f'BUILDS_ON = "{script}"')
    edit(project.path("train-2-mine"), '"""shallow: ', '"""mine: ')
    assert '\n+"""mine: ' in project.block("chain")


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
def test_what_survives_holm_is_marked(project):
    """Of two effects with intervals without zero the weaker does not survive as one of four."""
    effects = {"sure": (0.5, 0.501, 0.499), "weak": (0.3, 0.38, 0.2), "a": (0.1, -0.1, 0.05)}
    scripts = {name: add_idea(project, name) for name in [*effects, "b"]}
    for seed in range(3):
        project.add_row(LAST, seed, 2.0)
        project.add_row(scripts["b"], seed, 2 + (-0.1) ** seed)
        for name, losses in effects.items():
            project.add_row(scripts[name], seed, 2 + losses[seed])
    found, surviving = family(gather(project.root))
    assert {key for key, change in found.items() if not change.may_be_zero} == {
        scripts["sure"],
        scripts["weak"],
    }
    assert surviving == {scripts["sure"]}
    words = [resolve(gather(project.root), f"holm {scripts[x]}")[0] for x in ("sure", "weak")]
    assert words == ["survives Holm", "does not survive Holm"]
    lines = {line.split("]")[0]: line for line in project.block("ideas").splitlines()}
    assert lines["| [sure"].endswith(" | yes | – |")
    assert lines["| [weak"].endswith(" | no | – |")


def test_what_ideas_together_change_beyond_their_sum(project):
    script = {name: add_idea(project, name) for name in ("one", "other", "both")}
    for seed, losses in enumerate([(2, 1.9, 1.8, 1.75), (2.5, 2.4, 2.25, 2)]):
        for key, test in zip([LAST, *script.values()], losses, strict=True):
            project.add_row(key, seed, test)
    marker = f"beyond {script['both']} test {script['one']} {script['other']}"
    found, _ = resolve(gather(project.root), marker)  # +0.05 and -0.15
    assert found.startswith("−0.0500 (")
    project.add_row(script["both"], 2, 9)  # a seed that the others lack
    assert resolve(gather(project.root), marker)[0] == found


def tried(project):
    """The runs at other learning rates, {key: {rate: {seed: row}}}."""
    found = gather(project.root).at_rates
    return {key: {rate: at.rows for rate, at in rates.items()} for key, rates in found.items()}


def at(rate):
    """The flags of a run at a learning rate on the validation set."""
    return ["--", "--learning-rate", str(rate), "--validate"]


def test_runs_at_other_rates_are_rows_of_their_own(project, capsys):
    for rate in 1e-3, 0.5:
        reproduce.main([HEADS, *at(rate)], project.root)
    assert project.cells("losses", "2 heads")["seeds"] == "0"
    assert gather(project.root).others == []
    found = tried(project)[HEADS]
    assert {rate: [*rows] for rate, rows in found.items()} == {1e-3: [0], 0.5: [0]}
    assert all(r["settings"]["validate"] for rows in found.values() for r in rows.values())
    capsys.readouterr()
    reproduce.main([HEADS, *at("1e-3")], project.root)
    assert capsys.readouterr().out == "0 runs are lacking\n"
    assert f"{found[1e-3][0]['test']:.4f}" in project.cells("rates", "2 heads")["0.001"]
    reproduce.main([BASE, *at(1e-3)], project.root)
    base = tried(project)[BASE][1e-3]
    words = f"{signed(found[1e-3][0]['test'] - base[0]['test'])} (one seed)"
    assert words in project.cells("rates", "2 heads")["0.001"]
    assert "seed" not in project.cells("rates", "2 heads")["0.5"]
    assert resolve(gather(project.root), f"at-rate {HEADS} 0.001") == (words, None)
    edit(project.path(HEADS), "optimizer.step()", "optimizer.step()\n        pass")
    project.look_again()
    assert tried(project).keys() == {BASE}


def test_what_ideas_come_to_on_the_validation_set_is_listed(project):
    script = add_idea(project, "shallow")
    reproduce.main([script, LAST, *at(1e-3)], project.root)
    found = tried(project)
    loss, base = (found[key][1e-3][0]["test"] for key in (script, LAST))
    cells = [f"{loss:.4f}", signed(loss - base)]
    assert [*project.cells("tried", "shallow").values()][1:] == ["0.001", "1", *cells]


def test_a_learning_rate_of_its_own_is_the_best_of_its_grid():
    """Ideas that were tried at several rates, on the validation lines, have the best as default."""
    evidence = gather(ROOT)
    for key, tried in evidence.at_rates.items():
        step = evidence.steps[key]
        if step.patch and len(tried) > 1:
            losses = {rate: interval(at.values("test")).mean for rate, at in tried.items()}
            assert step.config.learning_rate == min(losses, key=losses.get), key


@pytest.mark.parametrize(
    "name, commands",
    [
        (LAST, [LAST]),
        (f"{LAST}@64x4", [f"{LAST}@64x4"]),
        ("depth", ["train-2-shallow"]),
        ("depth@64x4", ["train-2-shallow@64x4"]),
    ],
)
def test_names_choose_at_other_rates_too(project, capsys, name, commands):
    add_idea(project, "shallow")
    reproduce.main(["--dry-run", name, *at(0.1)], project.root)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines == [f"{x}-learning_rate=0.1-validate=True-seed0" for x in commands]


def test_a_flag_that_a_script_does_not_take_stops_at_once(project, capsys):
    with pytest.raises(SystemExit):
        reproduce.main([BASE, "--", "--n-layer", "2"], project.root)
    assert "--n-layer" in capsys.readouterr().err


def test_without_names_the_chain_is_run_at_other_rates(project, capsys):
    add_idea(project, "shallow")
    reproduce.main(["--dry-run", *at(0.1)], project.root)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert sorted(f"{line.partition('-learning_rate=')[0]}.py" for line in lines) == sorted(CHAIN)


# --- Writing them anew ---
def test_patches_follow_a_script_that_changed(project, capsys):
    script = add_idea(project, "shallow")
    edit(project.path(LAST), "import argparse\n", "import abc\nimport argparse\n")
    edit(project.path(LAST), '"optimizer steps")', '"steps of the optimizer")')
    renew.main([], project.root)
    assert capsys.readouterr().out == "1 patches written anew\n"
    with applied(project.root) as folder:
        old, new = (
            x.read_text("utf-8").splitlines() for x in (project.path(LAST), folder / f"{script}.py")
        )
    changed = [x for x in difflib.ndiff(old, new) if x[0] in "+-"]
    assert len(changed) == 6 and any("option(3" in line for line in changed)
    before = tree(project.results)
    renew.main([], project.root)
    assert tree(project.results) == before


def test_a_patch_without_a_head_stays_one(project):
    script = add_idea(project, "shallow")
    patch = patches(project.root)[f"{script}.py"]
    patch.write_text(patch.read_text("utf-8").split("\n\n", 1)[1], "utf-8")
    assert head_of(patch) == ""
    edit(project.path(LAST), "import argparse\n", "import abc\nimport argparse\n")
    renew.main([], project.root)
    project.look_again()
    assert project.steps[script].config.n_layer == 3
    assert project.steps[script].group == "own steps"


def test_a_patch_whose_script_lies_in_the_root_stays_as_it_is(project, capsys):
    """As after its git apply: the script wins over the patch."""
    script = add_idea(project, "shallow")
    (patch,) = patches(project.root).values()
    with applied(project.root) as folder:
        shutil.copy(folder / f"{script}.py", project.root)
    before = patch.read_bytes()
    edit(project.path(LAST), "import argparse\n", "import abc\nimport argparse\n")
    renew.main([], project.root)
    assert patch.read_bytes() == before
    assert capsys.readouterr().out == "0 patches written anew\n"


def test_a_conflict_is_told_and_nothing_written(project, capsys):
    add_idea(project, "deep", 5)
    add_idea(project, "shallow")
    edit(project.path(LAST), "n_layer: int = option(4,", "n_layer: int = option(6,")
    before = tree(project.results)
    with pytest.raises(Failure, match="deep, shallow") as failure:
        renew.main([], project.root)
    assert re.search(r"git apply --3way results/ideas/deep.patch", str(failure.value))
    assert tree(project.results) == before


# --- What the pages make of them ---
def test_the_published_steps_are_set_beside_those_that_rebuild_them(project):
    script = add_idea(project, "rebuilt")
    table = project.results / "published" / "chain.csv"
    table.write_text(f"script,preset,train,test,exact,rebuilt\n{LAST},,,,1.925,{script}\n")
    assert project.block("replication") == "No run is recorded yet."
    for seed, loss in enumerate([2.1, 2.2]):  # 0.2 less from the 2nd letter on
        project.add_row(script, seed, loss)
        project.add_row(LAST, seed, 2.0)
    line = project.block("replication").splitlines()[-1]
    assert line == "| + GELU | 1.925 | 1.9500 (1.3147 to 2.5853) | +0.025 | 1.8000 |"
    assert resolve(gather(project.root), "rebuilt")[0] == "0.025"
    with open(table, "a") as file:
        file.write(f"{BASE},,,,2.5,train-2-not-run\n")
    assert resolve(gather(project.root), "rebuilt")[0] == "(not recorded)", "of all or of none"


def test_the_pictures_appear_with_their_runs(project, monkeypatch):
    monkeypatch.setitem(canvas.STYLE, "savefig.dpi", 20)
    script = add_idea(project, "shallow")

    def drawn():
        return effect_pictures.draw(gather(project.root))

    assert drawn() == {}
    for seed in range(3):
        for key in script, f"{script}@64x4":
            project.add_row(key, seed, 1.9 + seed)
        for key in LAST, f"{LAST}@64x4":
            project.add_row(key, seed, 2.0)
    near = drawn()
    assert near.keys() == {"ideas.png", "transfer.png"}
    reproduce.main([BASE, *at(1e-3)], project.root)
    project.rows = read_table(project.table)
    assert drawn().keys() == near.keys() | {"learning-rates.png"}
    for row in project.rows:
        row["test"] = float(row["test"]) + 0.01 * (row["script"] == script)
    write_table(project.table, project.rows)
    after = drawn()
    assert all(after[name] != near[name] for name in near)


def test_figures_of_the_family(project):
    scripts = [add_idea(project, name) for name in ("a", "b")]
    for seed in range(3):
        project.add_row(LAST, seed, 2.0)
        project.add_row(scripts[0], seed, 2 + [0.1, -0.1, 0.05][seed])
        project.add_row(scripts[1], seed, 2.5 + seed / 1e4)
    two = add_idea(project, "two")
    for seed in range(2):
        project.add_row(two, seed, 2.5 + seed / 1e4)  # two seeds do not suffice
    evidence = gather(project.root)
    words = "measured", "by-chance", "surviving", "not-told-from-zero"
    assert [resolve(evidence, f"family {word}")[0] for word in words] == ["2", "0", "1", "1"]


def test_an_old_row_of_an_idea_makes_no_step_lack_its_seed(project, capsys):
    script = add_idea(project, "shallow")
    project.add_row(LAST, 0)
    project.add_row(script, 9, source="another")
    report.main([], project.root)
    lacking = [line for line in capsys.readouterr().out.splitlines() if "lacks" in line]
    assert lacking and not any("9" in line for line in lacking)


def test_effects_at_two_sizes(project):
    """Of five: one told at both sizes, one turned, one at 64x4 only, one lost, one not run."""
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
    evidence = gather(project.root)
    words = "measured", "told", "same-side", "kept", "turned", "new"
    figures = [resolve(evidence, f"two-sizes {word}")[0] for word in words]
    assert figures == ["4", "3", "2", "1", "1", "1"]
    lines = project.block("transfer").splitlines()[2:]
    assert {line[3:].split("]")[0] for line in lines} == {"news", "kept", "turns", "lost"}
    assert lines[0].endswith("| +0.5001 (+0.4999 to +0.5003) |")
