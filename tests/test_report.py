"""results/report.py: which runs count, what the pages say of them, and how they are checked."""

import csv
import re
import shutil
import sys

import pytest
import report
from common import ROOT, tree
from lib import drawings, figures
from lib.command import Failure
from lib.pages import pages, rebuild
from lib.tables import TABLES, Condition
from tools import BASE, CHAIN, HEADS, LAST, WIDE, Project, add_idea, edit, write_table


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


@pytest.fixture
def call(project, capsys, monkeypatch):
    """report.py on the project, without figures: what it printed."""
    monkeypatch.setattr(report, "draw", lambda m: {})
    monkeypatch.setattr(report, "stale", lambda m: {})

    def run(*argv):
        capsys.readouterr()
        report.main(list(argv), project.root)
        return capsys.readouterr().out

    return run


# --- Which rows count ---
def test_under_a_condition_no_step_has_a_name_that_it_contradicts(project, call):
    """With --steps 9 the baseline's row of 10,000 training steps is the baseline itself."""
    text = "name,short,label,group,builds_on,text\n"
    text += f'"{BASE},steps=10000",,ten thousand,controls,{BASE},A.\n'
    text += f'"{BASE},head_size=32",,wider head,controls,{BASE},B.\n'
    (project.results / "ideas" / "settings.csv").write_text(text, "utf-8")
    project.add_row(BASE, 0, 2.5, {"steps": 9}, overrides="steps=9")
    both = {"steps": 9, "head_size": 32}
    project.add_row(BASE, 0, 2.4, both, overrides="head_size=32 steps=9")
    printed = call("--", "--steps", "9")
    assert "ten thousand" not in printed
    assert "wider head" in printed


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"script": "train-2-gone"}, "no such script"),
        ({"source": "0123456789ab"}, "another source"),
        ({"settings": {"batch_size": 33}}, "other defaults"),
        ({"settings": {"threads": 9}}, "an older row of this seed counts"),
    ],
)
def test_a_row_that_counts_nowhere_is_listed_with_the_reason(project, call, changes, why):
    """Of the rows of a seed the oldest counts, wherever it is in the table."""
    project.add_row(BASE, 0, 1.25, finished="2026-03-01T00:00:00Z", **changes)
    project.add_row(BASE, 0, 2.5)
    header, line = call("--all").splitlines()
    assert header.endswith("why")
    assert "1.25" in line and why in line
    assert project.cells("losses", "baseline")["test"] == "2.5000"


def test_conditions_are_settings_a_list_a_device_and_splits(project, tmp_path):
    """Each has its own rows; where the split is left open, runs pair by split."""
    towns = tmp_path / "towns.txt"
    towns.write_text("ulm\n")
    digest = Condition("--data", str(towns)).data_of(project.steps[HEADS])
    project.add_row(HEADS, 0, 2.0)
    project.add_row(HEADS, 0, 2.1, {"validate": True}, overrides="validate=True")
    project.add_row(HEADS, 0, 2.2, data_hash=digest)
    project.add_row(HEADS, 0, 2.3, device="cuda (Some GPU)")
    for split, seed, test in (42, 1, 2.4), (7, 0, 2.5), (7, 1, 2.7):
        words = "" if split == 42 else f"split_seed={split}"
        project.add_row(HEADS, seed, test, {"split_seed": split}, overrides=words)
    m = project.measured()

    def values(*flags):
        return m.values(HEADS, "test", Condition(*flags))

    assert values() == {0: 2.0, 1: 2.4}
    assert values("--validate") == {0: 2.1}
    assert values("--data", str(towns)) == {0: 2.2}
    assert values("--device", "cuda") == {0: 2.3}
    assert values("--split-seed", "7") == {0: 2.5, 1: 2.7}
    assert values("--split-seed", "any") == {7: pytest.approx(2.6), 42: pytest.approx(2.2)}
    assert m.others() == []


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


