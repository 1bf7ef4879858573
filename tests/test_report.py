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
from tools import BASE, CHAIN, HEADS, LAST, WIDE, Project, edit, signed, write_stub, write_table

sys.path.insert(0, str(ROOT / "results"))

import report
from harness import blocks, canvas, command, pictures
from harness.command import Failure
from harness.evidence import TABLES, gather
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
    new = rebuild(project.page, gather(project.root))[1]
    return re.search("-->(.*)<!--", new, flags=re.S)[1]


# --- Which rows count ---
@pytest.mark.parametrize(
    "changes, why",
    [
        ({"overrides": "steps=7"}, "other settings"),
        ({"data_hash": "0123456789ab"}, "other data"),
        ({"device": "cuda (Some GPU)"}, "other device"),
        ({"script": "train-2-gone"}, "no such script"),
        ({"preset": "gone"}, "preset"),
        ({"source": "0123456789ab"}, "another source"),
        ({"settings": {"batch_size": 33}}, "other defaults"),
        ({"settings": {"an_option_that_is_gone": 1}}, "other defaults"),
    ],
)
def test_a_row_that_does_not_count_is_listed_with_the_reason(project, call, changes, why):
    project.add_row(BASE, 0, 2.5)
    project.add_row(BASE, 0, 1.25, **changes)
    before = tree(project.root)
    header, line = call("--all").splitlines()
    assert header.endswith("why")
    assert "1.25" in line and why in line
    assert tree(project.root) == before
    assert project.cells("losses", "baseline")["test"] == "2.5000"


def test_the_oldest_row_of_a_seed_counts(project, call):
    """What its settings say of seed and threads makes no other run."""
    project.add_row(BASE, 0, 2.25, {"seed": 9, "threads": 9}, finished="2026-01-01T00:00:00Z")
    project.add_row(BASE, 0, 2.75, finished="2026-03-01T00:00:00Z")
    project.add_row(BASE, 0, 2.95, finished="2026-04-01T00:00:00Z", source="0123456789ab")
    assert project.cells("losses", "baseline")["test"] == "2.2500"
    newer, stale = call("--all").splitlines()[1:]
    assert "2.75" in newer and "an older row of this seed counts" in newer
    assert "2.95" in stale and "another source" in stale
    assert project.block("runs").startswith("1 runs: seeds 0; cpu (Some Chip)")


def test_runs_that_one_step_has_and_another_lacks_are_told(project, call):
    project.add_rows(BASE, [2.5, 2.4])
    project.add_row(HEADS, 0, 2.3)
    project.add_row(HEADS, 3, 2.3, source="0123456789ab")
    notes = call().splitlines()
    for note, key, seeds in zip(notes, (BASE, HEADS, WIDE), ("3", "1, 3", "0, 1, 3"), strict=True):
        told = f"{key} lacks seeds {seeds}: python results/reproduce.py --seeds 4 {key}"
        assert note == f"note: {told}"


# --- What is made of them ---
def test_means_deviations_and_effects(project):
    base = [2.412, 2.398, 2.441, 2.377, 2.405]
    ours = [2.311, 2.352, 2.298, 2.333, 2.341]
    project.add_rows(BASE, [*base, 9.0])  # the sixth seed has no partner
    project.add_rows(HEADS, ours)
    project.add_rows(WIDE, base)
    changes = [our - its for our, its in zip(ours, base, strict=True)]
    mean = statistics.fmean(changes)
    half = 2.776445 * statistics.stdev(changes) / math.sqrt(5)  # Student's t at df 4
    interval = f"{signed(mean - half)} to {signed(mean + half)}"

    row = project.cells("comparison", "2 heads")
    assert row["parameters"] == "12,345"
    assert row["test"] == f"{statistics.fmean(ours):.4f}"
    assert row["train"] == f"{statistics.fmean(ours) - 0.1:.4f}"
    assert row["change in test"] == f"{signed(mean)}<br>{interval}"
    row = project.cells("comparison", "double embd")  # which does not stand below its base
    assert row["change in test"].endswith("<br>*may be zero*<br>vs baseline")
    row = project.cells("losses", "2 heads")
    assert row["seeds"] == "5"
    for column, more in {"train": -0.1, "test": 0, "from 2nd": -0.2, "unseen": 0.05}.items():
        value = f"{statistics.fmean(ours) + more:.4f}"
        assert row[column] == f"{value}<br>±{statistics.stdev(ours):.4f}"
    assert f"{signed(mean)} ({interval})" in project.block("chain")
    assert fill(project, f"effect {HEADS} test") == f"{signed(mean)} ({interval})"


