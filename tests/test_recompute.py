"""Every figure of both pages, worked out a second time from the recorded tables.

    python tests/test_recompute.py

Nothing of results/ is imported: this is other code, made from what results/README.md says under
"How it is measured". Each cell and figure is written out here and must be equal to the page's. Like
there, means are numpy's, over seeds in order: what lies halfway between two digits is rounded alike.
"""

import csv
import html
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from math import gamma, nan, pi, sqrt
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "results/README.md"]
NAMES = "0a30b5557f19"  # the hash of names.txt
PLAIN, SIGNED = "{:.4f}", "{:+.4f}"
PUBLISHED = {"train": "{:.2f}", "test": "{:.2f}", "exact": "{:.3f}"}
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


# --- The tables ---
@dataclass
class Step:
    """A script, preset or idea with its runs, or any other runs that have a row on a page."""

    key: str = ""  # train-2.py --preset 64x4
    label: str = ""
    base: str = ""  # the key of what it builds on
    idea: bool = False
    rows: dict = field(default_factory=dict)  # {seed: row}
    above: str = ""  # the key of the row above it, in the table that is looked at


@cache
def read(name):
    """The rows of a table, oldest first, each with the key of its step and what made it."""
    path = ROOT / "results" / name
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row.get("finished", ""))
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
        base = re.search(r'^[+ ]?BUILDS_ON = "?(.+?)"?$', text, re.M)[1]
        found[key] = Step(key, label, base, idea)
        presets = r'^    "(\S+)": \{"label": "(.+?)", "builds_on": "(.+?)"'
        for preset, label, base in re.findall(presets, text, re.M):
            key = f"{path.name} --preset {preset}"
            found[key] = Step(key, label, base)
    rows = [row for row in read("results.csv") if row["data_hash"] == NAMES]
    rows = [row for row in rows if row["device"].startswith("cpu") and not row["overrides"]]
    newest = {row["key"]: row["fingerprint"] for row in rows}
    for row in rows:
        key = row["key"]
        if key not in found and row["script"] in found and found[row["script"]].idea:
            found[key] = Step(key, key, row["builds_on"])  # an idea's preset is in no table
        if key in found and row["fingerprint"] == newest[key]:
            found[key].rows[int(row["seed"])] = row
    for key, step in found.items():
        step.rows = dict(sorted(step.rows.items()))
        script, _, preset = key.partition(" --preset ")
        same = f"{found[script].base.split(' --preset ')[0]} --preset {preset}"
        if same in found:  # a preset that the script's base has as well
            step.base = same
    return found


def base_of(step):
    return steps().get(step.base, Step())


def last(step):
    """The row of the highest seed, for what all seeds have: settings, parameters."""
    return list(step.rows.values())[-1] if step.rows else {}


def value(row, loss):
    """A column, or the difference of two, as in test-train."""
    first, _, second = loss.partition("-")
    return float(row[first]) - float(row[second]) if second else float(row[first])


def values(step, loss="test"):
    return [value(row, loss) for row in step.rows.values() if row[loss.partition("-")[0]]]


def changes(step, base=None, loss="test"):
    """Seed by seed, against another step or what it builds on."""
    there = (base or base_of(step)).rows
    return [value(row, loss) - value(there[x], loss) for x, row in step.rows.items() if x in there]


def at_rate(step, rate):
    """The step with its runs at a learning rate, which are evaluated on the validation lines."""
    rows = [row for row in read("learning-rates.csv") if row["key"] == step.key]
    now = last(step) or (rows[-1] if rows else {})
    own = now and {**now["knobs"], "learning_rate": rate, "validate": True}
    rows = [row for row in rows if (row["source"], row["knobs"]) == (now["source"], own)]
    return replace(step, rows={row["seed"]: row for row in rows})


def changes_at(step, rate, base=None):
    return changes(at_rate(step, rate), at_rate(base or base_of(step), rate))


def rows_now(name, step):
    """The rows of another table that are of the step as it is now."""
    rows = [row for row in read(name) if row["key"] == step.key]
    return [row for row in rows if row["fingerprint"] == last(step).get("fingerprint")]


def number(name, step, column):
    """Of the last of these rows; None where there is none, or where it is blank."""
    found = [row[column] for row in rows_now(name, step)]
    return float(found[-1]) if found and found[-1] else None


def published(step, column):
    found = [row[column] for row in read("published/chain.csv") if row["key"] == step.key]
    return float(found[0]) if found and found[0] else None


def rebuilt(step):
    """The losses of the idea that rebuilds the published step, from the 2nd letter on."""
    found = [row for row in read("published/chain.csv") if row["key"] == step.key and row["exact"]]
    return values(steps().get(found[0]["rebuilt"], Step()), "test_from_2nd") if found else []


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


def interval(found):
    """Mean, low and high; a single value has no interval."""
    if len(found) < 2:
        return found[0], nan, nan
    half = quantile(len(found) - 1) * np.std(found, ddof=1) / sqrt(len(found))
    return np.mean(found), np.mean(found) - half, np.mean(found) + half


def may_be_zero(found):
    _, low, high = interval(found)
    return bool(low <= 0 <= high)


def p_value(found):
    error = np.std(found, ddof=1) / sqrt(len(found))
    t = abs(np.mean(found)) / max(error, 1e-9)
    return outside(min(t, 1000), len(found) - 1)


