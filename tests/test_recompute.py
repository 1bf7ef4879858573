"""Every figure of both pages, worked out a second time from the recorded tables.

    python tests/test_recompute.py

Nothing of results/ is imported. What report.py wrote is held against other code, made from what
results/README.md says under "How it is measured", to the last digit that a page prints.
"""

import csv
import hashlib
import html
import json
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from math import gamma, inf, isnan, nan, pi, sqrt
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "results" / "README.md"]
NO_FIGURES = {"samples"}  # and of the chain, all but the effects
NAMES = "0a30b5557f19"  # the hash of names.txt
VOCABULARY = 28  # the letters, the boundary and PAD
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


# --- The tables. What is not recorded is nan ---
@cache
def read(name):
    """The rows, oldest first, with the key of their step and the hash of what made them."""
    path = ROOT / "results" / name
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    rows = sorted(csv.DictReader(lines), key=lambda row: row.get("finished", ""))
    for row in rows:
        row["key"] = " --preset ".join(x for x in (row.get("script"), row.get("preset")) if x)
        if "settings" in row:
            row["knobs"] = json.loads(row["settings"])
            del row["knobs"]["seed"], row["knobs"]["threads"]
            made_by = f"{row['source']} {sorted(row['knobs'].items())}"
            row["fingerprint"] = hashlib.sha256(made_by.encode()).hexdigest()[:12]
    return rows


def value(row, loss):
    """A column, or the difference of two, as in test-train."""
    first, _, second = loss.partition("-")
    return float(row[first]) - (float(row[second]) if second else 0)


@dataclass
class Step:
    key: str = ""
    kind: str = ""  # script, preset, idea, preset of an idea, counting
    label: str = ""
    builds_on: str = ""  # a key
    path: Path = ROOT  # of the script or patch
    group: str = ""  # of an idea
    rows: dict = field(default_factory=dict)  # {seed: row}
    above: object = None  # in the table that is looked at, the step of the row above

    @property
    def base(self):
        return steps().get(self.builds_on)

    def link(self, folder):
        path = os.path.relpath(self.path, folder).replace(os.sep, "/")
        return self.label if self.kind == "counting" else f"[{self.label}]({path})"

    def values(self, loss):
        return [value(row, loss) for row in self.rows.values() if row[loss.split("-")[0]]]

    def changes(self, loss="test", base=None):
        """Of every seed that this step and what it builds on, or another step, have."""
        rows = (base or self.base or Step()).rows
        return [value(self.rows[x], loss) - value(rows[x], loss) for x in self.rows if x in rows]

    def at_rate(self, rate, base=None):
        """The changes in validation loss at a learning rate."""
        here, there = (at_rates().get(x and x.key, {}).get(rate) for x in (self, base or self.base))
        return here.changes("test", there) if here and there else []

    def last(self, column):
        """Of the highest seed, what all of them have: settings, parameters."""
        return self.rows[max(self.rows)].get(column, nan) if self.rows else nan

    def others(self, table):
        """The rows of another table that are of this step as it is now."""
        rows = [row for row in read(table) if row["key"] == self.key]
        now = self.last("fingerprint")
        return [row for row in rows if not self.rows or row.get("fingerprint", now) == now]

    def number(self, table, column):
        return ([float(row[column] or nan) for row in self.others(table)] or [nan])[-1]

    def published(self, column):
        return self.number("published/chain.csv", column)

    def rebuilt(self):
        """The interval of the idea that rebuilds the published step; nan where there is none."""
        ideas = [x["rebuilt"] for x in self.others("published/chain.csv") if x["exact"]]
        return interval(steps().get("".join(ideas), Step()).values("test_from_2nd"))

    def time(self, steps=None):
        return float(steps or self.last("steps")) * self.number("speed.csv", "ms_per_step")

    def first_below(self, loss):
        """The step of the training at which the mean curve is first as low as that."""
        name = self.key.removesuffix(".py").replace(".py --preset ", "@")
        curves = [read(f"curves/{name}-seed{seed}.csv") for seed in self.rows]
        points = [[value(point, "test") for point in curve] for curve in curves]
        ends = [value(row, "test") for row in self.rows.values()]
        if not points or [curve[-1:] for curve in points] != [[end] for end in ends]:
            return nan  # a curve is missing or of another run
        low = np.flatnonzero(np.mean(points, axis=0) <= loss)
        return float(curves[0][low[0]]["step"]) if len(low) else nan

    def generated(self, column):
        return sum(int(row[column]) for row in self.others("generated.csv")) or nan