@pytest.mark.parametrize("mean", [0.1, -0.1])
@pytest.mark.parametrize("spread, doubt", [(0.0078, False), (0.008, True)])
def test_may_be_zero_says_that_the_interval_includes_zero(project, mean, spread, doubt):
    """Of two seeds the interval reaches 12.706 times the spread to either side."""
    project.add_rows(BASE, [2.0, 2.0])
    project.add_rows(HEADS, [2.0 + mean + spread, 2.0 + mean - spread])
    for text in project.block("comparison"), fill(project, f"effect {HEADS} test"):
        assert ("may be zero" in text) is doubt


def figures_project(tmp_path):
    """Rows and published figures that one can work out in the head."""
    project = Project(tmp_path / "project")
    published = (
        f"script,preset,train,test,exact,rebuilt\n{BASE},,2.5,2.61,2.625,\n{HEADS},,2.4,2.5,2.5,\n"
    )
    (project.results / "published" / "chain.csv").write_text(published)
    for key, seed, test, train in (BASE, 0, 2.5, 2), (BASE, 1, 2.7, 2.2), (HEADS, 0, 2, 1.75):
        curve = f"[[4500, 9, {test}], [5000, 9, {test}]]"
        project.add_row(key, seed, test, train=train, curve=curve)
    project.add_row(WIDE, 0, 2.25)
    project.add_speeds({BASE: 2, HEADS: 3})
    now = project.steps[HEADS].fingerprint
    columns = ["script", "preset", "seed", "fingerprint", "names", "new"]
    rows = [(HEADS, "", 0, now, 100, 10), (HEADS, "", 1, now, 100, 11), (HEADS, "", 2, "old", 9, 9)]
    rows = [dict(zip(columns, row, strict=True)) for row in rows]
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
        (f"mean {BASE} test-train", "+0.5000 (+0.5000 to +0.5000)"),
        (f"each {BASE} test", "2.5000, 2.7000"),
        (f"published {BASE} exact", "2.625"),
        (f"published-effect {HEADS} exact", "−0.125"),
        (f"time-share {HEADS} {BASE}", "150%"),  # as many steps of 3 ms in place of 2
        (f"time-to {BASE} {HEADS}", "74%"),  # 5000 steps of 2 ms, 4500 of 3 ms
        (f"probability {HEADS} test", "13.5%"),  # exp(-2)
        (f"new-names {HEADS}", "10.5%"),
    ],
)
def test_figures_in_sentences(tmp_path, marker, text):
    assert fill(figures_project(tmp_path), marker) == text


def test_the_time_to_a_loss_that_is_never_reached(tmp_path):
    with pytest.raises(Failure, match="never comes as low"):
        fill(figures_project(tmp_path), f"time-to {HEADS} {BASE}")


def test_without_rows_there_are_dashes_and_words(project):
    assert project.cells("comparison", "2 heads")["test"] == "–"
    assert project.cells("losses", "2 heads")["change in test"] == "–"
    for marker in "effect", "mean", "each", "probability":
        assert fill(project, f"{marker} {HEADS} test <0") == "(not recorded)"
    for marker in "time-share", "time-to":
        assert fill(project, f"{marker} {HEADS} {BASE}") == "(not recorded)"
    assert fill(project, f"new-names {HEADS}") == "(not recorded)"
    assert "No run" in project.block("runs")
    assert project.block("samples") == ""


def test_blocks_of_the_last_step(tmp_path):
    project = Project(tmp_path / "project", CHAIN)
    project.add_row(LAST, 3, samples='["not this"]')
    project.add_row(LAST, 2, samples='["a|b", "", "*c"]')
    assert project.block("samples") == "- **+ GELU**: a\\|b, (empty), *c"
    rows = [line.strip("| ").split(" | ") for line in project.block("architecture").split("\n")]
    columns = {name: [int(n.replace(",", "")) for n in rest] for name, *rest in rows[2:]}
    assert columns["all"] == [CHAIN[f"{LAST}.py"][5], 202_780]
    parts = [columns[x] for x in ("token embedding", "attention", "MLP", "LayerNorm", "lm_head")]
    assert [sum(column) for column in zip(*parts, strict=True)] == columns["all"]