def test_a_script_of_ones_own_is_on_no_page_and_says_so(project, call, capsys):
    """Nor a copy of one of the eight; under a condition it is printed, by its own name."""
    own = "train-2-a"
    shutil.copy(project.path(HEADS), project.path(own))
    shutil.copy(project.path(HEADS), project.path("train-2-2head copy"))
    project.path("train-2-half").write_text("def half(")
    project.look_again()
    notes = capsys.readouterr().err
    assert "2head copy.py is left out" in notes and "train-2-half is left out" in notes
    project.add_rows(HEADS, [2.5, 2.5, 2.5])
    project.add_rows(own, [2.25, 2.25, 2.25])
    before = project.block("comparison")
    assert own not in before + project.block("losses") + project.block("chain")
    report.main([], project.root)
    why = "3 runs count; it is on no page until it is a patch"
    assert f"note: {own}: {why}" in capsys.readouterr().err
    for seed in 0, 1, 2:
        for key, test in (own, 2.0), (HEADS, 2.5):
            project.add_row(key, seed, test + seed / 8, {"steps": 9}, overrides="steps=9")
    printed = call("--", "--steps", "9")
    (line,) = [x for x in printed.splitlines() if x.startswith(f"| [{own}](")]
    assert " | baseline | " in line and " | 2.1250 | – |" in line and "2.6250" in printed
    with pytest.raises(Failure, match="have no condition"):
        call("--check", "--", "--steps", "9")
    assert project.block("comparison") == before


# --- Tables ---
@pytest.mark.parametrize(
    "changes, damage, message",
    [
        ({"test_from_2nd": "nan"}, b"", "line 4, test_from_2nd"),
        ({"curve": "[[500, 2.1]]"}, b"", "line 4, curve"),
        ({}, b"half,a,row\n", "line 5: 3 fields"),
        ({}, b"\xff\xfe\n", "line 5: not UTF-8"),
    ],
)
def test_a_broken_table_is_reported_with_its_line(project, call, changes, damage, message):
    project.add_row(BASE, samples='["this row",\n"has two lines"]')
    project.add_row(BASE, 1, **changes)
    project.table.write_bytes(project.table.read_bytes() + damage)
    with pytest.raises(Failure, match=message):
        call("--check")


