"""results/report.py: what it takes from the table, what it puts in the README, and how it refuses."""

import csv, functools, hashlib, itertools, json, math, random, re, shutil, struct, subprocess, sys

import pytest

import common
from common import COLUMNS, ROOT, one_error

sys.path.insert(0, str(ROOT / "results"))
import report, scripts as tools, stats, stream

BASE, WIDE, HEADS, LAYERS, MLP, LN, ROPE, LAST = common.CHAIN
STREAM, BIGRAM = "results/stream.py", "train-2-2head-4layer.py --n-layer 0"
README = "# Title\n\n" + "".join(
    f"{name}:\n\n<!-- {name}:begin -->\n<!-- {name}:end -->\n\n" for name in report.BLOCKS
)

draw, diff, diffs = report.draw, report.diff, {}
real_steps = functools.cache(lambda: report.find_steps(ROOT))


class Repo:
    """A copy of the repository in a temporary folder, with a table of made-up rows and a README with empty blocks."""

    def __init__(self, root, capsys):
        self.root, self.capsys, self.rows = root, capsys, []
        self.readme, self.table = root / "README.md", root / "results" / "results.csv"
        (root / "results" / "curves").mkdir(parents=True)
        for name in common.CHAIN:
            shutil.copy(ROOT / name, root)
        shutil.copy(ROOT / "results" / "published.csv", root / "results")
        self.readme.write_text(README, "utf-8")
        self.save()

    def row(self, key, seed=0, test=2.0, **changes):
        """Add a row, as a run of the step with the present source and settings writes it."""
        step = real_steps().get(key) or report.find_steps(self.root)[key]
        row = (
            dict.fromkeys(COLUMNS, "")
            | {
                "script": step.path.name,
                "config": step.label,
                "preset": step.preset,
                "builds_on": step.builds_on or "",
                "data": "names.txt",
                "data_hash": step.data_hash,
                "seed": seed,
                "steps": step.settings["steps"],
                "n_embd": 1,
                "head_size": 1,
                "n_head": 1,
                "n_layer": 1,
                "params": 12345,
                "train": f"{test - 0.1:.6f}",
                "test": f"{test:.6f}",
                "test_from_2nd": f"{test - 0.2:.6f}",
                "seconds": 9.0,
                "ms_per_step": 1.5,
                "device": "cpu (Some Chip)",
                "threads": 1,
                "torch": "2.0",
                "source": step.source,
                "finished": "2026-01-02T03:04:05Z",
                "samples": '["ann", "bo"]',
                "settings": json.dumps(step.settings | {"seed": seed}),
                "overrides": "n_layer=0" if key == BIGRAM else "",
            }
            | changes
        )
        self.rows.append(row)
        self.save()

    def save(self, path=None, rows=None):
        with open(path or self.table, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(
                [row[column] for column in COLUMNS] for row in (self.rows if rows is None else rows)
            )

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

    def blocks(self):
        """Every block as the table gives it, by name."""
        steps, _ = report.gather([self.table], self.root)
        return {name: block(steps) for name, block in report.BLOCKS.items()}

    def cells(self, label, block="comparison"):
        """The row of a table in the README, by its column."""
        lines = [
            line.strip("| ").split(" | ")
            for line in self.block(block).splitlines()
            if line.startswith("|")
        ]
        (row,) = [line for line in lines if line[0].startswith(f"[{label}]")]
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
    if texts not in diffs:
        diffs[texts] = diff(old, new)
    return diffs[texts]


@pytest.fixture
def repo(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        report, "draw", lambda *_: {}
    )  # slow, and looked at by the tests that have `drawing`
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
    own = [
        key for key in keys if not {*key.split()[:2]} & {*common.CHAIN}
    ]  # a user's steps stand between ours
    first, *rest = common.CHAIN
    assert [key for key in keys if key not in own] == [
        BIGRAM,
        first,
        f"{STREAM} {first}",
        *rest,
        f"{STREAM} {LAST}",
        *(
            f"{LAST} --preset {name}"
            for name in ("64x4", "fast", "dropout", "20k", "final", "best")
        ),
    ]


def test_published_figures_are_of_steps_that_exist():
    rows = report.read_csv(ROOT / "results" / "published.csv", report.PUBLISHED, {})
    assert {report.key_of(row) for row in rows} <= report.find_steps(ROOT).keys()
    assert len(rows) == 12
    assert all(float(row["train"]) > 1 and float(row["test"]) > 1 for row in rows)
    exact = {report.key_of(row): float(row["exact"]) for row in rows if row["exact"]}
    assert exact.keys() == {*common.CHAIN, f"{LAST} --preset final"} and min(exact.values()) > 1


def test_a_copied_script_appears_in_its_place(repo):
    path = repo.root / "train-2 own.py"
    shutil.copy(repo.root / LAST, path)
    edit(path, 'BUILDS_ON = "train-2-2head-4layer-mlp-ln-rope.py"', f'BUILDS_ON = "{LAST}"')
    edit(path, "F.gelu(self.fc(x))", "F.silu(self.fc(x))")
    for seed, test, own in (0, 2.0, 1.9), (1, 2.1, 2.02):
        repo.row(LAST, seed, test)
        repo.row(path.name, seed, own)
    lines = [line for line in repo.block("comparison").splitlines() if line.startswith("| [")]
    assert [line.split("]")[0][3:] for line in lines[-2:]] == [
        "+ GELU (train-2)",
        "+ GELU (train-2 own)",
    ]  # same label
    assert "(train-2%20own.py)" in lines[-1]
    assert (
        "−0.0900<br>−0.2171 to +0.0371<br>*may be zero*" in lines[-1]
    )  # -0.1, -0.08: 12.706 * 0.01
    own = repo.block("chain").split("<details>")[-1]
    assert "\n@@ Model @@\n" in own
    assert [line for line in own.splitlines() if "F." in line] == [
        "-        x = F.gelu(self.fc(x))  # (B, T, 4 * n_embd)",
        "+        x = F.silu(self.fc(x))  # (B, T, 4 * n_embd)",
    ]
    assert "\n     def forward(self, x):\n-" in own  # a line of context
    assert "own" not in repo.block("scaling")  # its presets, never run


def test_shorter_branch_first(repo):
    shutil.copy(repo.root / WIDE, repo.root / "train-2-a.py")
    shutil.copy(repo.root / WIDE, repo.root / "train-2-z.py")
    edit(repo.root / "train-2-a.py", f'BUILDS_ON = "{BASE}"', f'BUILDS_ON = "{WIDE}"')
    order = list(report.find_steps(repo.root))
    assert order[:7] == [
        BIGRAM,
        BASE,
        f"{STREAM} {BASE}",
        "train-2-z.py",
        WIDE,
        "train-2-a.py",
        HEADS,
    ]


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
    for name in report.BLOCKS:
        edit(repo.readme, f"<!-- {name}:end -->", f"more of {name}\n<!-- {name}:end -->")
    status, stdout, _ = repo.main("--check")
    assert status == 1
    assert [line.split(",")[0] for line in stdout.splitlines()[::3]] == [
        f"block {name}" for name in report.BLOCKS
    ]
    assert [line.split()[-1] for line in stdout.splitlines()[1::3]] == list(report.BLOCKS)


@pytest.mark.parametrize(
    "old, new, word",
    [
        ("<!-- runs:begin -->\n", "", "runs"),
        ("<!-- runs:end -->", "", "runs"),
        ("<!-- runs:end -->", "<!-- runs:end -->\n<!-- runs:end -->", "runs"),
        (
            "<!-- runs:begin -->\n<!-- runs:end -->",
            "<!-- runs:end -->\n<!-- runs:begin -->\n",
            "runs",
        ),
        ("<!-- runs:begin -->\n", "<!-- runs:begin -->\n<!-- speed:begin -->\n", "speed"),
    ],
)
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
    assert [line[header.index("test ") :].split()[0] for line in lines] == [
        "2.1000",
        "2.2000",
        "2.4000",
    ]
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
    repo.rows[0]["settings"] = json.dumps(
        settings | {"seed": 7, "threads": 9}
    )  # these two make no other run
    repo.save()
    assert "†" not in repo.cells("baseline")["step"]
    repo.rows[0]["settings"] = json.dumps(settings | {"batch_size": 33})
    repo.save()
    assert "†" in repo.cells("baseline")["step"]
    settings.pop("weight_decay")  # from before the script had this knob
    repo.rows[0]["settings"] = json.dumps(settings)
    repo.save()
    assert "†" in repo.cells("baseline")["step"]


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"overrides": "learning_rate=0.003"}, "other settings"),
        ({"data_hash": "0123456789ab"}, "other data"),
        ({"device": "cuda (Some GPU)"}, "other device"),
        ({"script": "train-2-gone.py"}, "no such script"),
        ({"preset": "gone"}, "no such script"),
    ],
)
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
        "step": f"[baseline]({BASE})",
        "parameters": "–",
        "seeds": "0",
        "train": "–",
        "test": "–",
        "test from 2nd": "–",
        "published test": "2.35<br>exact 2.351",
        "change in test": "–",
    }
    assert repo.main("--check")[0] == 0


