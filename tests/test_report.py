"""results/report.py: what it takes from the table, what it puts in the README, and how it refuses."""
import csv, functools, hashlib, itertools, json, math, re, shutil, struct, subprocess, sys

import pytest

import common
from common import COLUMNS, ROOT, one_error

sys.path.insert(0, str(ROOT / "results"))
import report

BASE, WIDE, HEADS, MLP, LAST = ("train-2-baseline.py", "train-2-double-embd.py", "train-2-2head.py",
                                "train-2-2head-4layer-mlp.py", "train-2.py")
README = "# Title\n\n" + "".join(f"{name}:\n\n<!-- {name}:begin -->\n<!-- {name}:end -->\n\n" for name in report.BLOCKS)

draw, diff, diffs = report.draw, report.diff, {}
real_steps = functools.cache(lambda: report.find_steps(ROOT))


class Repo:
    """A copy of the repository in a temporary folder, with a table of made-up rows and a README with empty blocks."""
    def __init__(self, root, capsys):
        self.root, self.capsys, self.rows = root, capsys, []
        self.readme, self.table = root / "README.md", root / "results" / "results.csv"
        (root / "results" / "curves").mkdir(parents=True)
        for name in common.CHAIN: shutil.copy(ROOT / name, root)
        shutil.copy(ROOT / "results" / "published.csv", root / "results")
        self.readme.write_text(README, "utf-8")
        self.save()

    def row(self, key, seed=0, test=2.0, **changes):
        """Add a row, as a run of the step with the present source and settings writes it."""
        step = real_steps().get(key) or report.find_steps(self.root)[key]
        row = dict.fromkeys(COLUMNS, "") | {
            "script": step.path.name, "config": step.label, "preset": step.preset, "builds_on": step.builds_on or "",
            "data": "names.txt", "data_hash": step.data_hash, "seed": seed, "steps": step.settings["steps"],
            "n_embd": 1, "head_size": 1, "n_head": 1, "n_layer": 1, "params": 12345, "train": f"{test - 0.1:.6f}",
            "test": f"{test:.6f}", "test_from_2nd": f"{test - 0.2:.6f}", "seconds": 9.0, "ms_per_step": 1.5,
            "device": "cpu (Some Chip)", "threads": 1,
            "torch": "2.0", "source": step.source, "finished": "2026-01-02T03:04:05Z", "samples": '["ann", "bo"]',
            "settings": json.dumps(step.settings | {"seed": seed})} | changes
        self.rows.append(row)
        self.save()

    def save(self, path=None, rows=None):
        with open(path or self.table, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([row[column] for column in COLUMNS] for row in (self.rows if rows is None else rows))

    def main(self, *argv):
        """Exit status, stdout and stderr of report.py."""
        self.capsys.readouterr()
        status = 0
        try:
            report.main(list(map(str, argv)), root=self.root)
        except SystemExit as stop:
            status = stop.code
        return status, *self.capsys.readouterr()

    def block(self, name, *tables):
        """A block as the table gives it."""
        return report.BLOCKS[name](report.gather(tables or [self.table], self.root)[0])

    def cells(self, label, block="comparison"):
        """The row of a table in the README, by its column."""
        lines = [line.strip("| ").split(" | ") for line in self.block(block).splitlines() if line.startswith("|")]
        row, = [line for line in lines if line[0].startswith(f"[{label}]")]
        return dict(zip(lines[0], row, strict=True))

    def refuses(self, *argv):
        """The one line of a failure that changed nothing."""
        before = common.tree(self.root)
        status, _, stderr = self.main(*argv)
        assert status == 2
        assert common.tree(self.root) == before
        return one_error(stderr)


def diff_once(old, new):
    """report.diff, worked out once for the same two texts."""
    texts = old.read_bytes(), new.read_bytes()
    if texts not in diffs: diffs[texts] = diff(old, new)
    return diffs[texts]


@pytest.fixture
def repo(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda *_: None)  # slow, and looked at by the tests that have `drawing`
    monkeypatch.setattr(report, "diff", diff_once)
    return Repo(tmp_path / "repo", capsys)


@pytest.fixture
def drawing(repo, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(report, "draw", draw)


def edit(path, old, new):
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new), "utf-8")


# --- Steps ---
def test_order_of_the_real_scripts():
    keys = list(report.find_steps(ROOT))
    own = [key for key in keys if key.split()[0] not in common.CHAIN]  # a user's steps stand between ours
    assert [key for key in keys if key not in own] == [*common.CHAIN, *(f"{LAST} --preset {name}" for name in (
        "64x4", "dropout", "20k", "final"))]