def test_a_table_as_a_spreadsheet_writes_it_and_an_empty_one_are_read(project):
    """Quoted, with a byte-order mark and the line ends of Windows."""
    project.add_row(BASE, test=2.5)
    rows = list(csv.reader(project.table.read_text("utf-8").splitlines()))
    with open(project.table, "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    assert project.measured().values(BASE) == {0: 2.5}
    project.table.write_bytes(b"")
    assert project.measured().rows == []


# --- Writing and checking the pages ---
PAGE = f"""# A page
Text before, 2.5 and <b>all</b>.

<!-- comparison --><!-- end -->

Two heads change it by <!-- effect {HEADS} {BASE} n.s. --><!-- end -->, the
baseline has <!-- mean {BASE} --> any text <!-- end -->.
"""


@pytest.fixture
def filled(project, call):
    """The text of a page that the command has filled."""
    project.add_rows(BASE, [2.5, 2.6])
    project.page.write_text(PAGE, "utf-8")
    call()
    return project.page.read_text("utf-8")


def test_only_the_text_between_markers_is_rewritten(project, call, filled):
    """And a run of one's own, of a recorded seed or on a GPU, changes no page."""
    old, new = (re.sub("-->.*?<!-- end", "", x, flags=re.S) for x in (PAGE, filled))
    assert new == old
    assert f"<!-- effect {HEADS} {BASE} n.s. -->(not recorded)<!-- end -->" in filled
    assert f"<!-- mean {BASE} -->2.550 ± 0.635<!-- end -->" in filled
    project.add_row(BASE, 0, 2.4, device="cpu (Another Chip)")
    project.add_row(BASE, 2, 2.4, device="cuda (Some GPU)")
    call("--check")
    call()
    assert project.page.read_text("utf-8") == filled


def test_check_finds_a_figure_that_was_edited_by_hand_and_changes_nothing(
    project, call, filled, capsys
):
    edit(project.page, "2.550 ± 0.635", "2.551 ± 0.635")
    before = tree(project.root)
    with pytest.raises(Failure) as failure:
        call("--check")
    assert failure.value.status == 1
    assert tree(project.root) == before
    said = capsys.readouterr().out
    assert f"{project.page}, line 15:" in said and "2.551" in said and "2.550" in said


@pytest.mark.parametrize(
    "marker, holds",
    [
        (f"effect {HEADS} {BASE} n.s.", False),
        (f"effect {HEADS} {BASE} <-0.07", True),
        (f"effect {HEADS} {BASE} <-0.1", False),  # the mean is below, the interval is not
        (f"effect {WIDE} {BASE} n.s.", True),
        (f"effect {WIDE} {BASE} <0", False),
        (f"mean {HEADS} <2.41", False),
        (f"mean {HEADS} >2.3", True),
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
    "a <!-- mean train-2-gone --><!-- end -->": "train-2-gone",
    f"a <!-- effect {HEADS} {BASE} --><!-- end -->": "is not effect A B [LOSS] CLAIM",
    "<!-- group gone --><!-- end -->": "there is no group of ideas 'gone'",
    "<!-- comparison -->": "has no <!-- end -->",
    "a <!-- end -->": "markers are",
}


@pytest.mark.parametrize("text, message", WRONG_MARKERS.items())
def test_a_malformed_marker_is_one_line_with_its_place(project, call, text, message):
    """And neither page is rewritten."""
    project.add_row(BASE)
    project.page.write_text(PAGE, "utf-8")
    (project.results / "README.md").write_text(f"# A page\n\n{text}\n")
    before = tree(project.root)
    with pytest.raises(Failure, match=re.escape(message)) as failure:
        call()
    assert f"{project.results / 'README.md'}, line 3:" in str(failure.value)
    assert "\n" not in str(failure.value)
    assert tree(project.root) == before


def test_without_runs_the_real_pages_have_dashes_and_words_and_no_wrong_claim(tmp_path):
    project = Project(tmp_path / "project", CHAIN)
    shutil.copytree(ROOT / "results" / "ideas", project.results / "ideas", dirs_exist_ok=True)
    m = project.measured()
    for page, real in zip(pages(project.root), pages(ROOT), strict=True):
        shutil.copy(real, page)
        _, text, broken = rebuild(page, m)
        assert broken == []
        assert " | – | " in text
        figures_there = re.findall(r"<!-- (?:mean|effect) .*? -->(.*?)<!-- end", text)
        assert {*figures_there} == {"(not recorded)"}


def test_candidates_are_listed_whatever_kind_of_setting_they_differ_in(tmp_path):
    """A number, a text or a flag."""
    project = Project(tmp_path / "project", CHAIN)
    steps = "    steps: int = option(5000"
    fields = '    kind: str = option("a", "a kind", low="a", high="z")\n'
    fields += '    mine: bool = option(False, "a flag", low=0)\n'
    edit(project.path(LAST), steps, fields + steps)
    key = add_idea(project, "shallow")
    project.look_again()
    for settings in {}, {"kind": "b"}, {"learning_rate": 0.5}, {"mine": True}:
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        project.add_row(key, 0, 2.0, settings | {"validate": True}, overrides=words)
    lines = [line.split(" | ")[1] for line in project.block("tried").splitlines()[2:]]
    assert lines == [
        "kind=a learning_rate=0.001 mine=False (its own)",
        "kind=b learning_rate=0.001 mine=False",
        "kind=a learning_rate=0.5 mine=False",
        "kind=a learning_rate=0.001 mine=True",
    ]


# --- Figures ---
def test_check_finds_figures_that_are_stale_or_missing(tmp_path, monkeypatch):
    """Without drawing them anew."""
    monkeypatch.setitem(drawings.STYLE, "savefig.dpi", 20)
    project = Project(tmp_path / "project", CHAIN)
    add_idea(project, "shallow")
    project.rows = [project.make_row(key, s, 2 + s / 9) for key in project.steps for s in (0, 1, 2)]
    write_table(project.table, project.rows)
    speeds = [[x.key, x.fingerprint, 2, 1.5, 1, "Chip", "2"] for x in project.steps.values()]
    speeds = [dict(zip(TABLES["speed.csv"], row, strict=True)) for row in speeds]
    write_table(project.results / "speed.csv", speeds)
    report.main([], project.root)
    drawn = sorted((project.results / "plots").glob("*.png"))
    expected = (
        "amounts by-position frontier ideas look loss-curves norms published robust staircase "
        "transfer"
    )
    assert [path.stem for path in drawn] == expected.split()
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # not there
    report.main(["--check"], project.root)
    staircase, robust = (project.results / "plots" / f"{x}.png" for x in ("staircase", "robust"))
    robust.unlink()
    edit(project.path(WIDE), "optimizer.step()", "optimizer.step()\n        pass")  # no row counts
    found = figures.stale(project.measured())
    assert {staircase, robust} <= found.keys()
    with pytest.raises(Failure, match="run python results/report.py"):
        report.main(["--check"], project.root)