def test_no_scaling_without_rows_or_published_figures(repo):
    (repo.root / "results" / "published.csv").write_text(",".join(report.PUBLISHED) + "\n")
    assert repo.block("scaling") == ""
    repo.row(f"{LAST} --preset 20k")
    assert repo.cells("+ 20k steps", "scaling")["parameters"] == "12,345"
    assert "64x4" not in repo.block("scaling")


# --- What is wrong with a table ---
@pytest.mark.parametrize(
    "column, value",
    [
        ("seed", "zero"),
        ("params", "1.5"),
        ("test", ""),
        ("test", "nan"),
        ("train", "inf"),
        ("test_unseen", "x"),
        ("ms_per_step", "-1"),
        ("finished", "yesterday"),
        ("settings", "{"),
        ("settings", "[]"),
        ("samples", "{}"),
        ("samples", '["\\ud800"]'),
        ("samples", "[" * 100_000),
        ("steps", "9" * 5000),
    ],
)
def test_a_broken_field_is_named_by_line_and_column(repo, column, value):
    for seed in range(3):
        repo.row(BASE, seed)
    repo.rows[1][column] = value
    repo.save()
    message = repo.refuses()
    assert "results.csv, line 3, " in message and column in message


@pytest.mark.parametrize(
    "broken",
    [
        b"one,two\n",
        b'a,"b\n',
        b"\0" * 3 + b"\n",
        b"caf\xe9\n",
        b'"a"b' + b"," * 27 + b"\n",
        b"," * 27 + b"\n",
        b"x" * 200_000 + b"\n",
        b"a\rb\n",
        (",".join(COLUMNS) + "\n").encode(),
    ],
)
def test_a_broken_row_is_named_by_line(repo, broken):
    for seed in range(3):
        repo.row(BASE, seed)
    lines = repo.table.read_bytes().splitlines(keepends=True)
    repo.table.write_bytes(b"".join(lines[:2] + [broken] + lines[2:]))
    assert "results.csv, line 3" in repo.refuses("--check")