def test_candidates_of_the_tuning_are_grouped_and_the_best_comes_first(tmp_path):
    project = Project(tmp_path / "project", CHAIN)

    def candidate(seed, test, **settings):
        settings |= {"validate": True, "eval_interval": 9}
        return project.make_row(f"{LAST}@fast", seed, test, settings, source="old")

    rows = [candidate(0, 2.5, dropout=0.5), candidate(0, 2.0), candidate(1, 2.25)]
    rows.append(rows[0] | {"test": 1.0, "finished": "2025-01-01T00:00:00Z"})  # run again since
    write_table(project.results / "tuning.csv", rows)
    best, other = project.block("tuning").split("\n")[2:]
    recipe = "grad_clip=1.0 learning_rate=0.004 lr_decay_to=0.0 steps=4000 warmup_steps=200"
    assert best.startswith(f"| `train-2` {recipe} | 128,000 | 2 |"), "the preset's settings"
    assert "| 2.1250 |" in best
    assert other.startswith(f"| `train-2` dropout=0.5 {recipe} | 128,000 | 1 |")
    assert "| 2.5000 |" in other
    write_table(project.results / "tuning.csv", [project.make_row(LAST)])
    with pytest.raises(Failure, match="without --validate"):
        project.block("tuning")


# --- The chain ---
def test_the_chain_holds_explanations_and_whole_differences(project):
    project.add_rows(HEADS, [2.3])
    project.add_rows(BASE, [2.4])
    first, heads, wide = project.block("chain").split("<details>")[1:]
    assert "```diff" not in first
    title, explained, *_ = project.steps[HEADS].module.__doc__.split("\n\n")
    assert f"<summary><b>{title.replace(':', '</b>:', 1)}</summary>\n\n{explained}\n" in heads
    assert "against baseline: −0.1000 (one seed)" in heads
    assert "@@ Configuration @@" in wide and "@@ Model @@" in heads
    for base, step, text in (BASE, WIDE, wide), (BASE, HEADS, heads):
        lines = text.split("```diff\n")[1].split("\n```")[0].split("\n")
        removed = Counter(line[1:] for line in lines if line.startswith("-"))
        added = Counter(line[1:] for line in lines if line.startswith("+"))
        old, new = (Counter(project.path(x).read_text("utf-8").split("\n")) for x in (base, step))
        assert old - removed + added == new
        assert (removed - old).total() == 0
        assert removed.total() < 40


def test_the_chain_is_the_same_where_python_drops_docstrings(tmp_path):
    write_stub(tmp_path, "train-2-stub.py")
    for page in pages(tmp_path):
        page.parent.mkdir(exist_ok=True)
        page.write_text("<!-- chain --><!-- end -->\n")
        new = rebuild(page, gather(tmp_path))[1]
        assert "What it is for." in new
        page.write_text(new, "utf-8")
    program = "import sys, pathlib, report; report.main(['--check'], pathlib.Path(sys.argv[1]))"
    words = [sys.executable, "-OO", "-c", program, str(tmp_path)]
    subprocess.run(words, cwd=ROOT / "results", check=True, capture_output=True)


# --- Scripts ---
def copy_step(project, name, of=HEADS):
    """A copy of a script that builds on it and keeps its label."""
    path = project.path(name)
    shutil.copy(project.path(of), path)
    edit(path, f'BUILDS_ON = "{BASE}"', f'BUILDS_ON = "{of}"')
    return path


def test_a_new_script_and_a_preset_appear_by_themselves(project):
    path = copy_step(project, "train-2 own.py")
    big = '{"big": {"label": "big one", "builds_on": "train-2 own", "settings": {"n_head": 4}}}'
    edit(path, "PRESETS = {}", f"PRESETS = {big}")
    project.look_again()
    assert [*project.steps] == [BASE, WIDE, HEADS, path.stem, f"{path.stem}@big"]
    project.add_row(path.stem, 0, 2.25)
    project.add_row(f"{path.stem}@big", 0, 2.0)
    losses = project.block("losses")
    assert "| [2 heads](train-2-2head.py) |" in losses
    assert "| [2 heads (train-2 own)](train-2%20own.py) | 1 |" in losses
    assert project.cells("losses", "big one")["change in test"] == "−0.2500"
    assert "big one" not in project.block("comparison")
    assert project.block("chain").count("<b>2 heads (train-2 own)</b>") == 1