def test_published_figures_are_of_steps_that_exist():
    rows = report.read_csv(ROOT / "results" / "published.csv", ["script", "preset", "train", "test"], {})
    assert {report.key_of(row) for row in rows} <= report.find_steps(ROOT).keys()
    assert len(rows) == 12
    assert all(float(row["train"]) > 1 and float(row["test"]) > 1 for row in rows)


def test_a_copied_script_appears_in_its_place(repo):
    path = repo.root / "train-2 own.py"
    shutil.copy(repo.root / LAST, path)
    edit(path, 'BUILDS_ON = "train-2-2head-4layer-mlp-ln-rope.py"', f'BUILDS_ON = "{LAST}"')
    edit(path, "F.gelu(self.fc(x))", "F.silu(self.fc(x))")
    for seed, test, own in (0, 2.0, 1.9), (1, 2.1, 2.02):
        repo.row(LAST, seed, test)
        repo.row(path.name, seed, own)
    lines = [line for line in repo.block("comparison").splitlines() if line.startswith("| [")]
    assert [line.split("]")[0][3:] for line in lines[-2:]] == ["+ GELU (train-2)", "+ GELU (train-2 own)"]  # same label
    assert "(train-2%20own.py)" in lines[-1]
    assert "−0.0900<br>−0.2171 to +0.0371<br>*may be zero*" in lines[-1]  # -0.1, -0.08: 12.706 * 0.01
    own = repo.block("chain").split("<details>")[-1]
    assert "\n@@ Model @@\n" in own
    assert [line for line in own.splitlines() if "F." in line] == [
        "-        x = F.gelu(self.fc(x))  # (B, T, 4 * n_embd)",
        "+        x = F.silu(self.fc(x))  # (B, T, 4 * n_embd)"]
    assert "\n     def forward(self, x):\n-" in own  # a line of context
    assert "own" not in repo.block("scaling")  # its presets, never run


def test_shorter_branch_first(repo):
    shutil.copy(repo.root / WIDE, repo.root / "train-2-a.py")
    shutil.copy(repo.root / WIDE, repo.root / "train-2-z.py")
    edit(repo.root / "train-2-a.py", f'BUILDS_ON = "{BASE}"', f'BUILDS_ON = "{WIDE}"')
    order = list(report.find_steps(repo.root))
    assert order[:5] == [BASE, "train-2-z.py", WIDE, "train-2-a.py", HEADS]


def test_circles_and_loose_ends(repo):
    edit(repo.root / BASE, "BUILDS_ON = None", f'BUILDS_ON = "{HEADS}"')
    assert f"circle: {HEADS} -> {BASE} -> {HEADS}" in repo.refuses("--check")
    edit(repo.root / BASE, f'BUILDS_ON = "{HEADS}"', 'BUILDS_ON = "train-2-gone.py"')
    assert "train-2-gone.py" in repo.refuses("--check")
    edit(repo.root / BASE, 'BUILDS_ON = "train-2-gone.py"', "BUILDS_ON = 1 / 0")
    assert BASE in repo.refuses("--check")


# --- Tables ---
def test_check_passes_when_untouched_and_finds_an_edited_figure(repo):
    repo.row(BASE, test=2.34567)
    assert repo.main()[0] == 0
    assert repo.main("--check")[0] == 0
    assert "| 2.3457 |" in repo.readme.read_text("utf-8")
    edit(repo.readme, "| 2.3457 |", "| 2.3456 |")
    line = repo.readme.read_text("utf-8").split("2.3456")[0].count("\n") + 1
    before = common.tree(repo.root)
    status, stdout, stderr = repo.main("--check")
    assert status == 1 and common.tree(repo.root) == before
    one_error(stderr)
    place, readme, table = stdout.splitlines()
    assert place == f"block comparison, line {line}:"
    assert "| 2.3456 |" in readme and "README" in readme and "| 2.3457 |" in table
    assert repo.main()[0] == 0 and repo.main("--check")[0] == 0


def test_check_looks_at_every_block(repo):
    repo.row(LAST)
    assert repo.main()[0] == 0
    for name in report.BLOCKS: edit(repo.readme, f"<!-- {name}:end -->", f"more of {name}\n<!-- {name}:end -->")
    status, stdout, _ = repo.main("--check")
    assert status == 1
    assert [line.split(",")[0] for line in stdout.splitlines()[::3]] == [f"block {name}" for name in report.BLOCKS]
    assert [line.split()[-1] for line in stdout.splitlines()[1::3]] == list(report.BLOCKS)