@pytest.mark.parametrize(
    "old, new", [(b"cpu (", b"cpu \0("), (b"cpu (", b"cpu \xff("), (b'}"\n', b"}\n")]
)
def test_a_row_broken_by_one_byte(repo, old, new):
    for seed in range(3):
        repo.row(BASE, seed)
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
@pytest.mark.parametrize(
    "df, t",
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (9, 2.2622),
        (30, 2.0423),
        (1000, 1.9623),
    ],
)
def test_t_quantiles(df, t):
    assert stats.t_quantile(df) == pytest.approx(t, abs=6e-5)


def test_paired_interval_by_hand(repo):
    # The changes are -0.3, -0.1 and -0.2: mean -0.2, deviation 0.1, half the interval 4.3027 * 0.1 / sqrt(3) = 0.2484.
    for seed, base, heads in (3, 2.5, 2.2), (5, 2.4, 2.3), (8, 2.6, 2.4):
        repo.row(BASE, seed, base)
        repo.row(HEADS, seed, heads)
    cells = repo.cells("2 heads")
    assert (
        cells["change in test"] == "−0.2000<br>−0.4484 to +0.0484<br>*may be zero*<br>vs baseline"
    )
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
    assert (
        repo.block("runs")
        == "2 runs: seed 1, 2; cpu (Some Chip); threads: 1; torch 2.0; finished 2026-01-02"
    )
    repo.row(f"{LAST} --preset final", 0, 1.5, samples='["zoe"]')
    assert repo.block("samples").strip().splitlines()[1] == "- **final**: zoe"
    assert "`python train-2.py --preset final`" in repo.block("meaning")


def test_chain(repo):
    chain = repo.block("chain")
    details = chain.split("<details>\n")[1:]
    assert len(details) == 8 and chain.count("</details>") == 8
    for name, text in zip(common.CHAIN, details):
        summary, rest = text.split("\n", 1)
        assert summary.startswith(
            f"<summary><b>{common.CHAIN[name][0]}</b>: "
        ) and summary.endswith("</summary>")
        assert rest.startswith("\n") and rest.rstrip().endswith(
            "\n\n</details>"
        )  # or GitHub shows raw Markdown
        assert "Run it:" not in text and '"""Step' not in text
        assert ("\n\n```diff\n@@ " in text and "\n```\n\n</details>" in text) == (name != BASE)
    mlp = details[list(common.CHAIN).index(MLP)]
    assert {"+class MLP(nn.Module):", "+        self.mlp = MLP(config)"} <= set(mlp.splitlines())
    docstring = common.load(MLP).__doc__
    assert docstring.split("\n\n")[1].split("\nRun it")[0] in mlp


def test_the_diff_makes_one_script_of_the_other(repo):
    for script, (*_, base) in common.CHAIN.items():
        if not base:
            continue
        before, after = report.code_lines(ROOT / base), report.code_lines(ROOT / script)
        text = report.diff(ROOT / base, ROOT / script).splitlines()
        for sign, lines, others in ("-", before, after), ("+", after, before):
            marked = [line[1:] for line in text if line.startswith(sign)]
            rest = iter(lines)
            assert all(
                line in (known.rstrip() for known in rest) for line in marked
            )  # in their order
            assert len(lines) - len(marked) == len(others) - sum(
                line[:1] == "+-"[sign == "+"] for line in text
            )


# --- Variants: the bigram, and training without padding ---
def labels(text):
    """The steps of a table, in its order."""
    return re.findall(r"^\| \[(.*?)\]", text, flags=re.M)


def test_the_bigram_stands_first_when_it_is_recorded(repo):
    repo.row(BASE, test=2.3)
    assert labels(repo.block("comparison")) == [config for config, *_ in common.CHAIN.values()]
    repo.row(BIGRAM, test=2.45, samples='["bibi"]')
    assert labels(repo.block("comparison")) == [
        "bigram",
        *(config for config, *_ in common.CHAIN.values()),
    ]
    cells = repo.cells("bigram")
    assert (cells["test"], cells["published test"], cells["change in test"]) == ("2.4500", "–", "–")
    assert cells["step"] == f"[bigram]({LAYERS})"
    assert repo.cells("4 layers")["test"] == "–" and repo.cells("baseline")["change in test"] == "–"
    blocks = repo.blocks()
    assert not any(
        "[bigram]" in text or "bibi" in text
        for name, text in blocks.items()
        if name != "comparison"
    )
    assert blocks["chain"].count("<details>") == 8