@cache
def steps():
    """All that is compared, {key: step}, with the rows that count: the newest of each seed.

    Which source and defaults are today's cannot be told without loading the scripts: the newest
    row's are taken for these.
    """
    patches = {f"train-2-{x.stem}.py": x for x in ROOT.glob("results/ideas/*.patch")}
    found = {}
    for name, path in ({x.name: x for x in ROOT.glob("train-2*.py")} | patches).items():
        text, kind = path.read_text("utf-8"), "idea" if name in patches else "script"
        own = (re.search(rf'^[+ ]?{x} = "?(.+?)"?$', text, re.M)[1] for x in ("LABEL", "BUILDS_ON"))
        group = re.search(r"^Group: (.+)", text, re.M)
        found[name] = Step(name, kind, *own, path, group[1] if group else "own steps")
        presets = r'^    "(\S+)": \{"label": "(.+?)", "builds_on": "(.+?)"'
        for preset, *own in re.findall(presets, text, re.M):
            key = f"{name} --preset {preset}"
            found[key] = Step(key, "preset", *own, path)
    rows = [x for x in read("results.csv") if not x["overrides"] and x["data_hash"] == NAMES]
    rows = [x for x in rows if x["device"].startswith("cpu") and x["script"] in found]
    now = {row["key"]: row["fingerprint"] for row in rows}
    for row in [row for row in rows if row["fingerprint"] == now[row["key"]]]:
        own = row["key"], "preset of an idea", row["label"], row["builds_on"]
        found.setdefault(row["key"], Step(*own)).rows[int(row["seed"])] = row
    for key, step in found.items():
        step.rows = dict(sorted(step.rows.items()))
        script, _, preset = key.partition(" --preset ")
        same = f"{found[script].builds_on.partition(' --preset ')[0]} --preset {preset}"
        step.builds_on = same if same in found else step.builds_on
    for row in read("ngram.csv"):
        label = f"*counting, context {row['context']}*"
        found[label] = Step(label, "counting", label, rows={0: row})
    return found


@cache
def at_rates():
    """{key: {rate: the step with its rows at that learning rate, of the validation lines}}."""
    rows, found = [row for row in read("learning-rates.csv") if row["key"] in steps()], {}

    def made_by(row):
        others = {x: y for x, y in row["knobs"].items() if x not in ("learning_rate", "validate")}
        return row["source"], others

    counting = [row for step in steps().values() for row in step.rows.values() if "knobs" in row]
    now = {row["key"]: made_by(row) for row in [*rows, *counting]}
    for row in rows:
        if row["knobs"]["validate"] and made_by(row) == now[row["key"]]:
            step = replace(steps()[row["key"]], rows={})
            rates = found.setdefault(row["key"], {})
            rates.setdefault(row["knobs"]["learning_rate"], step).rows[row["seed"]] = row
    return found


def of_kind(*kinds):
    return [step for step in steps().values() if step.kind in kinds]


# --- The statistics ---
def outside(t, df):
    """The share of Student's distribution further from zero than t: its density, integrated."""
    x = t / 2 * (1 + NODES)
    scale = 2 * gamma((df + 1) / 2) / gamma(df / 2) / sqrt(df * pi)
    return 1 - scale * t / 2 * float(WEIGHTS @ (1 + x * x / df) ** (-(df + 1) / 2))