@cache
def family():
    """The changes of all ideas with three seeds or more, and the ideas that survive Holm."""
    found = {key: changes(step) for key, step in steps().items() if step.idea}
    found = {key: seeds for key, seeds in found.items() if len(seeds) > 2}
    surviving = set()
    for tested, (p, key) in enumerate(sorted((p_value(x), key) for key, x in found.items())):
        if p * (len(found) - tested) > 0.05:
            break
        surviving.add(key)
    return found, surviving


# --- What cells and figures say; None where it is not recorded ---
def show(number, form=PLAIN):
    return None if number is None else form.format(number).replace("-", "−")


def mean(found, form=PLAIN):
    return show(np.mean(found), form) if found else None


def spread(found):
    return f"{mean(found)}<br>±{np.std(found, ddof=1):.4f}" if len(found) > 1 else mean(found)


def in_words(found, form=SIGNED):
    if not found:
        return None
    middle, low, high = (show(x, form) for x in interval(found))
    doubt = ", may be zero" if form == SIGNED and may_be_zero(found) else ""
    return f"{middle} ({low} to {high}{doubt})" if len(found) > 1 else f"{middle} (one seed)"


def change(step):
    found = changes(step)
    if not found:
        return None
    middle, low, high = (show(x, SIGNED) for x in interval(found))
    lines = [middle, f"{low} to {high}"] if len(found) > 1 else [middle]
    lines += ["*may be zero*"] if may_be_zero(found) else []
    lines += [f"vs {base_of(step).label}"] if step.base != step.above else []
    return "<br>".join(lines)


def verdict(step):
    found, surviving = family()
    return "yes" if step.key in surviving else "no" if step.key in found else None


def loss_at(step, rate):
    lines = mean(values(at_rate(step, rate))), in_words(changes_at(step, rate))
    return "<br>".join(filter(None, lines))


def rate_of(step):
    return last(step)["knobs"]["learning_rate"]


def published_text(step):
    row = {"n_layer": 1} | last(step)["knobs"] | last(step)
    alike = "text_hash", "block_size", "n_layer", "n_embd"
    found = [x for x in read("published/texts.csv") if all(x[y] == str(row[y]) for y in alike)]
    return show(float(found[0]["loss"]), "{:.2f}") if found else None


def away(step):
    return np.mean(rebuilt(step)) - published(step, "exact") if rebuilt(step) else None


def furthest():
    """How far at most a step of the chain, rebuilt, is from the published one."""
    rows = [row for row in read("published/chain.csv") if row["rebuilt"] and not row["preset"]]
    found = [away(steps()[row["key"]]) for row in rows if row["key"] in steps()]
    return None if None in found or not found else show(max(map(abs, found)), "{:.3f}")


def share(part, whole, form):
    return show(part / whole, form) if part and whole else None


def time(step, after=None):
    """What the training takes, or its first steps."""
    cost = number("speed.csv", step, "ms_per_step")
    return cost and cost * float(after or last(step)["steps"])


def time_to(step, loss):
    """What it takes to where the mean of its curves is first as low as that."""
    name = step.key.removesuffix(".py").replace(".py --preset ", "@")
    curves = [read(f"curves/{name}-seed{seed}.csv") for seed in step.rows]
    if not curves or [curve[-1:] and value(curve[-1], "test") for curve in curves] != values(step):
        return None  # a curve is missing or of another run
    means = np.mean([[value(point, "test") for point in curve] for curve in curves], axis=0)
    reached = np.flatnonzero(means <= loss)
    return time(step, curves[0][reached[0]]["step"]) if len(reached) else None


def published_effect(step, column):
    ours, base = published(step, column), published(base_of(step), column)
    form = PUBLISHED[column].replace(":", ":+")
    return None if ours is None or base is None else show(ours - base, form)


def new_names(step):
    rows = rows_now("generated.csv", step)
    new, names = (sum(int(row[column]) for row in rows) for column in ("new", "names"))
    return share(new, names, "{:.1%}")


def counted(model, loss):
    return mean([value(row, loss) for row in read("ngram.csv") if row["model"] == model])


def of_family(what):
    found, surviving = family()
    numbers = {"measured": len(found), "by-chance": 0.05 * len(found), "surviving": len(surviving)}
    numbers["not-told-from-zero"] = sum(map(may_be_zero, found.values()))
    return show(numbers[what], "{:.0f}")


FIGURES = {  # by the kind of the marker, for the words that follow in it
    "effect": lambda step, loss, base=None: in_words(changes(step, base, loss)),
    "at-rate": lambda step, rate, base=None: in_words(changes_at(step, float(rate), base)),
    "mean": lambda step, loss: in_words(values(step, loss), SIGNED if "-" in loss else PLAIN),
    "each": lambda step, loss: ", ".join(show(x) for x in values(step, loss)),
    "published": lambda step, column: show(published(step, column), PUBLISHED[column]),
    "published-effect": published_effect,
    "time-share": lambda step, of: share(time(step), time(of), "{:.0%}"),
    "time-to": lambda step, of: share(time(step), time_to(of, np.mean(values(step))), "{:.0%}"),
    "probability": lambda step, loss: mean([np.exp(-np.mean(values(step, loss)))], "{:.1%}"),
    "new-names": new_names,
    "counted": counted,
    "family": of_family,
    "rebuilt": furthest,
}
COLUMNS = {"train": "train", "test": "test", "validation": "test", "from 2nd": "test_from_2nd"}
COLUMNS |= {"ours": "test_from_2nd", "unseen": "test_unseen"}