@pytest.mark.parametrize("overrides", ("n_layer=1", "n_layer=0 steps=7"))
def test_a_row_with_other_overrides_is_not_the_bigrams(repo, overrides):
    repo.row(BIGRAM, test=1.0, overrides=overrides)
    assert "bigram" not in labels(repo.block("comparison"))
    assert "other settings" in repo.main("--all")[1]


def test_streamed_rows_stand_in_their_own_block_only(repo):
    assert repo.block("streams") == "No run is recorded yet."
    before = repo.blocks()
    key = f"{STREAM} {BASE}"
    for seed, test in enumerate((2.2, 2.3, 2.25)):
        repo.row(key, seed, test)
    now = repo.blocks()
    assert {name for name in before if now[name] != before[name]} == {"streams", "runs", "padding"}
    assert labels(repo.block("streams")) == ["baseline, stream"]
    assert (
        repo.cells("baseline, stream", "streams")["change in test"] == "–"
    )  # nothing to pair it with
    for seed, test in enumerate((2.4, 2.4, 2.4)):
        repo.row(BASE, seed, test)
    # The changes are -0.2, -0.1 and -0.15: mean -0.15, deviation 0.05, half the interval 4.3027 * 0.05 / sqrt(3).
    cells = repo.cells("baseline, stream", "streams")
    assert cells["change in test"] == "−0.1500<br>−0.2742 to −0.0258<br>vs baseline"
    assert (cells["test"], cells["seeds"]) == ("2.2500<br>±0.0500", "3") and "†" not in repo.block(
        "streams"
    )
    assert repo.cells("baseline")["test"] == "2.4000<br>±0.0000"


@pytest.mark.parametrize(
    "source", ("another", common.load(BASE).source_hash()), ids=["another", "the script's"]
)
def test_a_streamed_row_of_another_source_is_stale(repo, source):
    """Also that of the script alone, which does not cover the windows."""
    repo.row(BASE, test=2.4)
    repo.row(f"{STREAM} {BASE}", test=2.3)
    assert "†" not in repo.block("streams")
    repo.rows[1]["source"] = source
    repo.save()
    cells = repo.cells("baseline, stream", "streams")
    assert (
        cells["step"].endswith("†")
        and "†" in cells["change in test"]
        and "\n† " in repo.block("streams")
    )
    assert "†" not in repo.block("comparison")


def test_a_streamed_row_with_other_settings_is_left_out(repo):
    repo.row(f"{STREAM} {BASE}", test=1.0, overrides="steps=7")
    assert repo.block("streams") == "No run is recorded yet."
    assert "other settings" in repo.main("--all")[1]


# --- Tuning, sizes, the walkthrough, samples ---
def candidate(repo, test_from_2nd, seed=0, **knobs):
    """A row as a run with --validate writes it."""
    knobs = dict(validate=True, eval_interval=4000) | knobs
    key = f"{LAST} --preset 64x4"
    settings = real_steps()[key].settings | knobs | {"seed": seed}
    overrides = " ".join(f"{name}={value}" for name, value in sorted(knobs.items()) if value != "")
    repo.row(
        key,
        seed,
        test_from_2nd + 0.2,
        overrides=overrides,
        settings=json.dumps(settings),
        steps=settings["steps"],
    )
    return repo.rows.pop()


def test_tuning(repo):
    """One line a choice of knobs: means over its seeds, the best first."""
    assert repo.block("tuning") == "No candidate is recorded yet."
    rows = [
        candidate(repo, 1.9, 0, learning_rate=0.002),
        candidate(repo, 1.86, 0, learning_rate=0.004, steps=4000),
        candidate(repo, 1.7, 1, learning_rate=0.002),
        candidate(repo, 1.81, 0, batch_size=64, steps=3000),
    ]
    repo.save(repo.root / "results" / "tuning.csv", rows)
    lines = [line.strip("| ").split(" | ") for line in repo.block("tuning").splitlines()][2:]
    assert lines == [
        ["`learning_rate=0.002`", "160,000", "2", "1.9000", "2.0000", "1.8000"],
        ["`batch_size=64 steps=3000`", "192,000", "1", "1.9100", "2.0100", "1.8100"],
        ["`learning_rate=0.004 steps=4000`", "128,000", "1", "1.9600", "2.0600", "1.8600"],
    ]
    assert repo.cells("64x4", "scaling")["seeds"] == "0"  # it is no run of the preset


def test_tuning_on_the_test_split_is_refused(repo):
    repo.row(LAST)
    assert repo.main()[0] == 0
    rows = [candidate(repo, 1.9), candidate(repo, 1.8, validate=False)]
    repo.save(repo.root / "results" / "tuning.csv", rows)
    repo.row(LAST, 1)  # the README would be another
    for argv in [], ["--check"]:
        assert "tuning.csv" in (line := repo.refuses(*argv)) and "validate" in line


def test_a_broken_row_of_tuning_is_named(repo):
    repo.save(
        repo.root / "results" / "tuning.csv",
        [candidate(repo, 1.9), candidate(repo, 1.9) | {"test": "?"}],
    )
    assert "tuning.csv, line 3, test" in repo.refuses()