@cache
def quantile(df):
    """The t that leaves 5% outside, by bisection."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if outside(middle, df) > 0.05 else (low, middle)
    return low


def interval(values):
    """Mean, low and high; a single value is alone, and of none there is nan."""
    if len(values) < 2:
        return [*values] or [nan]
    mean, error = np.mean(values), np.std(values, ddof=1) / sqrt(len(values))
    half = quantile(len(values) - 1) * error
    return [mean, mean - half, mean + half]


def may_be_zero(found):
    return len(found) == 3 and bool(found[1] <= 0 <= found[2])


@cache
def family():
    """{idea with three seeds or more: its effect}, and the ideas that survive Holm."""
    found, p = {}, {}
    for step in of_kind("idea"):
        if len(values := step.changes()) > 2:
            mean, low, _ = found[step.key] = interval(values)
            t = abs(mean) / max(mean - low, 1e-9) * quantile(len(values) - 1)
            p[step.key] = outside(min(t, 1000), len(values) - 1)
    order = sorted(p, key=p.get)
    corrected = np.maximum.accumulate([p[key] * (len(p) - i) for i, key in enumerate(order)])
    return found, {key for key, x in zip(order, corrected, strict=True) if x <= 0.05}


# --- Figures in sentences and cells: the text as a format, and the numbers put into it ---
def in_words(found, sign="+"):
    one = f"{{:{sign}.4f}}"
    doubt = ", may be zero" if sign and may_be_zero(found) else ""
    return f"{one} (one seed)" if len(found) == 1 else f"{one} ({one} to {one}{doubt})", *found


def mean(values):
    return "{:.4f}", interval(values)[0]


def spread(values):
    if len(values) < 2:
        return mean(values)
    return "{:.4f}<br>±{:.4f}", np.mean(values), np.std(values, ddof=1)


def change(step):
    found = interval(step.changes())
    words = ["{:+.4f}"] + ["{:+.4f} to {:+.4f}"] * (len(found) == 3)
    words += ["*may be zero*"] * may_be_zero(found)
    words += [f"vs {step.base.label}"] if step.base and step.base is not step.above else []
    return "<br>".join(words), *found


def rounded(number, column, sign=""):
    """A published loss: the estimates have two decimals."""
    return f"{{:{sign}.{3 if column == 'exact' else 2}f}}", number


def of_family(what):
    found, surviving = family()
    numbers = {"measured": len(found), "by-chance": 0.05 * len(found), "surviving": len(surviving)}
    numbers["not-told-from-zero"] = sum(map(may_be_zero, found.values()))
    return "{:.0f}", numbers[what]


def verdict(step):
    found, surviving = family()
    return "–" if step.key not in found else "yes" if step.key in surviving else "no"


def furthest():
    keys = [x["key"] for x in read("published/chain.csv") if x["rebuilt"] and not x["preset"]]
    found = [step for step in of_kind("script") if step.key in keys]
    return "{:.3f}", np.max([abs(x.rebuilt()[0] - x.published("exact")) for x in found] or nan)


def published_text(step):
    row, alike = step.rows[max(step.rows)], ("text_hash", "block_size", "n_layer", "n_embd")
    row = {"n_layer": 1} | row["knobs"] | row
    same = [x for x in read("published/texts.csv") if all(x[y] == str(row[y]) for y in alike)]
    return "{:.2f}", float(same[0]["loss"] if same else nan)


FIGURES = {
    "effect": lambda x, loss, base=None: in_words(interval(x.changes(loss, base))),
    "at-rate": lambda x, rate, base=None: in_words(interval(x.at_rate(float(rate), base))),
    "mean": lambda x, loss: in_words(interval(x.values(loss)), "+" if "-" in loss else ""),
    "each": lambda x, loss: (", ".join(["{:.4f}"] * len(x.rows)), *x.values(loss)),
    "published": lambda x, column: rounded(x.published(column), column),
    "published-effect": lambda x, column: rounded(
        x.published(column) - x.base.published(column), column, "+"
    ),
    "time-share": lambda x, of: ("{:.0%}", x.time() / of.time()),
    "time-to": lambda x, of: (
        "{:.0%}",
        x.time() / of.time(of.first_below(interval(x.values("test"))[0])),
    ),
    "probability": lambda x, loss: ("{:.1%}", np.exp(-interval(x.values(loss))[0])),
    "new-names": lambda x: ("{:.1%}", x.generated("new") / x.generated("names")),
    "counted": lambda of, loss: mean(
        [value(row, loss) for row in read("ngram.csv") if row["model"] == of]
    ),
    "family": of_family,
    "rebuilt": furthest,
}
COLUMNS = {"train": "train", "test": "test", "validation": "test", "from 2nd": "test_from_2nd"}
COLUMNS |= {"ours": "test_from_2nd", "unseen": "test_unseen"}
MEANS = {head: lambda x, of=of: mean(x.values(of)) for head, of in COLUMNS.items()}
SPREADS = {head: lambda x, of=of: spread(x.values(of)) for head, of in COLUMNS.items()}
CELLS = MEANS | {  # by what stands above them
    "parameters": lambda x: ("{:,.0f}", float(x.last("params"))),
    "seeds": lambda x: ("{:.0f}", nan if x.kind == "counting" else len(x.rows)),
    "published": lambda x: rounded(x.published("test"), "test"),
    "its exact": lambda x: rounded(x.published("exact"), "exact"),
    "change in test": change,
    "cost of a step": lambda x: ("{:.2f}", x.number("speed.csv", "ratio")),
    "over names": lambda x: ("±{:.4f}", x.number("over-names.csv", "error")),
    "names seen": lambda x: ("{:,.0f}", int(x.last("steps")) * x.last("knobs")["batch_size"]),
    "published, exact": lambda x: rounded(x.published("exact"), "exact"),
    "rebuilt": lambda x: in_words(x.rebuilt(), sign=""),
    "rebuilt against published": lambda x: ("{:+.3f}", x.rebuilt()[0] - x.published("exact")),
}
OF_IDEAS = {
    "builds on": lambda x: x.base.label,
    "change in test": lambda x: in_words(interval(x.changes())) if x.changes() else "not run yet",
    "survives Holm": verdict,
}
OF_TRIED = {
    "learning rate": lambda x: f"{x.last('knobs')['learning_rate']:g}",
    "change at the same rate": lambda x: (
        "{:+.4f}",
        interval(x.at_rate(x.last("knobs")["learning_rate"]))[0],
    ),
}
OF_TEXTS = {
    "block": lambda x: ("{:.0f}", float(x.last("block_size"))),
    "steps": lambda x: ("{:,.0f}", x.last("knobs")["steps"]),
    "held-out loss": lambda x: spread(x.values("loss")),
    "by random windows": lambda x: spread(x.values("random_windows")),
    "published": published_text,
}


# --- Blocks: (where, what the page has, what it should have), cell by cell ---
def rows_of(text):
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| ---" not in line]
    return [row[2:-2].split(" | ") for row in rows] or [[]]


def table(text, named, cells=CELLS):
    """A row for every (first cell, step); the other cells by what stands above them."""
    if not named:
        yield "all", text, "No run is recorded yet."
    heads, *rows = rows_of(text)
    yield "unknown columns", [head for head in heads[1:] if head not in cells], []
    yield "first cells", sorted(row[0] for row in rows), sorted(first for first, _ in named)
    left, above = list(named), None
    for first, *found in rows:
        step = next((x for cell, x in left if cell == first), None)
        if step:  # else its first cell has been told
            left.remove((first, step))
            step.above, above = above, step
            for head, cell in zip(heads[1:], found, strict=True):
                if head in cells:
                    yield f"{first}, {head}", cell, cells[head](step)


def linked(steps_of, folder):
    return [(x.link(folder), x) for x in steps_of]


def comparison(text, folder):
    return table(text, linked(of_kind("script", "counting"), folder))


def losses(text, folder):
    named = linked(of_kind("script", "preset", "counting"), folder)
    return table(text, named, CELLS | SPREADS)


def replication(text, folder):
    found = [x for x in of_kind("script", "preset") if not isnan(x.rebuilt()[0])]
    return table(text, [(x.label, x) for x in found])


def ideas(text, folder):
    groups, found = {}, family()[0]
    for step in of_kind("idea"):
        groups.setdefault(step.group.capitalize(), {})[step.link(folder)] = step
    parts = dict(part.split("\n", 1) for part in text.split("### ")[1:])
    yield "groups", list(parts), sorted(groups)
    for title in sorted(groups.keys() & parts):
        named, part = groups[title], parts[title]
        yield from table(part, named.items(), CELLS | OF_IDEAS)
        steps_of = [named[first] for first, *_ in rows_of(part)[1:] if first in named]
        order = [found.get(step.key, [inf])[0] for step in steps_of]
        yield f"order of {title}", order, sorted(order)


def rates(text, folder):
    def cell(step, rate):
        here = at_rates().get(step.key, {}).get(rate, Step())
        words, *change = in_words(interval(step.at_rate(rate)))
        own = mean(here.values("test"))
        return (f"{own[0]}<br>{words}", own[1], *change) if step.at_rate(rate) else own

    chain = of_kind("script")
    columns = sorted({rate for x in chain for rate in at_rates().get(x.key, {})})
    cells = {f"{rate:g}": lambda x, rate=rate: cell(x, rate) for rate in columns}
    yield "rates", rows_of(text)[0][1:], [*cells]
    yield from table(text, linked(chain if columns else [], folder), cells)


def tried(text, folder):
    found = [at_rates().get(step.key, {}) for step in of_kind("idea")]
    named = linked([rates[rate] for rates in found for rate in sorted(rates)], folder)
    return table(text, named, CELLS | OF_TRIED)


def tuning(text, folder):
    groups = {}
    for row in read("tuning.csv"):
        yield "validate", row["knobs"]["validate"], True
        words = [x for x in row["overrides"].split() if not x.startswith(("eval_", "validate"))]
        name = f"`{row['key']}` {' '.join(words)}"
        groups.setdefault(name, Step()).rows[row["seed"]] = row
    yield from table(text, groups.items())
    order = [float(row[-1]) for row in rows_of(text)[1:]]
    yield "order", order, sorted(order)


def texts(text, folder):
    groups = {}
    for row in read("texts.csv"):
        key = row["script"], row["text_hash"], row["block_size"], row["fingerprint"]
        if row["source"] == steps().get(row["script"], Step()).last("source"):
            groups.setdefault(key, Step()).rows[row["seed"]] = row
    named = [(f"{x.last('script')} on {x.last('text')}", x) for x in groups.values()]
    return table(text, named, CELLS | OF_TEXTS)


def chain(text, folder):
    blocks = [block.split("</b>", 1) for block in text.split("<summary><b>")[1:]]
    named = {html.escape(step.label): step for step in of_kind("script")}
    yield "labels", sorted(label for label, _ in blocks), sorted(named)
    for label, block in blocks:
        found = [line for line in block.splitlines() if line.startswith("Change in test")]
        step = named.get(label, Step())
        yield label, len(found), int(bool(step.changes()))
        for line in found if step.base else ():
            words, *numbers = in_words(interval(step.changes()))
            yield label, line, (f"Change in test against {step.base.label}: {words}.", *numbers)


def architecture(text, folder):
    """Weights and biases counted; q, k and v have no biases."""
    names = "n_embd,heads,head_size,layers,token embedding,attention,MLP,LayerNorm,lm_head,all"
    cells = {}
    for step in (steps()[key] for key in ("train-2.py", "train-2.py --preset 64x4")):
        n, heads, layers = (float(step.last(x)) for x in ("n_embd", "n_head", "n_layer"))
        attention = n * 3 * n + n * n + n
        mlp = n * 4 * n + 4 * n + 4 * n * n + n
        parts = [VOCABULARY * n, layers * attention, layers * mlp, layers * 2 * (n + n)]
        parts.append(n * VOCABULARY + VOCABULARY)
        yield step.key, sum(parts), float(step.last("params"))
        numbers = [n, heads, n // heads, layers, *parts, sum(parts)]
        numbers = dict(zip(names.split(","), numbers, strict=True))
        cells[f"`{step.key}`"] = lambda x, numbers=numbers: ("{:,.0f}", numbers[x.label])
    named = [(name, Step(label=name)) for name in names.split(",")]
    yield from table(text, named, cells)


def runs(text, folder):
    rows = [x for step in steps().values() if step.kind != "counting" for x in step.rows.values()]
    names = "seed", "device", "threads", "torch"
    seeds, device, threads, torch = (", ".join(sorted({row[x] for row in rows})) for x in names)
    days = sorted({row["finished"][:10] for row in rows})
    finished = " to ".join(days[:1] + days[1:][-1:])
    made_by = f"seeds {seeds}; {device}; threads: {threads}; torch {torch}; finished {finished}."
    yield "all", text, ("{:.0f} runs: " + made_by, len(rows))


BLOCKS = [comparison, losses, replication, ideas, rates, tried, tuning, texts, chain]
BLOCKS = {block.__name__: block for block in [*BLOCKS, architecture, runs]}


# --- The comparison ---
def checks(marker, text, folder):
    """(where, what the page has, what it should have) for all that stands in a marker."""
    kind, *arguments = marker.split()
    if kind in BLOCKS:
        yield from BLOCKS[kind](text.strip(), folder)
    elif kind in FIGURES:
        presumed = re.search(r" (zero|<|>)(\S*)$", marker)
        keys = [x.replace("@", " --preset ") for x in arguments]
        arguments = [steps().get(key, key) for key in (keys[:-1] if presumed else keys)]
        words, *numbers = FIGURES[kind](*arguments)
        recorded = numbers and not any(map(isnan, numbers))
        yield "the figure", text, (words, *numbers) if recorded else "(not recorded)"
        if presumed and recorded and words != "{:+.4f} (one seed)":  # that has no interval
            low, high, bound = min(numbers), max(numbers), float(presumed[2] or 0)
            holds = {"zero": low <= 0 <= high, "<": high < bound, ">": low > bound}
            yield f"presumed{presumed[0]}", holds[presumed[1]], True
    elif kind not in NO_FIGURES:
        yield "the marker", kind, "one that is recomputed here"


def agree(found, should):
    """Whether a text is as it should be; a number halfway may have been rounded either way."""
    if not isinstance(should, tuple):
        return found == should
    words, *numbers = should
    if any(map(isnan, numbers)):
        return found == "–"
    nudged = ([x + nudge for x in numbers] for nudge in (0, 1e-9, -1e-9))
    return found.replace("−", "-") in (words.format(*x) for x in nudged)


def markers():
    """(page, line, marker, text) of all markers."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in re.finditer(r"<!-- ([^\n]*?) -->(.*?)<!-- end -->", text, re.DOTALL):
            yield page, text.count("\n", 0, match.start()) + 1, match[1], match[2]


