"""Every figure of both pages, worked out a second time from the recorded tables.

    python tests/test_recompute.py

Nothing of results/ is imported: this is other code, made from what results/README.md says under
"How it is measured". What a cell or a sentence should say is written out and must be equal to what
it says. Means are numpy's, over the seeds in order, as there: halfway is rounded alike.
"""

import csv
import html
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import sha256
from math import gamma, isnan, nan, pi, sqrt
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "results/README.md"]
NAMES = "0a30b5557f19"  # the hash of names.txt
PLAIN, SIGNED = "{:.4f}", "{:+.4f}"
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


# --- The tables: what is not recorded is nan ---
@dataclass
class Step:
    """A script, preset or idea with its runs, or any other runs that have a row on a page."""

    key: str = ""  # train-2.py --preset 64x4
    label: str = ""
    builds_on: str = ""  # a key
    idea: bool = False
    rows: dict = field(default_factory=dict)  # {seed: row}
    above: str = ""  # the key of the row above it, in the table that is looked at

    @property
    def base(self):
        return steps().get(self.builds_on, Step())

    @property
    def last(self):
        """The row of the highest seed, for what all seeds have: settings, parameters."""
        return [{}, *self.rows.values()][-1]


@cache
def read(name):
    """The rows of a table, oldest first, each with the key of its step and what made it."""
    path = ROOT / "results" / name
    lines = path.read_text("utf-8").split("\n") if path.exists() else []
    rows = sorted(csv.DictReader(lines), key=lambda row: row.get("finished", ""))
    for row in rows:
        row["key"] = " --preset ".join(filter(None, [row.get("script"), row.get("preset")]))
        if "settings" in row:
            knobs = json.loads(row["settings"])
            row["knobs"] = {x: knobs[x] for x in sorted(knobs) if x not in ("seed", "threads")}
            made_by = f"{row['source']} {list(row['knobs'].items())}"
            row["fingerprint"] = sha256(made_by.encode()).hexdigest()[:12]
    return rows


@cache
def steps():
    """All scripts, presets and ideas by their keys, with the rows that count: the newest of a seed.

    What a script's source and defaults are now is taken from its newest row.
    """
    found = {}
    for path in [*ROOT.glob("train-2*.py"), *ROOT.glob("results/ideas/*.patch")]:
        text, idea = path.read_text("utf-8"), path.suffix == ".patch"
        key = f"train-2-{path.stem}.py" if idea else path.name
        label = re.search(r'^[+ ]?LABEL = "(.+)"$', text, re.M)[1]
        builds_on = re.search(r'^[+ ]?BUILDS_ON = "?(.+?)"?$', text, re.M)[1]
        found[key] = Step(key, label, builds_on, idea)
        presets = r'^    "(\S+)": \{"label": "(.+?)", "builds_on": "(.+?)"'
        for preset, *own in re.findall(presets, text, re.M):
            found[f"{key} --preset {preset}"] = Step(f"{key} --preset {preset}", *own)
    rows = [row for row in read("results.csv") if row["data_hash"] == NAMES]
    rows = [row for row in rows if row["device"].startswith("cpu") and not row["overrides"]]
    newest = {row["key"]: row["fingerprint"] for row in rows}
    for row in rows:
        key, script = row["key"], found.get(row["script"], Step())
        if script.idea and key not in found:  # its preset, which has no row in a table
            same = script.builds_on.split(" --")[0] + key.removeprefix(script.key)
            found[key] = Step(key, key, same if same in found else row["builds_on"])
        if key in found and row["fingerprint"] == newest[key]:
            found[key].rows[int(row["seed"])] = row
    for step in found.values():
        step.rows = dict(sorted(step.rows.items()))
    return found


def value(row, loss):
    """A column, or the difference of two, as in test-train."""
    first, _, second = loss.partition("-")
    return float(row[first]) - float(row[second]) if second else float(row[first])


def values(step, loss="test"):
    return [value(row, loss) for row in step.rows.values()]


def changes(step, base=None, loss="test"):
    """Seed by seed, against another step or what it builds on."""
    there = (base or step.base).rows
    return [value(row, loss) - value(there[x], loss) for x, row in step.rows.items() if x in there]