def test_architecture_adds_up(repo):
    lines = [line.strip("| ").split(" | ") for line in repo.block("architecture").splitlines()]
    figures = {
        name: [int(value.replace(",", "")) for value in values] for name, *values in lines[2:]
    }
    assert figures.pop("parameters: all") == [52_252, 202_780]
    shape = [figures.pop(name) for name in ("n_embd", "heads", "head_size", "layers")]
    assert shape == [[32, 64], [2, 4], [16, 16], [4, 4]]
    assert len(figures) == 5 and all(name.startswith("parameters: ") for name in figures)
    assert [sum(column) for column in zip(*figures.values())] == [52_252, 202_780]
    # by hand: of each of 4 layers, q, k, v without a bias and a projection with one; of the head, 28 rows and biases
    assert figures["parameters: attention"] == [4 * (4 * n * n + n) for n in (32, 64)]
    assert figures["parameters: MLP"] == [4 * (8 * n * n + 5 * n) for n in (32, 64)]
    assert figures["parameters: LayerNorm"] == [4 * 2 * 2 * n for n in (32, 64)]
    assert figures["parameters: token embedding"] == [28 * n for n in (32, 64)]
    assert figures["parameters: head"] == [28 * n + 28 for n in (32, 64)]


def walk(repo, seed, test, **changes):
    repo.row(
        ROPE,
        seed,
        test,
        **dict(
            script=report.WALKTHROUGH,
            config="learned positions",
            builds_on=ROPE,
            source="of the made script",
        )
        | changes,
    )


def test_the_walkthroughs_step_where_its_script_is_absent(repo):
    assert repo.block("walkthrough") == "No run is recorded yet."
    walk(repo, 0, 2.1)
    assert repo.block("walkthrough") == "No run is recorded yet."  # nothing to pair it with
    repo.row(ROPE, 0, 2.05)
    one = repo.block("walkthrough")
    assert (
        "Against + RoPE, learned positions " in one
        and "+0.0500 (no interval; 1 seed)" in one
        and "2.1000" in one
    )
    walk(repo, 1, 2.2), repo.row(ROPE, 1, 2.16)
    # The changes are 0.05 and 0.04: mean 0.045, half the interval 12.7062 * 0.005.
    text = repo.block("walkthrough")
    assert (
        "+0.0450 (95% interval −0.0185 to +0.1085, not distinguishable from zero; 2 seeds)" in text
    )
    assert text.endswith("2.1500.")
    walk(repo, 2, 1.0, overrides="steps=7"), walk(repo, 3, 1.0, device="cuda (x)")
    walk(repo, 4, 1.0, data_hash="0" * 12)
    walk(repo, 5, 1.0, source="an older one", finished="2025-01-01T00:00:00Z")
    for seed in range(2, 6):
        repo.row(ROPE, seed, 2.0)
    assert repo.block("walkthrough") == text
    assert report.WALKTHROUGH not in repo.block("comparison") and "learned" not in repo.block(
        "chain"
    )


def test_the_walkthroughs_step_where_its_script_is_there(repo):
    """Then it is a step as any other, whose present source counts."""
    path = repo.root / report.WALKTHROUGH
    shutil.copy(repo.root / LN, path)
    edit(path, 'CONFIG = "+ LayerNorm"', 'CONFIG = "learned positions"')
    edit(path, f'BUILDS_ON = "{MLP}"', f'BUILDS_ON = "{ROPE}"')
    repo.row(ROPE, 0, 2.05)
    assert repo.block("walkthrough") == "No run is recorded yet."
    repo.row(report.WALKTHROUGH, 0, 2.0)
    assert "−0.0500 (no interval; 1 seed)" in repo.block("walkthrough")
    repo.row(report.WALKTHROUGH, 0, 1.0, source="another", finished="2027-01-01T00:00:00Z")
    assert "−0.0500 (no interval; 1 seed)" in repo.block("walkthrough")
    shown = labels(repo.block("comparison"))
    assert shown[shown.index("+ RoPE") + 1] == "learned positions"


def made_by(key):
    """What dissect.py notes of a model of the step as it now is."""
    return tools.fingerprint(real_steps()[key].source, real_steps()[key].settings)


def generated(repo, *rows):
    lines = ["script,preset,seed,source,names,new", *(",".join(map(str, row)) for row in rows)]
    (repo.root / "results" / "generated.csv").write_text("\n".join(lines) + "\n")


def test_samples_say_how_many_names_are_new(repo):
    for key, name in (BASE, "bab"), (LAST, "anna"), (f"{LAST} --preset final", "zoe"):
        repo.row(key, samples=json.dumps([name]))
    source, of_final = made_by(LAST), made_by(f"{LAST} --preset final")
    assert source != of_final  # other settings make another model
    generated(
        repo,
        (LAST, "", 0, source, 1000, 700),
        (LAST, "", 1, source, 1000, 801),
        (LAST, "final", 0, source, 1000, 1),
        ("train-2-gone.py", "", 0, "gone", 10, 10),
    )
    last, final = repo.block("samples").splitlines()
    assert (
        last.startswith("- **+ GELU**: anna<br>")
        and "75.0% are new" in last
        and final == "- **final**: zoe"
    )
    assert re.findall(r"[\d,]+\d", last.split("<br>")[1]) == [
        "2,000",
        "1,000",
        "75",
    ]  # 1,501 of 2,000 in all
    status, stdout, _ = repo.main()
    assert status == 0 and "note: generated.csv" in stdout and f"{LAST} --preset final" in stdout
    generated(repo, (LAST, "final", 3, of_final, 1, 1))
    last, final = repo.block("samples").splitlines()
    assert last == "- **+ GELU**: anna" and "zoe<br>" in final and "100.0% are new" in final
    generated(repo, (LAST, "", 0, source, "many", 1))
    assert "generated.csv, line 2, names" in repo.refuses()


