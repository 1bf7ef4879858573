"""results/report.py: which runs count, what the pages say of them, and how they are checked."""

import os
import re
import shutil
import statistics
import sys

import pytest
from common import ROOT, tree
from tools import BASE, CHAIN, HEADS, LAST, LN, WIDE, Project, add_idea, edit, signed, write_table

sys.path.insert(0, str(ROOT / "results"))

import report
from lib import figures
from lib.command import Failure
from lib.measured import Measured
from lib.pages import fill, pages, rebuild
from lib.steps import find_steps
from lib.tables import TABLES, Condition, copies


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


@pytest.fixture
def call(project, capsys, monkeypatch):
    """report.py on the project, without figures: what it printed."""
    monkeypatch.setattr(report, "draw", lambda m: {})
    monkeypatch.setattr(report, "stale", lambda m: [])

    def run(*argv):
        capsys.readouterr()
        report.main(list(argv), project.root)
        return capsys.readouterr().out

    return run


def text_of(project, marker):
    return fill(project.measured(), marker)[0]


# --- Which rows count ---
@pytest.mark.parametrize(
    "changes, why",
    [
        ({"script": "train-2-gone"}, "no such script"),
        ({"preset": "gone"}, "preset"),
        ({"source": "0123456789ab"}, "another source"),
        ({"settings": {"batch_size": 33}}, "other defaults"),
        ({"settings": {"an_option_that_is_gone": 1}}, "other defaults"),
        ({}, "an older row of this seed counts"),
    ],
)
def test_a_row_that_counts_nowhere_is_listed_with_the_reason(project, call, changes, why):
    project.add_row(BASE, 0, 2.5)
    project.add_row(BASE, 0, 1.25, **changes)
    before = tree(project.root)
    header, line = call("--all").splitlines()
    assert header.endswith("why")
    assert "1.25" in line and why in line
    assert tree(project.root) == before
    assert project.cells("losses", "baseline")["test"] == "2.5000"


def test_the_oldest_row_of_a_seed_counts(project):
    """What its settings say of seed and threads makes no other run."""
    project.add_row(BASE, 0, 2.25, {"seed": 9, "threads": 9}, finished="2026-01-01T00:00:00Z")
    project.add_row(BASE, 0, 2.75, finished="2026-03-01T00:00:00Z")
    assert project.cells("losses", "baseline")["test"] == "2.2500"
    assert project.block("runs").startswith("1 runs: seeds 0; 2.0, cpu (Some Chip)")


def test_conditions_are_settings_a_list_a_device_and_splits(project, tmp_path):
    """Each has its own rows; where the split is left open, runs pair by split."""
    towns = tmp_path / "towns.txt"
    towns.write_text("ulm\n")
    project.add_row(HEADS, 0, 2.0)
    project.add_row(HEADS, 0, 2.1, {"validate": True}, overrides="validate=True")
    project.add_row(HEADS, 0, 2.2, data_hash="e9ba4acb1dbd")
    project.add_row(HEADS, 0, 2.3, device="cuda (Some GPU)")
    for split, seed, test in (42, 1, 2.4), (7, 0, 2.5), (7, 1, 2.7):
        words = "" if split == 42 else f"split_seed={split}"
        project.add_row(HEADS, seed, test, {"split_seed": split}, overrides=words)
    m = project.measured()

    def values(*flags):
        return m.values(HEADS, "test", Condition(*flags))

    assert values() == {0: 2.0, 1: 2.4}
    assert values("--validate") == {0: 2.1}
    assert values("--device", "cuda") == {0: 2.3}
    assert values("--split-seed", "7") == {0: 2.5, 1: 2.7}
    assert values("--split-seed", "any") == {7: pytest.approx(2.6), 42: pytest.approx(2.2)}
    digest = Condition("--data", str(towns)).data_of(m.steps[HEADS])
    project.rows[2]["data_hash"] = digest
    write_table(project.table, project.rows)
    assert project.measured().values(HEADS, "test", Condition("--data", str(towns))) == {0: 2.2}
    assert project.measured().others() == []


