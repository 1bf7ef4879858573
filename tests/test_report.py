"""results/report.py: which runs count, what the pages say of them, and how they are checked."""

import math
import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter

import matplotlib
import pytest
from common import ROOT, tree
from tools import BASE, CHAIN, HEADS, LAST, WIDE, Project, edit, write_table

sys.path.insert(0, str(ROOT / "results"))

import report
from harness import blocks, command, pictures
from harness.command import Failure
from harness.evidence import gather
from harness.pages import pages, rebuild
from harness.scripts import find_steps


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


@pytest.fixture
def call(project, capsys, monkeypatch):
    """report.py on the project, without pictures: what it printed."""
    monkeypatch.setattr(pictures, "draw", lambda evidence: {})

    def run(*argv):
        capsys.readouterr()
        report.main(list(argv), project.root)
        return capsys.readouterr().out

    return run


def fill(project, marker):
    """What report.py puts between a marker and its end."""
    project.page.write_text(f"It is <!-- {marker} -->?<!-- end -->.\n", "utf-8")
    text, new, broken = rebuild(project.page, gather(project.root))
    return re.search("-->(.*)<!--", new, flags=re.S)[1]


def presumes(project, marker):
    """Whether the presumption of a marker holds."""
    project.page.write_text(f"It is <!-- {marker} --><!-- end -->.\n", "utf-8")
    text, new, broken = rebuild(project.page, gather(project.root))
    return not broken