# --- Findings ---
T = {2: 12.706205, 3: 4.302653, 4: 3.182446}  # Student's t for 95%, by the number of seeds
PRESET = {
    name: f"{LAST} --preset {name}" for name in ("64x4", "dropout", "20k", "final", "fast", "best")
}
STREAMED = {script: f"{STREAM} {script}" for script in (BASE, LAST)}
ALL = [*common.CHAIN, *PRESET.values(), *STREAMED.values()]
CHANGES = {  # finding: what it compares with what, in which loss
    "heads": [(HEADS, BASE, "test"), (HEADS, WIDE, "test")],
    "depth": [(LAYERS, HEADS, "test"), (WIDE, BASE, "test")],
    "mlp": [(MLP, LAYERS, loss) for loss in ("test", "train", "gap")],
    **{
        name: [(*pair, loss) for loss in ("test", "test_from_2nd")]
        for name, pair in {"layernorm": (LN, MLP), "rope": (ROPE, LN), "gelu": (LAST, ROPE)}.items()
    },
    "width": [(PRESET["64x4"], LAST, loss) for loss in ("test", "train", "gap")],
    "dropout": [(PRESET["dropout"], PRESET["64x4"], loss) for loss in ("test", "gap")],
    "longer": [(PRESET["20k"], PRESET[base], "test") for base in ("dropout", "64x4")],
    "recipe": [(PRESET["final"], PRESET["20k"], "test")],
    "own": [(PRESET["best"], PRESET["final"], "test")],
    "padding": [
        (STREAMED[BASE], BASE, "test"),
        (STREAMED[LAST], LAST, "test"),
        (LAST, BASE, "test"),
    ],
    "unseen": [],
}


def record(repo, seeds, keys=ALL, spread=0.05):
    """Made-up losses of every step, {key: [row of each seed]}; the four losses have nothing to do with one another."""
    rng, made = random.Random(3), {}
    for key in keys:
        level, made[key] = rng.uniform(1.8, 2.4), []
        for seed in range(seeds):
            row = {
                name: round(level + shift + rng.uniform(-spread, spread), 6)
                for name, shift in dict(
                    test=0, train=-0.1, test_from_2nd=-0.2, test_unseen=0.03
                ).items()
            }
            made[key].append(row | {"seconds": round(rng.uniform(50, 90), 6)})
            repo.row(key, seed, **made[key][-1])
    return made


def signed(value, digits=4):
    return f"{value:+.{digits}f}".replace("-", "−")


def by_hand(values):
    """Mean, and half the width of its 95% interval, from the definitions."""
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, T[len(values)] * deviation / math.sqrt(len(values))


def loss_of(row, name):
    return row["test"] - row["train"] if name == "gap" else row[name]


def change_by_hand(made, key, base, loss):
    """The mean change and the ends of its interval, as the README prints them; and whether it may be zero."""
    mean, half = by_hand(
        [loss_of(a, loss) - loss_of(b, loss) for a, b in zip(made[key], made[base], strict=True)]
    )
    return [signed(mean), signed(mean - half), signed(mean + half)], mean - half <= 0 <= mean + half


def figures(text):
    return re.findall(r"[+−]?\d+\.\d+", text)


def published_change(key, base, column, digits):
    with open(ROOT / "results" / "published.csv", newline="") as file:
        rows = {report.key_of(row): row for row in csv.DictReader(file)}
    return signed(float(rows[key][column]) - float(rows[base][column]), digits)


def test_every_finding_is_known_here():
    assert CHANGES.keys() == report.FINDINGS.keys()


@pytest.mark.parametrize("spread", (0.05, 0.0005))
@pytest.mark.parametrize("name", CHANGES)
def test_the_figures_of_a_finding(repo, name, spread):
    made, text = record(repo, 3, spread=spread), repo.block(name)
    changes = [change_by_hand(made, *each) for each in CHANGES[name]]
    expected = [figure for change, _ in changes for figure in change]
    assert text.count("not distinguishable from zero") == sum(
        may_be_zero for _, may_be_zero in changes
    )
    counted = len(changes)
    if name in ("layernorm", "rope", "gelu"):
        key, base, _ = CHANGES[name][0]
        expected += [
            published_change(key, base, "test", 2),
            published_change(key, base, "exact", 3),
        ]
    if name in ("recipe", "own"):
        mean, half = by_hand(
            [row["test_from_2nd"] for row in made[PRESET["final" if name == "recipe" else "fast"]]]
        )
        level = [f"{value:.4f}" for value in (mean, mean - half, mean + half)]
        level, counted = level + ["1.832"], counted + 1
        expected = expected + level if name == "recipe" else level + expected
    if name == "own":
        fast, final = (
            min(row["seconds"] for row in made[PRESET[key]]) for key in ("fast", "final")
        )
        assert f" {fast / final:.0%} of `final`" in text
    if name == "unseen":
        for key in BASE, LAST, PRESET["final"]:
            mean, half = by_hand([row["test_unseen"] - row["test"] for row in made[key]])
            expected += [signed(mean), signed(mean - half), signed(mean + half)]
    assert figures(text) == expected
    assert text.count("3 seeds") == counted and "†" not in text and text.endswith(".")