# --- What is made of them ---
def test_means_deviations_and_effects(project):
    base = [2.412, 2.398, 2.441, 2.377, 2.405]
    ours = [2.311, 2.352, 2.298, 2.333, 2.341]
    project.add_rows(BASE, [*base, 9.0])  # the sixth seed has no partner
    project.add_rows(HEADS, ours)
    project.add_rows(WIDE, base)
    changes = [our - its for our, its in zip(ours, base, strict=True)]
    mean = statistics.fmean(changes)
    half = 2.776445 * statistics.stdev(changes) / 5**0.5  # Student's t at df 4

    row = project.cells("comparison", "2 heads")
    assert [row[x] for x in ("width", "heads", "layers")] == ["32", "2", "1"]
    assert row["parameters"] == "12,345"
    assert row["test"] == f"{statistics.fmean(ours):.4f}"
    assert row["train"] == f"{statistics.fmean(ours) - 0.1:.4f}"
    assert row["change in test"] == f"{signed(mean)} ± {half:.4f}"
    row = project.cells("comparison", "double embd")  # which does not stand below its base
    assert row["change in test"] == "+0.0000 ± 0.0000 n.s.<br>vs baseline"
    row = project.cells("losses", "2 heads")
    assert row["seeds"] == "5"
    for column, more in {"train": -0.1, "test": 0, "from 2nd": -0.2, "unseen": 0.05}.items():
        value = f"{statistics.fmean(ours) + more:.4f}"
        assert row[column] == f"{value}<br>±{statistics.stdev(ours):.4f}"
    text = f"{mean:+.3f} ± {half:.3f}".replace("-", "−")
    assert f"against baseline: {text}." in project.block("chain")
    assert text_of(project, f"effect {HEADS} {BASE} <0") == text


@pytest.fixture
def figured(project):
    """Rows and other figures that one can work out in the head."""
    for key, seed, test, train in (BASE, 0, 2.5, 2), (BASE, 1, 2.7, 2.2), (HEADS, 0, 2, 1.75):
        project.add_row(key, seed, test, train=train)
    project.add_speeds({BASE: 2, HEADS: 3})
    now = project.steps[HEADS].fingerprint
    columns = ["script", "preset", "seed", "fingerprint", "names", "new"]
    rows = [(HEADS, "", 0, now, 100, 10), (HEADS, "", 1, now, 100, 12), (HEADS, "", 2, "old", 9, 9)]
    rows = [dict(zip(columns, row, strict=True)) for row in rows]
    write_table(project.results / "generated.csv", rows)
    models = [("bigram", 1, "", 2.4, 2.5, 2.6, 2.7), ("Kneser-Ney", 5, 0.8, 1.4, 1.5, 1.6, 1.7)]
    rows = [dict(zip(TABLES["ngram.csv"], row, strict=True)) for row in models]
    write_table(project.results / "ngram.csv", rows)
    return project


@pytest.mark.parametrize(
    "marker, text",
    [
        (f"effect {HEADS} {BASE} n.s.", "−0.500 (one seed)"),
        (f"effect {HEADS} {BASE} test-train <0", "−0.250 (one seed)"),  # 0.25 in place of 0.5
        (f"effect {BASE} kneser-ney test_from_2nd >0", "+0.800 ± 1.271"),  # t is 12.706
        ("effect kneser-ney bigram <0", "−1.000"),
        (f"mean {HEADS} <9", "2.000 (one seed)"),
        (f"mean {BASE}", "2.600 ± 1.271"),
        (f"mean {BASE} test-train >0", "+0.500 ± 0.000"),
        ("mean bigram train", "2.400"),
        ("count runs >2", "3"),
        ("count ideas", "0"),
        (f"count time:{HEADS}:{BASE}", "150%"),  # as many steps of 3 ms in place of 2
        (f"count probability:{HEADS}", "13.5%"),  # exp(-2)
        (f"count new-names:{HEADS}", "11%"),
    ],
)
def test_figures_in_sentences(figured, marker, text):
    assert text_of(figured, marker) == text


def test_without_rows_there_are_dashes_and_words_and_no_failure(project):
    assert project.cells("comparison", "2 heads")["test"] == "–"
    assert project.cells("losses", "2 heads")["change in test"] == "–"
    for marker in f"effect {HEADS} {BASE} <0", f"mean {HEADS} <0", f"count time:{HEADS}:{BASE} <0":
        assert fill(project.measured(), marker) == ("(not recorded)", None)
    for name in f"probability:{HEADS}", f"new-names:{HEADS}":
        assert fill(project.measured(), f"count {name} <0") == ("(not recorded)", None)
    assert "No run" in project.block("runs") and "No run" in project.block("samples")