def test_the_shorter_branch_comes_first(project):
    copy_step(project, "train-2-a", of=WIDE)
    assert [*find_steps(project.root)] == [BASE, HEADS, WIDE, "train-2-a"]


@pytest.mark.parametrize(
    "old, new, told",
    [
        (f'BUILDS_ON = "{BASE}"', 'BUILDS_ON = "train-2-gone"', "train-2-gone"),
        (f'BUILDS_ON = "{BASE}"', f'BUILDS_ON = "{HEADS}"', f"circle: {HEADS}"),
        (
            f'BUILDS_ON = "{BASE}"',
            "BUILDS_ON = 1 / 0",
            f"cannot load {HEADS}.py, ZeroDivisionError",
        ),
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


@pytest.mark.parametrize("file", TABLES)
def test_a_broken_small_table_is_told_by_its_name(project, call, file):
    (project.results / file).write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(Failure, match=f"{re.escape(file)} has a foreign header"):
        call("--check")


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
    assert "<!-- effect train-2-2head test <0 -->−0.2500 (one seed)<!-- end -->" in first
    assert "<!-- mean train-2-baseline test -->2.5000 (one seed)<!-- end -->" in first
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


@pytest.mark.parametrize("figure", ["| 2.5000 |", "2.5000 (one seed)"])
def test_check_finds_a_figure_that_was_edited_by_hand(project, call, capsys, figure):
    project.add_rows(BASE, [2.5])
    project.page.write_text(PAGE.replace(" <0 -->", " -->"), "utf-8")
    call()
    before = tree(project.root)
    assert "the pages are what the tables give" in call("--check")
    assert tree(project.root) == before
    edit(project.page, figure, figure.replace("2.5", "9.9"))
    line = project.page.read_text("utf-8").split("9.9000")[0].count("\n") + 1
    said = check_fails(project, call, capsys)
    assert f"{project.page}, line {line}:" in said
    assert "9.9000" in said and "2.5000" in said
    call()
    call("--check")


@pytest.mark.parametrize(
    "marker, holds",
    [
        (f"effect {HEADS} test <0", True),
        (f"effect {HEADS} test >-0.1", False),
        (f"effect {HEADS} test zero", False),
        (f"effect {HEADS} test <-0.07", True),
        (f"effect {HEADS} test <-0.1", False),  # the mean is below, the interval is not
        (f"effect {HEADS} test >-0.2", True),
        (f"effect {WIDE} test zero", True),
        (f"effect {WIDE} test <0", False),
        (f"mean {HEADS} test <2.41", False),
        (f"at-rate {HEADS} 0.001 <0", False),  # without a run
        (f"each {HEADS} test >2.39", True),
        (f"each {HEADS} test <2.405", False),
    ],
)
def test_what_a_sentence_presumes_is_checked(project, call, capsys, marker, holds):
    project.add_rows(BASE, [2.5, 2.51])
    project.add_rows(HEADS, [2.4, 2.405])  # -0.1025, from -0.134 to -0.071
    project.add_rows(WIDE, [2.5, 2.52])  # 0.005, from -0.059 to 0.069
    project.page.write_text(f"A sentence: <!-- {marker} --><!-- end -->.\n")
    said = call()
    assert (f"note: {project.page}, line 1: presumed {marker}: it is" in said) is not holds
    if holds:
        call("--check")
    else:
        assert f"line 1: presumed {marker}: it is" in check_fails(project, call, capsys)


UNPAIRED = "no <!-- end -->", "no marker"  # of which only the page is told
WRONG_MARKERS = {
    "a <!-- speed --><!-- end -->": "no block or figure 'speed'",
    f"<!-- mean {BASE} test --><!-- end -->": "a figure begins a line",
    f"  <!-- mean {BASE} test --><!-- end --> in a list": "a figure begins a line",
    "a <!-- mean train-2-gone test --><!-- end -->": "train-2-gone",
    f"a <!-- mean {BASE} height --><!-- end -->": "height",
    f"a <!-- mean {BASE} --><!-- end -->": f"mean {BASE}",
    f"a <!-- each {BASE} label --><!-- end -->": "label is not",
    f"a <!-- at-rate {BASE} abc --><!-- end -->": "abc is not",
    "a <!-- family lost --><!-- end -->": "lost is not measured",
    f"a <!-- mean {BASE} test <- --><!-- end -->": f"mean {BASE} test <-",
    "a <!--  --><!-- end -->": "no block or figure",
    "<!-- comparison -->": UNPAIRED[0],
    "a <!-- end -->": UNPAIRED[1],
}


@pytest.mark.parametrize("text, told", WRONG_MARKERS.items())
def test_a_marker_that_cannot_be_filled_is_told(project, call, text, told):
    """And neither page is rewritten."""
    project.add_row(BASE)
    project.page.write_text(PAGE, "utf-8")
    (project.results / "README.md").write_text(f"# A page\n\n{text}\n")
    before = tree(project.root)
    with pytest.raises(Failure, match=re.escape(told)) as failure:
        call()
    place = f"{project.results / 'README.md'}, line 3:"
    assert place.removesuffix(", line 3:" if told in UNPAIRED else "") in str(failure.value)
    assert tree(project.root) == before


def test_a_page_is_written_whole_or_not_at_all(project, call, monkeypatch):
    project.page.write_text(PAGE, "utf-8")
    before = tree(project.root)

    def full(*paths):
        raise OSError("no space left on device")

    monkeypatch.setattr(command.os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        call()
    assert tree(project.root) == before


# --- The real pages ---
@pytest.mark.parametrize("recorded", [False, True], ids=["without runs", "with runs"])
def test_every_marker_of_the_real_pages_can_be_filled(tmp_path, recorded):
    project = Project(tmp_path / "project", CHAIN)
    for page, real in zip(pages(project.root), pages(ROOT), strict=True):
        shutil.copy(real, page)
    shutil.copytree(ROOT / "results" / "ideas", project.results / "ideas")
    project.look_again()
    if recorded:
        project.rows = [project.make_row(key, s) for key in project.steps for s in (0, 1, 2)]
        write_table(project.table, project.rows)
        project.add_speeds(dict.fromkeys(project.steps, 2))
    evidence = gather(project.root)
    rebuilt = "".join(rebuild(page, evidence)[1] for page in pages(project.root))
    lacking = set(re.findall(r"<!-- (\S+)[^>]* -->\(not recorded\)", rebuilt))
    of_other_files = {"new-names", "counted", "time-to", "at-rate"}
    assert lacking <= of_other_files or not recorded
    assert {f"<!-- {block} -->" in rebuilt for block in blocks.BLOCKS} == {True}


# --- Pictures ---
@pytest.fixture
def small_pictures(monkeypatch):
    """Few pixels: what is drawn is the same."""
    monkeypatch.setitem(canvas.STYLE, "savefig.dpi", 20)


def draw(project):
    return pictures.draw(gather(project.root))


def test_pictures_of_an_empty_a_partial_and_a_full_table(tmp_path, small_pictures):
    project = Project(tmp_path / "project", CHAIN)
    seen = []

    def look():
        seen.append(draw(project))
        assert all(png.startswith(b"\x89PNG") for png in seen[-1].values())

    look()
    for key in BASE, LAST:
        project.add_row(key, 0, 2.0)
    project.add_speeds({LAST: 1})
    look()
    for key in project.steps:
        project.add_rows(key, [2.5, 2.25])
    project.add_speeds(dict.fromkeys(project.steps, 2))
    look()
    for name in "loss-curves.png", "comparison.png", "scaling.png":  # no scaling without times
        assert len({drawn.get(name) for drawn in seen}) == 3, name


def test_the_same_figures_give_the_same_bytes(tmp_path, small_pictures, monkeypatch):
    """Whatever the user's own matplotlib settings are."""
    project = Project(tmp_path / "project", CHAIN)
    project.add_rows(LAST, [2.5, 2.25])
    first = draw(project)
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    assert draw(project) == first
    project.rows[0]["test_from_2nd"] = 2.2
    write_table(project.table, project.rows)
    assert draw(project)["comparison.png"] != first["comparison.png"]