@pytest.mark.parametrize("old, new, word", [
    ("<!-- runs:begin -->\n", "", "runs"), ("<!-- runs:end -->", "", "runs"),
    ("<!-- runs:end -->", "<!-- runs:end -->\n<!-- runs:end -->", "runs"),
    ("<!-- runs:begin -->\n<!-- runs:end -->", "<!-- runs:end -->\n<!-- runs:begin -->\n", "runs"),
    ("<!-- runs:begin -->\n", "<!-- runs:begin -->\n<!-- speed:begin -->\n", "speed")])
def test_markers(repo, old, new, word):
    edit(repo.readme, old, new)
    assert word in repo.refuses()


def test_newest_row_counts_present_source_first(repo):
    repo.row(BASE, test=2.1, finished="2026-01-03T00:00:00Z")
    repo.row(BASE, test=2.2, finished="2026-01-02T00:00:00Z")
    assert repo.cells("baseline")["test"] == "2.1000"
    repo.row(BASE, test=2.3, finished="2026-01-03T00:00:00Z")  # as new, and further down
    assert repo.cells("baseline")["test"] == "2.3000"
    repo.row(BASE, test=2.4, finished="2026-01-04T00:00:00Z", source="another")
    cells = repo.cells("baseline")
    assert cells["test"] == "2.3000" and cells["seeds"] == "1" and "†" not in cells["step"]
    status, stdout, _ = repo.main("--all")
    assert status == 0
    header, *lines = stdout.splitlines()
    assert [line[header.index("test "):].split()[0] for line in lines] == ["2.1000", "2.2000", "2.4000"]
    assert ["stale" in line for line in lines] == [False, False, True]


def test_stale_rows_are_marked(repo):
    repo.row(BASE)
    repo.row(HEADS)
    assert "†" not in repo.block("comparison") and "stale" not in repo.block("runs")
    repo.rows[0]["source"] = "another"
    repo.save()
    assert repo.cells("baseline")["step"].endswith("†")
    heads = repo.cells("2 heads")
    assert "†" not in heads["step"] and "†" in heads["change in test"]
    assert "\n† " in repo.block("comparison") and "1 stale" in repo.block("runs")


def test_rows_with_other_defaults_are_stale(repo):
    repo.row(BASE, threads=2)
    settings = json.loads(repo.rows[0]["settings"])
    repo.rows[0]["settings"] = json.dumps(settings | {"seed": 7, "threads": 9})  # these two make no other run
    repo.save()
    assert "†" not in repo.cells("baseline")["step"]
    repo.rows[0]["settings"] = json.dumps(settings | {"batch_size": 33})
    repo.save()
    assert "†" in repo.cells("baseline")["step"]
    settings.pop("weight_decay")  # from before the script had this knob
    repo.rows[0]["settings"] = json.dumps(settings)
    repo.save()
    assert "†" in repo.cells("baseline")["step"]


@pytest.mark.parametrize("changes, why", [
    ({"overrides": "learning_rate=0.003"}, "other settings"), ({"data_hash": "0123456789ab"}, "other data"),
    ({"device": "cuda (Some GPU)"}, "other device"), ({"script": "train-2-gone.py"}, "no such script"),
    ({"preset": "gone"}, "no such script")])
def test_rows_that_have_no_part_in_the_comparison(repo, changes, why):
    repo.row(LAST, test=2.0)
    assert repo.main()[0] == 0
    repo.row(LAST, test=1.0, finished="2027-01-01T00:00:00Z", **changes)
    assert repo.main("--check")[0] == 0
    before = common.tree(repo.root)
    status, stdout, _ = repo.main("--all")
    header, line = stdout.splitlines()
    assert status == 0 and why in line and "1.0000" in line and common.tree(repo.root) == before


def test_overridden_knobs_do_not_make_a_row_stale(repo):
    repo.row(LAST, overrides="steps=7")
    repo.rows[0]["settings"] = json.dumps(json.loads(repo.rows[0]["settings"]) | {"steps": 7})
    repo.save()
    assert "stale" not in repo.main("--all")[1]
    repo.rows[0]["source"] = "another"
    repo.save()
    assert "stale" in repo.main("--all")[1]