def test_published_steps_stand_beside_their_reimplementation(tmp_path):
    project = Project(tmp_path / "project", CHAIN)
    script = add_idea(project, "again")
    table = project.results / "published" / "chain.csv"
    table.write_text(f"script,preset,train,test,exact,rebuilt\n{LAST},,1.9,2,1.925,{script}\n")
    for seed, loss in enumerate([2.1, 2.2]):  # 0.2 less from the 2nd letter on
        project.add_row(script, seed, loss)
        project.add_row(LAST, seed, 2.0)
    cells = [*project.cells("published", "+ GELU").values()][1:5]
    assert cells == ["1.90 / 2.00", "1.925", "1.950 ± 0.635", "1.800 ± 0.000"]
    assert text_of(project, "count replication-error") == "0.025"
    with open(table, "a") as file:
        file.write(f"{BASE},,2,2,2.5,train-2-not-run\n")
    assert text_of(project, "count replication-error") == "(not recorded)", "of all or of none"


def test_a_part_beyond_the_sum_is_paired_by_seed(tmp_path):
    project = Project(tmp_path / "project", CHAIN)
    parts = [add_idea(project, x) for x in ("token-shift", "swiglu", "rmsnorm", "final-layernorm")]
    whole = add_idea(project, "modern")
    for seed in 0, 1:
        project.add_row(LAST, seed, 2 + seed)
        for part in parts:
            project.add_row(part, seed, 1.9 + seed)
        project.add_row(whole, seed, [1.5, 2.8][seed])  # -0.5 and -0.2, with a sum of -0.4
    lines = [line.split(" | ") for line in project.block("parts").splitlines()]
    found = {cells[0].strip("| "): cells[1] for cells in lines}
    assert found["sum of the parts of modern"] == "−0.4000 ± 0.0000"
    assert found["modern beyond the sum"] == "+0.0500 ± 1.9059 n.s."


# --- Scripts ---
def test_the_chain_holds_a_question_the_explanation_and_the_whole_difference(project):
    heads, wide = project.block("chain").split("<details>")[1:]
    assert "<summary><b>2 heads</b>: Are two narrow heads better than one wide one?<" in heads
    assert project.steps[HEADS].module.__doc__.split("\n\n")[1] in heads
    assert "```diff\n" in wide and '"""' not in wide.split("```diff")[1]
    for step, text in (WIDE, wide), (HEADS, heads):
        lines = text.split("```diff\n")[1].split("\n```")[0].split("\n")
        old, new = (
            project.path(x).read_text("utf-8").split('"""', 2)[2].split("\n") for x in (BASE, step)
        )
        removed = [line[1:] for line in lines if line.startswith("-")]
        added = [line[1:] for line in lines if line.startswith("+")]
        assert sorted([*old, *added]) == sorted([*new, *removed])
        assert removed and len(added) < 40


def test_a_script_and_a_preset_of_ones_own_appear_by_themselves(project, call):
    path = project.path("train-2-own")
    shutil.copy(project.path(HEADS), path)
    edit(path, f'BUILDS_ON = "{BASE}"', f'BUILDS_ON = "{HEADS}"')
    big = '{"big": {"label": "big", "builds_on": "train-2-own", "settings": {"n_head": 4}}}'
    edit(path, "PRESETS = {}", f"PRESETS = {big}")
    project.look_again()
    project.add_row("train-2-own", 0, 2.25)
    losses = project.block("losses")
    assert "| [2 heads](train-2-2head.py) |" in losses
    assert "| [2 heads (train-2-own)](train-2-own.py) | 1 |" in losses, "it has kept its label"
    assert "[big]" not in losses, "a preset without runs"
    project.add_row("train-2-own@big", 0, 2.0)
    assert project.cells("losses", "big")["change in test"] == "−0.2500 (one seed)"


def test_a_new_preset_of_the_last_step_blocks_no_page(tmp_path, capsys):
    """An idea whose patch does not apply any more is not recorded, its presets neither."""
    project = Project(tmp_path / "project", CHAIN)
    add_idea(project, "other")
    add_idea(project, "shallow")
    edit(project.results / "ideas" / "shallow.patch", "n_embd: int =", "n_embd: float =")
    project.page.write_text("It is <!-- mean train-2-shallow@64x4 <2 --><!-- end -->.\n")
    best = '    "best": {"label": "best", "builds_on": "train-2@final", "settings": BEST},\n'
    edit(project.path(LAST), best, best + best.replace('"best"', '"new"'))
    new = rebuild(project.page, project.measured())[1]
    assert "-->(not recorded)<!--" in new
    assert "shallow.patch is left out" in capsys.readouterr().err
    assert {"train-2@new", "train-2-other@new"} <= project.measured().steps.keys()