# --- Which rows count ---
@pytest.mark.parametrize(
    "changes, why",
    [
        ({"overrides": "steps=7"}, "other settings"),
        ({"data_hash": "0123456789ab"}, "other data"),
        ({"device": "cuda (Some GPU)"}, "other device"),
        ({"script": "train-2-gone.py"}, "no such script"),
        ({"preset": "gone"}, "no such script or preset"),
        ({"source": "0123456789ab"}, "another source"),
        ({"settings": {"batch_size": 33}}, "other defaults"),
        ({"settings": {"a_knob_that_is_gone": 1}}, "other defaults"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_row_that_does_not_count_is_listed_with_the_reason(project, call, changes, why):
    project.add_row(BASE, 0, 2.5)
    project.add_row(BASE, 0, 1.25, **changes)
    before = tree(project.root)
    header, line = call("--all").splitlines()
    assert header.split()[-1] == "why"
    assert "1.25" in line
    assert why in line
    assert tree(project.root) == before
    assert project.cells("losses", "baseline")["test"] == "2.5000"


def test_seed_and_threads_make_no_other_run(project):
    project.add_row(BASE, 0, 2.5, threads=8, settings={"seed": 9, "threads": 8})
    assert project.cells("losses", "baseline")["seeds"] == "1"


def test_the_newest_row_of_a_seed_counts(project, call):
    project.add_row(BASE, 0, 2.25, finished="2026-03-01T00:00:00Z")
    project.add_row(BASE, 0, 2.75, finished="2026-01-01T00:00:00Z")
    project.add_row(BASE, 0, 2.95, finished="2026-04-01T00:00:00Z", source="0123456789ab")
    assert project.cells("losses", "baseline")["test"] == "2.2500"
    older, stale = call("--all").splitlines()[1:]
    assert "2.75" in older and "a newer row of this seed counts" in older
    assert "2.95" in stale and "another source" in stale


def test_a_row_counts_for_its_preset(tmp_path):
    project = Project(tmp_path / "project", CHAIN)
    project.add_row(f"{LAST} --preset 64x4", 0, 2.125)
    assert project.cells("losses", "64x4")["test"] == "2.1250"
    assert project.cells("losses", "+ GELU")["test"] == "–"


def test_runs_that_one_step_has_and_another_lacks_are_told(project, call):
    project.add_rows(BASE, [2.5, 2.4])
    project.add_row(HEADS, 0, 2.3)
    project.add_row(HEADS, 3, 2.3, source="0123456789ab")
    notes = call().splitlines()
    assert len(notes) == 3
    assert f"{BASE} lacks seed 3:" in notes[0]
    assert f"{HEADS} lacks seed 1, 3:" in notes[1]
    assert f"{WIDE} lacks seed 0, 1, 3:" in notes[2]
    assert "results/reproduce.py" in notes[0]


# --- What is made of them ---
def signed(value):
    return f"{value:+.4f}".replace("-", "−")


def test_means_deviations_and_effects(project):
    base = [2.412, 2.398, 2.441, 2.377, 2.405]
    ours = [2.311, 2.352, 2.298, 2.333, 2.341]
    project.add_rows(BASE, [*base, 9.0])  # the sixth seed has no partner
    project.add_rows(HEADS, ours)
    changes = [our - its for our, its in zip(ours, base, strict=True)]
    mean = statistics.fmean(changes)
    half = 2.776445 * statistics.stdev(changes) / math.sqrt(5)  # Student's t at df 4
    interval = f"{signed(mean - half)} to {signed(mean + half)}"

    row = project.cells("comparison", "2 heads")
    assert row["parameters"] == "12,345"
    assert row["test"] == f"{statistics.fmean(ours):.4f}"
    assert row["train"] == f"{statistics.fmean(ours) - 0.1:.4f}"
    assert row["change in test"] == f"{signed(mean)}<br>{interval}"

    row = project.cells("losses", "2 heads")
    deviation = f"<br>±{statistics.stdev(ours):.4f}"
    assert row["seeds"] == "5"
    assert row["test"] == f"{statistics.fmean(ours):.4f}{deviation}"
    assert row["from 2nd"] == f"{statistics.fmean(ours) - 0.2:.4f}{deviation}"
    assert row["unseen"] == f"{statistics.fmean(ours) + 0.05:.4f}{deviation}"
    assert f"{signed(mean)} ({interval})" in project.block("chain")
    assert fill(project, f"effect {HEADS} test") == f"{signed(mean)} ({interval})"


@pytest.mark.parametrize("mean", [0.1, -0.1])
@pytest.mark.parametrize("spread, may_be_zero", [(0.0078, False), (0.008, True)])
def test_may_be_zero_says_that_the_interval_includes_zero(project, mean, spread, may_be_zero):
    """Of two seeds the interval reaches 12.706 times the spread to either side."""
    project.add_rows(BASE, [2.0, 2.0])
    project.add_rows(WIDE, [2.0 + mean + spread, 2.0 + mean - spread])
    row = project.cells("comparison", "double embd")
    assert ("may be zero" in row["change in test"]) is may_be_zero
    assert ("may be zero" in fill(project, f"effect {WIDE} test")) is may_be_zero


def test_a_change_names_its_base_unless_it_stands_above(project):
    for key in BASE, WIDE, HEADS:
        project.add_row(key)
    assert project.cells("comparison", "2 heads")["change in test"] == "+0.0000"
    assert project.cells("comparison", "double embd")["change in test"] == "+0.0000<br>vs baseline"


def test_published_figures_stand_beside_ours(project):
    table = project.results / "published" / "chain.csv"
    table.write_text(f"script,preset,train,test,exact\n{BASE},,2.5,2.61,2.625\n{WIDE},,,2.6,\n")
    row = project.cells("losses", "baseline")
    assert (row["published"], row["its exact"]) == ("2.61", "2.625")
    row = project.cells("losses", "double embd")
    assert (row["published"], row["its exact"]) == ("2.60", "–")


def figures_project(tmp_path):
    """Rows and published figures that one can work out in the head."""
    project = Project(tmp_path / "project")
    published = f"script,preset,train,test,exact\n{BASE},,2.5,2.61,2.625\n{HEADS},,2.4,2.5,2.5\n"
    (project.results / "published" / "chain.csv").write_text(published)
    project.add_row(BASE, 0, 2.5, train=2.0, seconds=80.0)
    project.add_row(BASE, 1, 2.7, train=2.2, seconds=40.0)
    project.add_row(HEADS, 0, 2.0, train=1.75, seconds=20.0)
    project.add_row(WIDE, 0, 2.25)
    generated = {"script": HEADS, "preset": "", "fingerprint": project.steps[HEADS].fingerprint}
    generated = [generated | {"seed": seed, "names": 100, "new": 10 + seed} for seed in (0, 1)]
    fields = ["script", "preset", "seed", "fingerprint", "names", "new"]
    rows = [{name: row[name] for name in fields} for row in generated]
    rows.append(rows[0] | {"fingerprint": "of an earlier state", "new": 99})
    write_table(project.results / "generated.csv", rows)
    return project


@pytest.mark.parametrize(
    "marker, text",
    [
        (f"effect {HEADS} test", "−0.5000 (one seed)"),
        (f"effect {HEADS} test-train", "−0.2500 (one seed)"),  # a gap of 0.25 in place of 0.5
        (f"effect {HEADS} test {WIDE}", "−0.2500 (one seed)"),
        (f"mean {HEADS} test", "2.0000 (one seed)"),
        (f"mean {BASE} test", "2.6000 (1.3294 to 3.8706)"),  # 12.706 * 0.1 to either side
        (f"mean {BASE} test-train", "0.5000 (0.5000 to 0.5000)"),
        (f"each {BASE} test", "2.5000, 2.7000"),
        (f"published {BASE} test", "2.61"),
        (f"published {BASE} exact", "2.625"),
        (f"published-effect {HEADS} test", "−0.11"),
        (f"published-effect {HEADS} exact", "−0.125"),
        (f"time-share {HEADS} {BASE}", "50%"),  # of each the least disturbed run
        (f"probability {HEADS} test", "13.5%"),  # exp(-2)
        (f"new-names {HEADS}", "10.5%"),
        (f"new-names {BASE}", "(not recorded)"),
    ],
)
def test_figures_in_sentences(tmp_path, marker, text):
    assert fill(figures_project(tmp_path), marker) == text


def test_without_rows_there_are_dashes_and_words(project):
    assert project.cells("comparison", "2 heads")["test"] == "–"
    assert project.cells("losses", "2 heads")["change in test"] == "–"
    for marker in (
        f"effect {HEADS} test <0",
        f"mean {HEADS} test >9",
        f"each {HEADS} test",
        f"time-share {HEADS} {BASE}",
        f"probability {HEADS} test",
        f"new-names {HEADS}",
    ):
        assert fill(project, marker) == "(not recorded)"
        assert presumes(project, marker)
    assert "No run" in project.block("runs")
    assert project.block("samples") == ""


def test_what_was_run_is_told(project):
    project.add_row(BASE, 0, finished="2026-01-02T00:00:00Z")
    project.add_row(BASE, 4, finished="2026-02-03T00:00:00Z", torch="9.9")
    project.add_row(BASE, 5, finished="2026-09-09T00:00:00Z", torch="8", overrides="steps=7")
    text = project.block("runs")
    assert text.startswith("2 runs: seeds 0, 4; cpu (Some Chip)")
    assert "torch 2.0, 9.9" in text
    assert "2026-01-02 to 2026-02-03" in text


def test_blocks_of_the_last_step(tmp_path):
    project = Project(tmp_path / "project", CHAIN)
    project.add_row(LAST, 3, samples='["not this"]')
    project.add_row(LAST, 2, samples='["a|b", "", "*c"]')
    assert project.block("samples") == "- **+ GELU**: a\\|b, (empty), *c"
    rows = [line.strip("| ").split(" | ") for line in project.block("architecture").split("\n")]
    columns = {name: [int(n.replace(",", "")) for n in rest] for name, *rest in rows[2:]}
    assert columns["all"] == [CHAIN[LAST][5], 202_780]
    parts = ["token embedding", "attention", "MLP", "LayerNorm", "lm_head"]
    assert [sum(column) for column in zip(*(columns[x] for x in parts), strict=True)] == (
        columns["all"]
    )


def test_candidates_of_the_tuning_are_grouped_and_the_best_comes_first(tmp_path):
    project = Project(tmp_path / "project", [*CHAIN])

    def candidate(seed, test, words, **changes):
        words = f"eval_interval=9 {words} validate=True"
        settings = {"validate": True}
        key = f"{LAST} --preset 64x4"
        return project.make_row(key, seed, test, settings, overrides=words, source="old") | changes

    rows = [candidate(0, 2.5, "a=1"), candidate(0, 2.0, "b=2"), candidate(1, 2.25, "b=2")]
    rows.append(candidate(1, 1.0, "b=2", finished="2025-01-01T00:00:00Z"))  # and run again since
    write_table(project.results / "tuning.csv", rows)
    best, other = project.block("tuning").split("\n")[2:]
    assert best.startswith("| `--preset 64x4` b=2 | 160,000 | 2 |")
    assert "| 2.1250 |" in best
    assert other.startswith("| `--preset 64x4` a=1 |")
    write_table(project.results / "tuning.csv", [project.make_row(LAST)])
    with pytest.raises(Failure, match="without --validate"):
        project.block("tuning")


# --- The chain ---
def test_the_chain_holds_explanations_and_whole_differences(project):
    project.add_rows(HEADS, [2.3])
    project.add_rows(BASE, [2.4])
    first, heads, wide = project.block("chain").split("<details>")[1:]
    assert "```diff" not in first
    assert "<summary><b>2 heads</b>: two attention heads" in heads
    assert "A single head can look for one thing at a time." in heads
    assert "Run it:" not in heads
    assert "against baseline: −0.1000 (one seed)" in heads
    assert "@@ Configuration @@" in wide and "@@ Model @@" in heads
    for base, step, text in (BASE, WIDE, wide), (BASE, HEADS, heads):
        lines = text.split("```diff\n")[1].split("\n```")[0].split("\n")
        removed = Counter(line[1:] for line in lines if line.startswith("-"))
        added = Counter(line[1:] for line in lines if line.startswith("+"))
        old, new = (Counter(code(project.root / name)) for name in (base, step))
        assert old - removed + added == new
        assert (removed - old).total() == 0
        assert removed.total() < 20


def code(path):
    """The lines of a script after its docstring."""
    return path.read_text("utf-8").split('"""\n', 2)[1].split("\n")


def test_the_chain_is_the_same_where_python_drops_docstrings(project, call):
    project.page.write_text("<!-- chain --><!-- end -->\n")
    call()
    assert "A single head" in project.page.read_text("utf-8")
    program = "import sys, pathlib, report; report.main(['--check'], pathlib.Path(sys.argv[1]))"
    words = [sys.executable, "-OO", "-c", program, str(project.root)]
    subprocess.run(words, cwd=ROOT / "results", check=True, capture_output=True)


# --- Scripts ---
def copy_step(project, name, of=HEADS, **settings):
    """A copy of a script that builds on it and keeps its label."""
    path = project.root / name
    shutil.copy(project.root / of, path)
    base = find_steps(project.root)[of].builds_on
    edit(path, f'BUILDS_ON = "{base}"', f'BUILDS_ON = "{of}"')
    return path


def test_a_new_script_and_a_preset_appear_by_themselves(project):
    path = copy_step(project, "train-2 own.py")
    big = '{"big": {"label": "big one", "builds_on": "train-2 own.py", "knobs": {"n_head": 4}}}'
    edit(path, "PRESETS = {}", f"PRESETS = {big}")
    project.look_again()
    assert [*project.steps] == [BASE, WIDE, HEADS, path.name, f"{path.name} --preset big"]
    project.add_row(path.name, 0, 2.25)
    project.add_row(f"{path.name} --preset big", 0, 2.0)
    losses = project.block("losses", project.results)
    assert "| [2 heads (train-2-2head)](../train-2-2head.py) |" in losses
    assert "| [2 heads (train-2 own)](../train-2%20own.py) | 1 |" in losses
    assert project.cells("losses", "big one")["change in test"] == "−0.2500"
    assert "big one" not in project.block("comparison")
    assert project.block("chain").count("<b>2 heads (train-2 own)</b>") == 1


def test_the_shorter_branch_comes_first(project):
    copy_step(project, "train-2-a.py", of=WIDE)
    assert [*find_steps(project.root)] == [BASE, HEADS, WIDE, "train-2-a.py"]


@pytest.mark.parametrize(
    "old, new, told",
    [
        (f'BUILDS_ON = "{BASE}"', 'BUILDS_ON = "train-2-gone.py"', "train-2-gone.py"),
        (f'BUILDS_ON = "{BASE}"', f'BUILDS_ON = "{HEADS}"', f"circle: {HEADS}"),
        (f'BUILDS_ON = "{BASE}"', "BUILDS_ON = 1 / 0", f"cannot load {HEADS}, ZeroDivisionError"),
        (f'BUILDS_ON = "{BASE}"', "BUILDS_ON = (", f"cannot load {HEADS}, SyntaxError"),
        (f'BUILDS_ON = "{BASE}"', "", f"{HEADS} is no training script, it has no BUILDS_ON"),
        ("PRESETS = {}", 'PRESETS = {"x": {"label": "x"}}', f"{HEADS}: PRESETS"),
        ("PRESETS = {}", "PRESETS = []", f"{HEADS}: PRESETS"),
    ],
)
def test_a_script_that_is_no_step_is_told(project, call, old, new, told):
    edit(project.root / HEADS, old, new)
    with pytest.raises(Failure, match=re.escape(told)):
        call("--check")


# --- Broken tables ---
@pytest.mark.parametrize(
    "column, value, told",
    [
        ("test", "nan", "line 3, test"),
        ("test", "-1", "line 3, test"),
        ("train", "low", "line 3, train"),
        ("seed", "1.5", "line 3, seed"),
        ("finished", "yesterday", "line 3, finished"),
        ("samples", "{}", "line 3, samples"),
        ("settings", "[]", "line 3, settings"),
        ("settings", "{", "line 3, settings"),
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
        (b"half,a,row\n", "line 3: 3 fields"),
        (b'"no end', "line 3"),
        (b"\xff\xfe\n", "line 3: not UTF-8"),
    ],
)
def test_a_broken_row_is_told_with_its_line(project, call, damage, told):
    project.add_row(BASE)
    project.table.write_bytes(project.table.read_bytes() + damage)
    with pytest.raises(Failure, match=told):
        call("--check")


def test_a_row_of_two_lines_is_counted_as_two(project, call):
    project.add_row(BASE, samples='["a",\n"b"]')
    project.table.write_bytes(project.table.read_bytes() + b"half,a,row\n")
    with pytest.raises(Failure, match="line 4"):
        call("--check")


def test_a_foreign_header_is_told(project, call):
    project.table.write_text("seed,loss\n0,2.5\n")
    with pytest.raises(Failure, match="foreign header"):
        call("--check")


@pytest.mark.parametrize(
    "old, new", [(b"\n", b"\r\n"), (b"\n", b"\n\n")], ids=["CRLF", "blank lines"]
)
def test_other_line_ends_are_read(project, old, new):
    project.add_rows(BASE, [2.5, 2.0])
    content = project.table.read_bytes()
    project.table.write_bytes(content.replace(old, new))
    assert project.cells("losses", "baseline")["seeds"] == "2"
    project.table.write_bytes(content.rstrip())
    assert project.cells("losses", "baseline")["seeds"] == "2"


# --- Writing and checking the pages ---
PAGE = f"""# A page
Text before, 2.5 and <b>all</b>.

<!-- comparison --><!-- end -->

Two heads change it by <!-- effect {HEADS} test <0 --><!-- end -->, the
baseline has <!-- mean {BASE} test --> any text <!-- end -->.
"""


def outside(text):
    """The text without what stands between markers."""
    return re.sub("-->.*?<!-- end", "--><!-- end", text, flags=re.S)


def test_only_what_stands_between_markers_is_rewritten(project, call):
    project.add_rows(BASE, [2.5])
    project.add_rows(HEADS, [2.25])
    project.page.write_text(PAGE, "utf-8")
    call()
    first = project.page.read_text("utf-8")
    assert outside(first) == outside(PAGE)
    assert "<!-- effect train-2-2head.py test <0 -->−0.2500 (one seed)<!-- end -->" in first
    assert "<!-- mean train-2-baseline.py test -->2.5000 (one seed)<!-- end -->" in first
    assert "| [2 heads](train-2-2head.py) | 12,345 |" in first
    call()
    assert project.page.read_text("utf-8") == first


def check_fails(project, call, capsys):
    """What --check prints where it fails, which changes nothing."""
    before = tree(project.root)
    with pytest.raises(Failure) as failure:
        call("--check")
    assert failure.value.status == 1
    assert tree(project.root) == before
    return capsys.readouterr().out


def test_check_passes_where_the_pages_are_what_the_tables_give(project, call):
    project.add_rows(BASE, [2.5])
    project.page.write_text(PAGE, "utf-8")
    call()
    before = tree(project.root)
    assert "the pages are what the tables give" in call("--check")
    assert tree(project.root) == before


@pytest.mark.parametrize("figure", ["| 2.5000 |", "2.5000 (one seed)"])
def test_check_finds_a_figure_that_was_edited_by_hand(project, call, capsys, figure):
    project.add_rows(BASE, [2.5])
    project.page.write_text(PAGE, "utf-8")
    call()
    edit(project.page, figure, figure.replace("2.5", "9.9"))
    line = project.page.read_text("utf-8").split("9.9000")[0].count("\n") + 1
    said = check_fails(project, call, capsys)
    assert f"{project.page}, line {line}:" in said
    assert "9.9000" in said and "2.5000" in said
    call()
    call("--check")


def test_check_finds_a_new_row_on_either_page(project, call, capsys):
    page = project.results / "README.md"
    page.write_text(PAGE)
    project.add_rows(BASE, [2.5])
    call()
    project.add_row(BASE, 1, 2.75)
    assert str(page) in check_fails(project, call, capsys)


@pytest.mark.parametrize(
    "marker, holds",
    [
        (f"effect {HEADS} test <0", True),
        (f"effect {HEADS} test >0", False),
        (f"effect {HEADS} test zero", False),
        (f"effect {HEADS} test <-0.07", True),
        (f"effect {HEADS} test <-0.1", False),  # the mean is below, the interval is not
        (f"effect {HEADS} test >-0.2", True),
        (f"effect {WIDE} test zero", True),
        (f"effect {WIDE} test <0", False),
        (f"effect {WIDE} test >0", False),
        (f"mean {HEADS} test <2.5", True),
        (f"mean {HEADS} test <2.41", False),
        (f"each {HEADS} test >2.39", True),
        (f"each {HEADS} test <2.405", False),
        (f"probability {HEADS} test <0.1", True),
        (f"published {BASE} exact >2.36", False),
    ],
)
def test_what_a_sentence_presumes_is_checked(project, call, capsys, marker, holds):
    project.add_rows(BASE, [2.5, 2.51])
    project.add_rows(HEADS, [2.4, 2.405])  # -0.1025, from -0.134 to -0.071
    project.add_rows(WIDE, [2.5, 2.52])  # 0.005, from -0.059 to 0.069
    project.page.write_text(f"A sentence: <!-- {marker} --><!-- end -->.\n")
    said = call()
    assert ("presumes" in said) is not holds
    if holds:
        call("--check")
    else:
        assert f"line 1: {marker}: it is" in check_fails(project, call, capsys)


@pytest.mark.parametrize(
    "text, told",
    [
        ("a <!-- speed --><!-- end -->", "no block or figure 'speed'"),
        ("<!-- comparison -->", "no <!-- end -->"),
        ("a <!-- end -->", "no marker"),
        (f"<!-- mean {BASE} test --><!-- end -->", "a figure begins a line"),
        ("a <!-- mean train-2-gone.py test --><!-- end -->", "train-2-gone.py"),
        (f"a <!-- mean {BASE}@big test --><!-- end -->", f"{BASE}@big"),
        (f"a <!-- mean {BASE} height --><!-- end -->", "height"),
        (f"a <!-- mean {BASE} label --><!-- end -->", "label"),
        (f"a <!-- mean {BASE} --><!-- end -->", f"mean {BASE}"),
        (f"a <!-- mean {BASE} test <- --><!-- end -->", f"mean {BASE} test <-"),
        ("a <!--  --><!-- end -->", "no block or figure"),
        (f"a <!-- effect {BASE} test --><!-- end -->", f"effect {BASE} test"),
    ],
)
def test_a_marker_that_cannot_be_filled_is_told_with_page_and_line(project, call, text, told):
    project.add_row(BASE)
    project.page.write_text(f"# A page\n\n{text}\n")
    before = tree(project.root)
    with pytest.raises(Failure, match=re.escape(told)) as failure:
        call()
    assert f"{project.page}, line 3:" in str(failure.value)
    assert tree(project.root) == before


def test_nothing_is_written_where_one_page_cannot_be_made(project, call):
    project.page.write_text(PAGE, "utf-8")
    (project.results / "README.md").write_text("a <!-- speed --><!-- end -->")
    with pytest.raises(Failure, match="speed"):
        call()
    assert project.page.read_text() == PAGE


def test_a_page_is_written_whole_or_not_at_all(project, call, monkeypatch):
    project.page.write_text(PAGE, "utf-8")
    before = tree(project.root)

    def full(*paths):
        raise OSError("no space left on device")

    monkeypatch.setattr(command.os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        call()
    assert tree(project.root) == before


def test_a_file_is_complete_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(command.os, "replace", lambda old, new: seen.append(old.read_bytes()))
    command.write_whole(tmp_path / "folder" / "page.md", b"all of it")
    assert seen == [b"all of it"]


# --- The real pages ---
@pytest.mark.parametrize("recorded", [False, True], ids=["without runs", "with runs"])
def test_every_marker_of_the_real_pages_can_be_filled(tmp_path, recorded):
    project = Project(tmp_path / "project", CHAIN)
    for page, real in zip(pages(project.root), pages(ROOT), strict=True):
        shutil.copy(real, page)
    if recorded:
        project.rows = [project.make_row(key, s) for key in project.steps for s in (0, 1, 2)]
        write_table(project.table, project.rows)
    evidence = gather(project.root)
    rebuilt = "".join(rebuild(page, evidence)[1] for page in pages(project.root))
    lacking = set(re.findall(r"<!-- (\S+)[^>]* -->\(not recorded\)", rebuilt))
    assert lacking == ({"new-names"} if recorded else lacking)
    for block in blocks.BLOCKS:
        assert f"<!-- {block} -->" in rebuilt, f"no page has the block {block}"


def test_the_real_pages_can_be_rebuilt():
    evidence = gather(ROOT)
    for page in pages(ROOT):
        old, new, broken = rebuild(page, evidence)
        assert outside(new) == outside(old)


# --- Pictures ---
@pytest.fixture
def small_pictures(monkeypatch):
    """Few pixels: what is drawn is the same."""
    monkeypatch.setitem(pictures.STYLE, "savefig.dpi", 20)


def add_curve(project, key, seed, losses):
    """The curve of a run, which ends with the test loss of its row."""
    steps = project.steps[key].config.steps
    points = [
        {"step": steps * (i + 1) // len(losses), "train": loss, "test": loss}
        for i, loss in enumerate(losses)
    ]
    path = project.steps[key].file("curves", seed, ".csv", project.results)
    write_table(path, points)


def draw(project):
    return pictures.draw(gather(project.root))


CURVES = ["loss-curves.png", "comparison.png", "scaling.png"]


def test_pictures_of_an_empty_a_partial_and_a_full_table(tmp_path, small_pictures):
    project = Project(tmp_path / "project", CHAIN)
    seen = []

    def look():
        drawn = draw(project)
        assert [*drawn] == CURVES
        assert all(png.startswith(b"\x89PNG") for png in drawn.values())
        seen.append(drawn)

    look()
    project.add_row(BASE, 0, 2.5)
    project.add_row(LAST, 0, 2.0)
    add_curve(project, BASE, 0, [3.0, 2.5])
    add_curve(project, LAST, 0, [2.5, 2.0])
    look()
    for key in project.steps:
        for seed in 1, 2:
            project.rows.append(project.make_row(key, seed, 2.25))
            add_curve(project, key, seed, [2.75, 2.25])
    write_table(project.table, project.rows)
    look()
    for name in CURVES:
        assert len({drawn[name] for drawn in seen}) == 3, name


def test_the_same_figures_give_the_same_bytes(tmp_path, small_pictures, monkeypatch):
    """Whatever the user's own matplotlib settings are."""
    project = Project(tmp_path / "project", CHAIN)
    project.add_rows(LAST, [2.5, 2.25])
    add_curve(project, LAST, 0, [3.0, 2.5])
    add_curve(project, LAST, 1, [3.0, 2.25])
    first = draw(project)
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 30)
    assert draw(project) == first
    project.rows[0]["test_from_2nd"] = 2.2
    write_table(project.table, project.rows)
    assert draw(project)["comparison.png"] != first["comparison.png"]


def test_a_curve_of_another_run_is_left_out_and_told(tmp_path, small_pictures, capsys):
    project = Project(tmp_path / "project", CHAIN)
    empty = draw(project)["loss-curves.png"]
    project.add_row(LAST, 0, 2.0)
    add_curve(project, LAST, 0, [2.5, 2.25])  # the row says 2.0
    capsys.readouterr()
    assert draw(project)["loss-curves.png"] == empty
    assert f"{LAST} --seed 0" in capsys.readouterr().out


def test_pictures_are_written_beside_the_tables(tmp_path, small_pictures):
    project = Project(tmp_path / "project", CHAIN)
    report.main([], project.root)
    assert sorted(path.name for path in (project.results / "plots").iterdir()) == sorted(CURVES)