def test_several_tables_are_one(repo):
    repo.row(BASE, 0, 2.1)
    repo.row(BASE, 1, 2.3)
    other = repo.root / "other.csv"
    repo.save(other, repo.rows[1:])
    repo.rows = repo.rows[:1]
    repo.save()
    assert repo.cells("baseline")["seeds"] == "1"
    assert "| 2.2000<br>±0.1414 |" in repo.block("comparison", repo.table, other)
    assert repo.main(repo.table, other)[0] == 0
    assert repo.main("--check", other, repo.table)[0] == 0
    assert repo.main("--check")[0] == 1


@pytest.mark.parametrize("text", ["", ",".join(COLUMNS) + "\n"])
def test_an_empty_table_leaves_the_published_figures(repo, drawing, text):
    repo.table.write_text(text)
    status, _, stderr = repo.main()
    assert (status, stderr) == (0, "")
    assert repo.cells("baseline") == {
        "step": f"[baseline]({BASE})", "parameters": "–", "seeds": "0", "train": "–", "test": "–",
        "test from 2nd": "–", "published test": "2.35", "change in test": "–"}
    assert repo.main("--check")[0] == 0


def test_no_scaling_without_rows_or_published_figures(repo):
    (repo.root / "results" / "published.csv").write_text("script,preset,train,test\n")
    assert repo.block("scaling") == ""
    repo.row(f"{LAST} --preset 20k")
    assert repo.cells("+ 20k steps", "scaling")["parameters"] == "12,345"
    assert "64x4" not in repo.block("scaling")


# --- What is wrong with a table ---
@pytest.mark.parametrize("column, value", [
    ("seed", "zero"), ("params", "1.5"), ("test", ""), ("test", "nan"), ("train", "inf"), ("test_unseen", "x"),
    ("ms_per_step", "-1"), ("finished", "yesterday"), ("settings", "{"), ("settings", "[]"), ("samples", "{}"),
    ("samples", '["\\ud800"]'), ("samples", "[" * 100_000), ("steps", "9" * 5000)])
def test_a_broken_field_is_named_by_line_and_column(repo, column, value):
    for seed in range(3): repo.row(BASE, seed)
    repo.rows[1][column] = value
    repo.save()
    message = repo.refuses()
    assert "results.csv, line 3, " in message and column in message


@pytest.mark.parametrize("broken", [
    b"one,two\n", b'a,"b\n', b"\0" * 3 + b"\n", b"caf\xe9\n", b'"a"b' + b"," * 27 + b"\n", b"," * 27 + b"\n",
    b"x" * 200_000 + b"\n", b"a\rb\n", (",".join(COLUMNS) + "\n").encode()])
def test_a_broken_row_is_named_by_line(repo, broken):
    for seed in range(3): repo.row(BASE, seed)
    lines = repo.table.read_bytes().splitlines(keepends=True)
    repo.table.write_bytes(b"".join(lines[:2] + [broken] + lines[2:]))
    assert "results.csv, line 3" in repo.refuses("--check")


@pytest.mark.parametrize("old, new", [(b"cpu (", b"cpu \0("), (b"cpu (", b"cpu \xff("), (b'}"\n', b"}\n")])
def test_a_row_broken_by_one_byte(repo, old, new):
    for seed in range(3): repo.row(BASE, seed)
    lines = repo.table.read_bytes().splitlines(keepends=True)
    assert lines[-1].count(old) == 1
    repo.table.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(old, new))
    assert "results.csv, line 4" in repo.refuses("--check")


def test_lines_are_counted_past_fields_of_several(repo):
    repo.row(BASE, 0, device="cpu\nof\nlines")
    repo.row(BASE, "?")
    assert "line 5, seed" in repo.refuses()


def test_tables_that_are_none(repo):
    assert "gone.csv" in repo.refuses(repo.root / "gone.csv")
    assert str(repo.root) in repo.refuses(repo.root)
    header, *rest = repo.table.read_text().split(",")
    repo.table.write_text(",".join(["other", *rest]))
    assert "foreign header" in repo.refuses()
    repo.save()
    assert "--chek" in repo.refuses("--chek")
    repo.readme.write_bytes(b"\xff")
    assert "UTF-8" in repo.refuses()
    repo.readme.unlink()
    assert "README.md" in repo.refuses("--check")


# --- Statistics ---
@pytest.mark.parametrize("df, t", [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423),
                                   (1000, 1.9623)])
def test_t_quantiles(df, t):
    assert report.t_quantile(df) == pytest.approx(t, abs=6e-5)