def test_a_copy_never_takes_the_place_of_the_original(project, call, capsys):
    """Whichever is older in the table; and a file name with a blank is no script."""
    before = project.block("comparison")
    shutil.copy(project.path(HEADS), project.path("train-2-a"))
    shutil.copy(project.path(HEADS), project.path("train-2-2head copy"))
    project.look_again()
    assert "train-2-a" in project.steps and "train-2-2head copy" not in project.steps
    project.add_row(HEADS, 0, 2.5)
    project.add_row("train-2-a", 0, 2.0)
    assert copies(project.measured().rows, project.steps) == {"train-2-a": HEADS}
    assert project.cells("comparison", "2 heads")["test"] == "2.5000"
    assert len(project.block("comparison").splitlines()) == len(before.splitlines())
    call()
    err = capsys.readouterr().err
    project.look_again()
    assert "2head copy.py is left out" in capsys.readouterr().err + err


def test_the_shorter_branch_comes_first(project):
    shutil.copy(project.path(WIDE), project.path("train-2-a"))
    edit(project.path("train-2-a"), f'BUILDS_ON = "{BASE}"', f'BUILDS_ON = "{WIDE}"')
    assert [*find_steps(project.root)] == [BASE, HEADS, WIDE, "train-2-a"]


@pytest.mark.parametrize(
    "old, new, told",
    [
        (f'BUILDS_ON = "{BASE}"', 'BUILDS_ON = "train-2-gone"', "train-2-gone"),
        (f'BUILDS_ON = "{BASE}"', f'BUILDS_ON = "{HEADS}"', f"circle: {HEADS}"),
        (f'BUILDS_ON = "{BASE}"', "BUILDS_ON = 1 / 0", f"cannot load {HEADS}.py, ZeroDivision"),
        (f'BUILDS_ON = "{BASE}"', "", f"{HEADS}.py is no training script, it has no BUILDS_ON"),
        ("PRESETS = {}", 'PRESETS = {"x": {"label": "x"}}', f"{HEADS}: PRESETS"),
        ('"""2 heads: ', '"""two heads, ', "its docstring must begin with LABEL: what it is"),
    ],
)
def test_a_script_that_is_no_step_is_told(project, call, old, new, told):
    edit(project.path(HEADS), old, new)
    with pytest.raises(Failure, match=re.escape(told)):
        call("--check")


# --- Broken tables ---
@pytest.mark.parametrize(
    "column, value, told",
    [
        ("test", "nan", "line 3, test"),
        ("samples", "{}", "line 3, samples"),
        ("curve", "[[500, 2.1]]", "line 3, curve"),
        ("curve", "5", "line 3, curve"),
    ],
)
def test_a_broken_field_is_told_with_its_line(project, call, column, value, told):
    project.add_rows(BASE, [2.5, 2.0])
    project.rows[1][column] = value
    write_table(project.table, project.rows)
    with pytest.raises(Failure, match=told):
        call("--check")


@pytest.mark.parametrize(
    "damage, told",
    [
        (b"a,foreign,header\n", "foreign header"),
        (b"half,a,row\n", "line 4: 3 fields"),
        (b'"no end', "line 4"),
        (b"\xff\xfe\n", "line 4: not UTF-8"),
    ],
)
def test_a_broken_row_is_told_with_its_line(project, call, damage, told):
    project.add_row(BASE, samples='["this row",\n"has two lines"]')
    content = project.table.read_bytes()
    project.table.write_bytes(damage + content if b"header" in damage else content + damage)
    with pytest.raises(Failure, match=told):
        call("--check")


def test_other_line_ends_are_read(project):
    """CRLF, blank lines, and none at the end."""
    project.add_rows(BASE, [2.5, 2.0])
    content = project.table.read_bytes()
    for other in content.replace(b"\n", b"\r\n"), content.replace(b"\n", b"\n\n"), content.rstrip():
        project.table.write_bytes(other)
        assert project.cells("losses", "baseline")["seeds"] == "2"