def test_texts(repo):
    """A row a text, model and settings, the newest of a seed counting; the published loss of that size beside it."""
    header = report.TEXTS
    folder, source = repo.root / "results", stream.source_of(common.load(repo.root / LAST))
    shutil.copy(ROOT / "results" / "published-texts.csv", folder)
    text_hash, block, n_layer, n_embd, published = (
        (folder / "published-texts.csv").read_text().splitlines()[1].split(",")
    )

    def write(*rows):
        with open(folder / "texts.csv", "w", newline="") as file:
            csv.writer(file).writerows(
                [header, *([row[column] for column in header] for row in rows)]
            )
        return [line.strip("| ").split(" | ") for line in repo.block("texts").splitlines()[2:]]

    def row(seed, loss, width=n_embd, source=source):
        settings = json.dumps(
            {"n_layer": int(n_layer), "n_embd": int(width), "steps": 2000, "seed": seed}
        )
        return dict.fromkeys(header, "") | {
            "script": LAST,
            "text": "t.txt",
            "text_hash": text_hash,
            "block_size": block,
            "seed": seed,
            "params": 12345,
            "characters": 9,
            "loss": loss,
            "source": source,
            "settings": settings,
        }

    assert repo.block("texts") == "No run is recorded yet."
    lines = write(row(0, 9.0), row(0, 1.5), row(1, 1.7), row(0, 2.0, width=7))
    assert lines == [
        [f"{LAST} on t.txt", "12,345", block, "2,000", "2", "1.6000<br>±0.1414", published],
        [f"{LAST} on t.txt", "12,345", block, "2,000", "1", "2.0000", "–"],
    ]
    (line,) = write(row(0, 1.5, source="another"))
    assert "†" in line[0]


def test_some_findings_may_be_zero_and_some_may_not(repo):
    """So that the test above has seen both."""
    made = record(repo, 3)
    assert {change_by_hand(made, *each)[1] for changes in CHANGES.values() for each in changes} == {
        True,
        False,
    }


@pytest.mark.parametrize("name", CHANGES)
def test_a_finding_of_one_seed_has_no_interval(repo, name):
    made = record(repo, 1)
    text = repo.block(name)
    assert (
        "interval" not in text
        and "±" not in text
        and "distinguishable" not in text
        and "3 seeds" not in text
    )
    for key, base, loss in CHANGES[name]:
        assert (
            f"{signed(loss_of(made[key][0], loss) - loss_of(made[base][0], loss))} (1 seed)" in text
        )


@pytest.mark.parametrize("name", CHANGES)
def test_a_finding_that_is_not_recorded_says_so(repo, name):
    """With no row at all, and when any one of the steps that it is about lacks them."""
    assert re.fullmatch(
        r"No figures yet: .+ is not recorded on the seeds that this needs\.", repo.block(name)
    )
    needed = {key for key, base, _ in CHANGES[name] for key in (key, base)}
    needed |= {"own": {PRESET["fast"]}, "unseen": {BASE, LAST, PRESET["final"]}}.get(name, set())
    record(repo, 2, sorted(needed, key=ALL.index))
    rows = repo.rows
    assert "No figures" not in repo.block(name)  # nothing else is needed
    for key in needed:
        repo.rows = [row for row in rows if report.key_of(row) != key]
        repo.save()
        assert (
            repo.block(name)
            == f"No figures yet: {key} is not recorded on the seeds that this needs."
        )


def test_a_finding_from_a_stale_row_is_marked(repo):
    record(repo, 2)
    row = next(row for row in repo.rows if report.key_of(row) == LAYERS)
    row["source"] = "another"
    repo.save()
    assert " †" in repo.block("depth") and "†" not in repo.block("gelu")


# --- Plots ---
def curve(repo, script, seed, *points):
    name = f"{script[:-3]}-seed{seed}.csv"
    (repo.root / "results" / "curves" / name).write_text(
        "step,train,test\n" + "".join(f"{p}\n" for p in points)
    )


def test_a_curve_of_another_run_is_skipped(repo, drawing):
    repo.row(BASE, 0, 2.5)
    steps, _ = report.gather([repo.table], repo.root)
    row = steps[BASE].rows[0]
    assert report.read_curve(row) == []
    curve(repo, BASE, 0, "0,3.3,3.4", "5000,2.400000,2.500000")
    assert report.read_curve(row) == [(0, 3.4), (5000, 2.5)]
    for last in (
        "5000,2.400000,2.500001",
        "5000,2.400001,2.500000",
        "4000,2.400000,2.500000",
        "5000,nan,2.500000",
        "x",
    ):
        curve(repo, BASE, 0, "0,3.3,3.4", last)
        assert report.read_curve(row) == []
    assert f"{BASE} with seed 0" in repo.main()[1]