def test_paired_interval_by_hand(repo):
    # The changes are -0.3, -0.1 and -0.2: mean -0.2, deviation 0.1, half the interval 4.3027 * 0.1 / sqrt(3) = 0.2484.
    for seed, base, heads in (3, 2.5, 2.2), (5, 2.4, 2.3), (8, 2.6, 2.4):
        repo.row(BASE, seed, base)
        repo.row(HEADS, seed, heads)
    cells = repo.cells("2 heads")
    assert cells["change in test"] == "−0.2000<br>−0.4484 to +0.0484<br>*may be zero*<br>vs baseline"
    assert cells["test"] == "2.3000<br>±0.1000" and cells["train"] == "2.2000<br>±0.1000"
    assert repo.cells("baseline")["change in test"] == "–"
    assert "not distinguishable from zero; 3 seeds" in repo.block("chain")
    repo.row(BASE, 9, 9.0)  # a seed that only one of them has
    repo.row(HEADS, 10, 1.0)
    assert repo.cells("2 heads")["change in test"].startswith("−0.2000<br>−0.4484 to +0.0484<br>")
    assert repo.cells("2 heads")["change in test"].endswith("(3 seeds)")


def test_an_effect_that_is_distinguishable(repo):
    for seed, change in enumerate([0.1, 0.11, 0.09]):
        repo.row(BASE, seed, 2.0 + seed)
        repo.row(WIDE, seed, 2.0 + seed + change)
    assert repo.cells("double embd")["change in test"] == "+0.1000<br>+0.0752 to +0.1248"
    assert "distinguishable" not in repo.block("chain")


def test_one_seed_prints_without_interval(repo):
    repo.row(BASE, test=2.5)
    repo.row(WIDE, test=2.25)
    cells = repo.cells("double embd")
    assert (cells["seeds"], cells["test"], cells["change in test"]) == ("1", "2.2500", "−0.2500")
    assert "−0.2500 nats per character (no interval; 1 seed)" in repo.block("chain")
    repo.row(HEADS, seed=4, test=2.0)  # no seed in common
    assert repo.cells("2 heads")["change in test"] == "–"


# --- The other blocks ---
def test_samples_meaning_and_runs(repo):
    repo.row(LAST, 2, 2.0, samples='["later"]')
    repo.row(LAST, 1, 2.2, samples='["anna", ""]')
    assert repo.block("samples").strip() == "- **+ GELU**: anna, (empty)"
    meaning = repo.block("meaning")
    assert "`python train-2.py`" in meaning and "mean of 2 seeds" in meaning
    assert f"2.1000) = {math.exp(2.1):.2f}" in meaning and f"{math.exp(-2.1):.1%}" in meaning
    assert repo.block("runs") == "2 runs: seed 1, 2; cpu (Some Chip); threads: 1; torch 2.0; finished 2026-01-02"
    repo.row(f"{LAST} --preset final", 0, 1.5, samples='["zoe"]')
    assert repo.block("samples").strip().splitlines()[1] == "- **final**: zoe"
    assert "`python train-2.py --preset final`" in repo.block("meaning")


def test_chain(repo):
    chain = repo.block("chain")
    details = chain.split("<details>\n")[1:]
    assert len(details) == 8 and chain.count("</details>") == 8
    for name, text in zip(common.CHAIN, details):
        summary, rest = text.split("\n", 1)
        assert summary.startswith(f"<summary><b>{common.CHAIN[name][0]}</b>: ") and summary.endswith("</summary>")
        assert rest.startswith("\n") and rest.rstrip().endswith("\n\n</details>")  # or GitHub shows raw Markdown
        assert "Run it:" not in text and '"""Step' not in text
        assert ("\n\n```diff\n@@ " in text and "\n```\n\n</details>" in text) == (name != BASE)
    mlp = details[list(common.CHAIN).index(MLP)]
    assert {"+class MLP(nn.Module):", "+        self.mlp = MLP(config)"} <= set(mlp.splitlines())
    docstring = common.load(MLP).__doc__
    assert docstring.split("\n\n")[1].split("\nRun it")[0] in mlp


def test_the_diff_makes_one_script_of_the_other(repo):
    for script, (*_, base) in common.CHAIN.items():
        if not base: continue
        before, after = report.code_lines(ROOT / base), report.code_lines(ROOT / script)
        text = report.diff(ROOT / base, ROOT / script).splitlines()
        for sign, lines, others in ("-", before, after), ("+", after, before):
            marked = [line[1:] for line in text if line.startswith(sign)]
            rest = iter(lines)
            assert all(line in (known.rstrip() for known in rest) for line in marked)  # in their order
            assert len(lines) - len(marked) == len(others) - sum(line[:1] == "+-"[sign == "+"] for line in text)