# --- Writing and checking the pages ---
PAGE = f"""# A page
Text before, 2.5 and <b>all</b>.

<!-- comparison --><!-- end -->

Two heads change it by <!-- effect {HEADS} {BASE} n.s. --><!-- end -->, the
baseline has <!-- mean {BASE} --> any text <!-- end -->.
"""


def outside(text):
    """The text without what stands between markers."""
    return re.sub("-->.*?<!-- end", "--><!-- end", text, flags=re.S)


def test_only_what_stands_between_markers_is_rewritten(project, call):
    project.add_rows(BASE, [2.5, 2.6])
    project.page.write_text(PAGE, "utf-8")
    call()
    first = project.page.read_text("utf-8")
    assert outside(first) == outside(PAGE)
    assert f"<!-- effect {HEADS} {BASE} n.s. -->(not recorded)<!-- end -->" in first
    assert f"<!-- mean {BASE} -->2.550 ± 0.635<!-- end -->" in first
    call()
    assert project.page.read_text("utf-8") == first
    call("--check")


def test_check_finds_a_figure_that_was_edited_by_hand_and_changes_nothing(project, call, capsys):
    project.add_rows(BASE, [2.5, 2.6])
    project.page.write_text(PAGE, "utf-8")
    call()
    edit(project.page, "2.550 ± 0.635", "2.551 ± 0.635")
    before = tree(project.root)
    with pytest.raises(Failure) as failure:
        call("--check")
    assert failure.value.status == 1
    assert tree(project.root) == before
    said = capsys.readouterr().out
    assert f"{project.page}, line 15:" in said and "2.551" in said and "2.550" in said


def test_a_run_of_the_first_command_of_the_readme_changes_no_page(project, call):
    """A second row of a seed, by another chip; and one that trained on a GPU."""
    project.add_rows(BASE, [2.5, 2.6])
    project.page.write_text(PAGE, "utf-8")
    call()
    project.add_row(BASE, 0, 2.4, device="cpu (Another Chip)")
    project.add_row(BASE, 2, 2.4, device="cuda (Some GPU)")
    call("--check")


@pytest.mark.parametrize(
    "marker, holds",
    [
        (f"effect {HEADS} {BASE} <0", True),
        (f"effect {HEADS} {BASE} >-0.1", False),
        (f"effect {HEADS} {BASE} n.s.", False),
        (f"effect {HEADS} {BASE} <-0.07", True),
        (f"effect {HEADS} {BASE} <-0.1", False),  # the mean is below, the interval is not
        (f"effect {WIDE} {BASE} n.s.", True),
        (f"effect {WIDE} {BASE} <0", False),
        (f"mean {HEADS} <2.41", False),
        (f"mean {HEADS} >2.3", True),
        ("count runs >5", True),
        ("count runs <6", False),
    ],
)
def test_what_a_sentence_claims_is_checked(project, call, capsys, marker, holds):
    project.add_rows(BASE, [2.5, 2.51])
    project.add_rows(HEADS, [2.4, 2.405])  # -0.1025, from -0.134 to -0.071
    project.add_rows(WIDE, [2.5, 2.52])  # 0.005, from -0.059 to 0.069
    project.page.write_text(f"A sentence: <!-- {marker} --><!-- end -->.\n")
    problem = f"{project.page}, line 1: {marker!r} does not hold: it is"
    assert (f"note: {problem}" in call()) is not holds
    if holds:
        call("--check")
    else:
        with pytest.raises(Failure, match="a sentence claims"):
            call("--check")
        assert problem in capsys.readouterr().out


WRONG_MARKERS = {
    "a <!-- speed --><!-- end -->": "no block or figure 'speed'",
    f"<!-- mean {BASE} --><!-- end -->": "a figure begins a line",
    f"- <!-- mean {BASE} --><!-- end --> in a list": "a figure begins a line",
    "a <!-- mean train-2-gone --><!-- end -->": "train-2-gone",
    f"a <!-- mean {BASE} height --><!-- end -->": "is not mean A [LOSS] [CLAIM]",
    f"a <!-- effect {BASE} --><!-- end -->": "is not effect A B [LOSS] CLAIM",
    f"a <!-- effect {HEADS} {BASE} --><!-- end -->": "is not effect A B [LOSS] CLAIM",
    f"a <!-- mean {BASE} <- --><!-- end -->": "is not mean A",
    "a <!-- count sheep --><!-- end -->": "no count 'sheep'",
    f"a <!-- count time:{BASE} --><!-- end -->": "no count",
    "a <!-- count new-names:train-2-gone --><!-- end -->": "train-2-gone",
    "a <!-- group --><!-- end -->": "must be a line of its own",
    "<!-- group gone --><!-- end -->": "there is no group of ideas 'gone'",
    "<!-- losses test --><!-- end -->": "must be a line of its own: <!-- losses -->",
    "a <!--  --><!-- end -->": "no block or figure",
    "a <!-- a comment that does not end": "markers are",
    "<!-- comparison -->": "has no <!-- end -->",
    "a <!-- end -->": "markers are",
    f"a <!-- mean {BASE} --> <!-- mean {BASE} --><!-- end -->": "markers are",
}