def at_rate(step, rate):
    """The step with its runs at a learning rate, which are evaluated on the validation lines."""
    rows = [row for row in read("learning-rates.csv") if row["key"] == step.key]
    now = step.last or [{}, *rows][-1]
    own = now.get("knobs", {}) | {"learning_rate": float(rate), "validate": True}
    rows = [row for row in rows if (row["source"], row["knobs"]) == (now["source"], own)]
    return replace(step, rows={row["seed"]: row for row in rows})


def changes_at(step, rate, base=None):
    return changes(at_rate(step, rate), at_rate(base or step.base, rate))


def column(name, step, head):
    """A column of another table: of the rows that are of the step as it is now."""
    now = step.last.get("fingerprint")
    rows = [row for row in read(name) if row["key"] == step.key]
    return [row[head] for row in rows if now in (None, row.get("fingerprint", now))]


def number(name, step, head):
    return float(([nan] + column(name, step, head))[-1] or nan)


def published(step, head):
    return number("published/chain.csv", step, head)


def rebuilt(step):
    """From the 2nd letter on, the losses of the idea that rebuilds a published step."""
    key = "".join(column("published/chain.csv", step, "rebuilt"))
    return values(steps().get(key, Step()), "test_from_2nd")


def time(step, after=None):
    """What the training takes, or its first steps."""
    return float(after or step.last["steps"]) * number("speed.csv", step, "ms_per_step")


def time_to(step, loss):
    """What it takes to where the mean of its curves is first as low as that."""
    name = step.key.removesuffix(".py").replace(".py --preset ", "@")
    curves = [read(f"curves/{name}-seed{seed}.csv") for seed in step.rows]
    if [value(curve[-1], "test") for curve in curves if curve] != values(step):
        return nan  # a curve is missing or of another run
    means = np.mean([[float(point["test"]) for point in curve] for curve in curves], axis=0)
    reached = np.flatnonzero(means <= loss)
    return time(step, curves[0][reached[0]]["step"]) if len(reached) else nan


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


def mean(found):
    return np.mean(found) if len(found) else nan


def interval(found):
    """From where to where; a single value has none."""
    if len(found) < 2:
        return nan, nan
    half = quantile(len(found) - 1) * np.std(found, ddof=1) / sqrt(len(found))
    return mean(found) - half, mean(found) + half


def may_be_zero(found):
    low, high = interval(found)
    return bool(low <= 0 <= high)


@cache
def family():
    """The changes of all ideas with three seeds or more, and the ideas that survive Holm."""
    found = {step.key: changes(step) for step in steps().values() if step.idea}
    found = {key: seeds for key, seeds in found.items() if len(seeds) > 2}
    p, surviving = {}, set()
    for key, seeds in found.items():
        error = max(np.std(seeds, ddof=1) / sqrt(len(seeds)), 1e-9)
        p[key] = outside(min(abs(mean(seeds)) / error, 1000), len(seeds) - 1)
    for tested, key in enumerate(sorted(p, key=p.get)):
        if p[key] > 0.05 / (len(p) - tested):
            break
        surviving.add(key)
    return found, surviving


# --- What cells and sentences say; None is for what is not recorded ---
def show(number, form=PLAIN):
    return None if isnan(number) else form.format(number).replace("-", "−")


def spread(found):
    deviation = f"<br>±{np.std(found, ddof=1):.4f}" if len(found) > 1 else ""
    return show(mean(found)) and show(mean(found)) + deviation


def in_words(found, form=SIGNED):
    low, high = (show(x, form) for x in interval(found))
    doubt = ", may be zero" if form == SIGNED and may_be_zero(found) else ""
    range_ = f" ({low} to {high}{doubt})" if len(found) > 1 else " (one seed)"
    return show(mean(found), form) and show(mean(found), form) + range_


def change(step):
    """The same in the lines of a cell, with what it is against if that is not the row above."""
    lines = re.split(r" \(|, |\)", in_words(changes(step)) or "")[:-1]
    lines = [line.replace("may be zero", "*may be zero*") for line in lines if line != "one seed"]
    aside = [f"vs {step.base.label}"] if lines and step.builds_on != step.above else []
    return "<br>".join(lines + aside)