# --- Plots ---
def curve(repo, script, seed, *points):
    name = f"{script[:-3]}-seed{seed}.csv"
    (repo.root / "results" / "curves" / name).write_text("step,train,test\n" + "".join(f"{p}\n" for p in points))


def test_a_curve_of_another_run_is_skipped(repo, drawing):
    repo.row(BASE, 0, 2.5)
    steps, _ = report.gather([repo.table], repo.root)
    row = steps[BASE].rows[0]
    assert report.read_curve(row) == []
    curve(repo, BASE, 0, "0,3.3,3.4", "5000,2.400000,2.500000")
    assert report.read_curve(row) == [(0, 3.4), (5000, 2.5)]
    for last in "5000,2.400000,2.500001", "5000,2.400001,2.500000", "4000,2.400000,2.500000", "5000,nan,2.500000", "x":
        curve(repo, BASE, 0, "0,3.3,3.4", last)
        assert report.read_curve(row) == []
    assert f"{BASE} with seed 0" in repo.main()[1]


def test_plots(repo, drawing):
    for script, seed in itertools.product((BASE, HEADS), range(2)):
        repo.row(script, seed, 2.5 + seed / 100)
        curve(repo, script, seed, "0,3.3,3.3", "2500,2.9,2.9", f"5000,{2.4 + seed / 100:.6f},{2.5 + seed / 100:.6f}")
    repo.row(WIDE, 0, 2.45)
    status, stdout, stderr = repo.main()
    assert (status, stderr) == (0, "") and stdout.count("note:") == 1
    first = {}
    for name in "loss-curves.png", "ablation.png":
        first[name] = (repo.root / "results" / name).read_bytes()
        width, height = struct.unpack(">II", first[name][16:24])
        assert first[name].startswith(b"\x89PNG") and len(first[name]) < 200_000
        assert 1400 < width < 1800 and 300 < height < width
    assert repo.main()[0] == 0
    assert {name: (repo.root / "results" / name).read_bytes() for name in first} == first  # the same bytes again
    repo.row(WIDE, 1, 2.35)
    assert repo.main()[0] == 0
    assert (repo.root / "results" / "ablation.png").read_bytes() != first["ablation.png"]
    assert list(repo.root.rglob("*.tmp")) == []


def test_labels_are_kept_apart():
    pytest.importorskip("matplotlib")
    import plots
    assert plots.apart([1.0, 5.0], 1) == [1.0, 5.0]
    assert plots.apart([1.0, 1.2, 1.2, 9.0], 1) == pytest.approx([2 / 15, 17 / 15, 32 / 15, 9.0])
    places = plots.apart([0, 0.1, 0.9, 1.0, 4.0], 0.5)
    assert all(b - a >= 0.5 - 1e-12 for a, b in zip(places, places[1:]))


# --- As a program ---
def test_a_row_that_a_script_wrote_and_a_check_without_matplotlib(repo):
    """A real run, canonical because the copied script takes a small file for names.txt, and 3 steps for its default."""
    names = b"".join(bytes([97 + i % 5, 97 + i % 3]) + b"\n" for i in range(40))
    (repo.root / "data").mkdir()
    (repo.root / "data" / "names.txt").write_bytes(names)
    path = repo.root / BASE
    text = re.sub('SHA256 = ".*"', f'SHA256 = "{hashlib.sha256(names).hexdigest()}"', path.read_text("utf-8"))
    path.write_text(text.replace("knob(5000,", "knob(3,"), "utf-8")
    repo.table.unlink()
    common.load(path, fresh=True).main(["--device", "cpu"])
    assert repo.main()[0] == 0
    cells = repo.cells("baseline")
    assert cells["seeds"] == "1" and "†" not in cells["step"] and cells["test"] != "–"
    assert len(report.read_curve(report.read_tables([repo.table])[0])) == 2
    code = ("import sys; sys.modules['matplotlib'] = None; sys.path.insert(0, sys.argv[1]); import report, pathlib; "
            "[report.main(argv, root=pathlib.Path(sys.argv[2])) for argv in (['--check'], [])]")
    command = [sys.executable, "-B", "-c", code, str(ROOT / "results"), str(repo.root)]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert result.stdout.count("is what the table") == 1
    assert result.returncode == 2 and "matplotlib" in one_error(result.stderr)