@pytest.mark.parametrize("text, told", WRONG_MARKERS.items())
def test_a_malformed_marker_is_one_line_with_its_place(project, call, text, told):
    """And neither page is rewritten."""
    project.add_row(BASE)
    project.page.write_text(PAGE, "utf-8")
    (project.results / "README.md").write_text(f"# A page\n\n{text}\n")
    before = tree(project.root)
    with pytest.raises(Failure, match=re.escape(told)) as failure:
        call()
    assert f"{project.results / 'README.md'}, line 3:" in str(failure.value)
    assert tree(project.root) == before


def test_a_page_is_written_whole_or_not_at_all(project, call, monkeypatch):
    project.page.write_text(PAGE, "utf-8")
    before = tree(project.root)

    def full(*paths):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        call()
    assert tree(project.root) == before


def test_every_marker_of_the_real_pages_can_be_filled_without_runs(tmp_path):
    project = Project(tmp_path / "project", CHAIN)
    for page, real in zip(pages(project.root), pages(ROOT), strict=True):
        shutil.copy(real, page)
    shutil.copytree(ROOT / "results" / "ideas", project.results / "ideas")
    m = Measured(project.root)
    assert all(rebuild(page, m)[2] == [] for page in pages(project.root)), "no claim is wrong"


# --- Figures ---
def full_table(project):
    project.rows = [project.make_row(key, s, 2 + s / 9) for key in project.steps for s in (0, 1, 2)]
    rate = {"learning_rate": 0.002, "validate": True}
    words = "learning_rate=0.002 validate=True"
    project.rows += [project.make_row(key, 0, 2, rate, overrides=words) for key in (BASE, LN)]
    write_table(project.table, project.rows)
    project.add_speeds(dict.fromkeys(project.steps, 2))


def test_figures_of_an_empty_and_a_full_table(tmp_path, monkeypatch):
    """Whatever a notebook sets as the backend, and the user's own settings are."""
    import matplotlib

    monkeypatch.setitem(figures.STYLE, "savefig.dpi", 20)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    project = Project(tmp_path / "project", CHAIN)
    assert figures.draw(project.measured()) == {}
    add_idea(project, "shallow")
    full_table(project)
    drawn = figures.draw(project.measured())
    expected = "ideas learning-rates loss-curves published scaling staircase transfer"
    assert sorted(path.stem for path in drawn) == expected.split()
    assert all(png.startswith(b"\x89PNG") for png in drawn.values())
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    assert figures.draw(project.measured()) == drawn


def test_check_finds_figures_that_are_stale_or_missing_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(figures.STYLE, "savefig.dpi", 20)
    project = Project(tmp_path / "project", CHAIN)
    full_table(project)
    report.main([], project.root)
    report.main(["--check"], project.root)
    project.rows[0]["test"] = 2.2
    write_table(project.table, project.rows)
    plots = project.results / "plots"
    (plots / "scaling.png").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # not there
    lines = [f"{plots / 'staircase.png'} is stale", f"{plots / 'scaling.png'} is missing"]
    assert figures.stale(project.measured()) == lines
    with pytest.raises(Failure, match="run python results/report.py"):
        report.main(["--check"], project.root)


def test_a_changed_script_makes_its_figures_stale(tmp_path):
    """Its rows count no more."""
    project = Project(tmp_path / "project", CHAIN)
    full_table(project)
    before = figures.data_of(project.measured())
    edit(project.path(LAST), "x = F.gelu(", "x = 2 * F.gelu(")
    after = figures.data_of(project.measured())
    assert {name for name in before if before[name] != after.get(name)} >= {"staircase.png"}