def recompute():
    """{kind: how many markers, checks and numbers it has}, and a line for all that is wrong."""
    counts, wrong = {}, []
    for page, line, marker, text in markers():
        count = counts.setdefault(marker.split()[0], Counter())
        count["markers"] += 1
        for where, found, should in checks(marker, text, page.parent):
            count["checks"] += 1
            count["numbers"] += len(should) - 1 if isinstance(should, tuple) else 0
            if not agree(found, should):
                place = f"{page.relative_to(ROOT)}, line {line}, {marker}, {where}"
                should = should[0].format(*should[1:]) if isinstance(should, tuple) else should
                wrong.append(f"{place}:\n  it is:     {found}\n  should be: {should}")
    return counts, wrong


def test_every_figure_is_what_the_tables_give():
    _, wrong = recompute()
    assert not wrong, "\n".join(wrong)


def test_no_marker_is_left_out():
    counts, _ = recompute()
    comments = sum(page.read_text("utf-8").count("<!--") for page in PAGES)
    assert 2 * sum(count["markers"] for count in counts.values()) == comments
    assert {kind for kind, count in counts.items() if not count["checks"]} <= NO_FIGURES


def test_another_digit_is_reported():
    """In every third number, to save time, that stands in a marker; in the chain, of an effect."""
    for page, line, marker, text in markers():
        figures = r"^Change in test.*?\d+\.\d+" if marker == "chain" else r"\d+([.,]\d+)*"
        for match in [] if marker in NO_FIGURES else list(re.finditer(figures, text, re.M))[::3]:
            end = match.end()
            other = f"{text[: end - 1]}{(int(text[end - 1]) + 5) % 10}{text[end:]}"
            found = checks(marker, other, page.parent)
            told = any(not agree(is_so, should) for _, is_so, should in found)
            assert told, f"{page}, line {line}, {marker}: {text[max(0, end - 80) : end]}"


if __name__ == "__main__":
    counts, wrong = recompute()
    for kind, count in counts.items():
        print(f"{kind}: {', '.join(f'{number} {what}' for what, number in count.items())}")
    print("\n".join(wrong) or "all agree")
    sys.exit(bool(wrong))