def test_plots(repo, drawing):
    for script, seed in itertools.product((BASE, HEADS), range(2)):
        repo.row(script, seed, 2.5 + seed / 100)
        curve(
            repo,
            script,
            seed,
            "0,3.3,3.3",
            "2500,2.9,2.9",
            f"5000,{2.4 + seed / 100:.6f},{2.5 + seed / 100:.6f}",
        )
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
    assert {
        name: (repo.root / "results" / name).read_bytes() for name in first
    } == first  # the same bytes again
    repo.row(WIDE, 1, 2.35)
    assert repo.main()[0] == 0
    assert (repo.root / "results" / "ablation.png").read_bytes() != first["ablation.png"]
    assert list(repo.root.rglob("*.tmp")) == []


def test_pictures_of_what_dissect_wrote(repo, drawing):
    """Drawn where the files are there and of the present source; of another one, a note says so."""
    results, final = repo.root / "results", f"{LAST} --preset final"
    pictures = results / "by-position.png", results / "attention.png"
    for key in (LN, ROPE, final):
        repo.row(key)

    def write(file, *rows):
        lines = [",".join(report.DISSECTED[file]), *(",".join(map(str, row)) for row in rows)]
        (results / file).write_text("\n".join(lines) + "\n")

    def dissect(source=None):
        pairs = [(query, key) for query in range(3) for key in range(query + 1)]
        runs = [
            (key, level, seed)
            for key, level in ((LN, 2.6), (ROPE, 2.5), (final, 2.4))
            for seed in (0, 1)
        ]
        write(
            "by-position.csv",
            *(
                (
                    key.split()[0],
                    "final" * (key == final),
                    seed,
                    source or made_by(key),
                    at,
                    900,
                    level - at / 9 + seed / 50,
                )
                for key, level, seed in runs
                for at in (1, 2)
            ),
        )
        write(
            "attention.csv",
            *(
                (
                    LAST,
                    "final",
                    0,
                    source or made_by(final),
                    "bo",
                    layer,
                    head,
                    query,
                    key,
                    1 / (query + 1),
                )
                for layer in (1, 2)
                for head in (1, 2)
                for query, key in pairs
            ),
        )

    assert repo.main()[0] == 0 and not any(path.exists() for path in pictures)
    dissect("another")
    status, stdout, _ = repo.main()
    assert (
        status == 0 and not any(path.exists() for path in pictures) and stdout.count("note: ") == 5
    )  # and no curves
    assert all(
        f"note: {file} is of an earlier state" in stdout
        for file in ("by-position.csv", "attention.csv")
    )
    dissect()
    status, stdout, stderr = repo.main()
    assert (status, stderr, stdout.count("note: ")) == (0, "", 3)
    first = [path.read_bytes() for path in pictures]
    for blob in first:
        width, height = struct.unpack(">II", blob[16:24])
        assert blob.startswith(b"\x89PNG") and 1400 < width < 1800 and 300 < height < width
    edit(results / "attention.csv", "2,2,0,0,1.0", "2,2,0,0,0.0")
    assert repo.main()[0] == 0
    assert [path.read_bytes() == blob for path, blob in zip(pictures, first)] == [True, False]


def test_times_are_those_of_the_least_disturbed_run(repo, drawing, monkeypatch):
    paces = []
    monkeypatch.setattr(report, "by_time", lambda curves, pace: paces.append(pace) or [(1, 2.0)])
    for seed, pace in enumerate((3.0, 1.5, 9.0)):
        repo.row(LAST, seed, 2.5, ms_per_step=pace)
        curve(repo, LAST, seed, "0,3.3,3.3", "5000,2.400000,2.500000")
    assert repo.main()[0] == 0 and paces == [0.0015]


def test_the_curve_against_time_is_a_mean_over_the_seeds():
    curves = [[(0, 3.3), (500, 2.5), (1000, 2.2)], [(0, 3.4), (500, 2.7), (1000, 2.3), (1500, 2.0)]]
    assert report.by_time(curves, 0.003) == [(1.5, 2.6), (3.0, 2.25)]


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
    text = re.sub(
        'SHA256 = ".*"', f'SHA256 = "{hashlib.sha256(names).hexdigest()}"', path.read_text("utf-8")
    )
    path.write_text(text.replace("knob(5000,", "knob(3,"), "utf-8")
    repo.table.unlink()
    common.load(path, fresh=True).main(["--device", "cpu"])
    assert repo.main()[0] == 0
    cells = repo.cells("baseline")
    assert cells["seeds"] == "1" and "†" not in cells["step"] and cells["test"] != "–"
    assert len(report.read_curve(report.read_tables([repo.table])[0])) == 2
    code = (
        "import sys; sys.modules['matplotlib'] = None; sys.path.insert(0, sys.argv[1]); import report, pathlib; "
        "[report.main(argv, root=pathlib.Path(sys.argv[2])) for argv in (['--check'], [])]"
    )
    command = [sys.executable, "-B", "-c", code, str(ROOT / "results"), str(repo.root)]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert result.stdout.count("is what the table") == 1
    assert result.returncode == 2 and "matplotlib" in one_error(result.stderr)
