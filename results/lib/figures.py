"""The figures: for each its data, which is hashed, and how it is drawn from nothing else.

A file holds the hash of its data and of the code that draws: that it is stale shows without
drawing, and without matplotlib.
"""

import functools
import hashlib
import json
import re
from pathlib import Path

import numpy as np

from lib import drawings, look
from lib.amounts import SIZES, by_amount
from lib.costs import frontier
from lib.known import LAST
from lib.measured import ngram_label


# --- Data: empty where there is nothing to draw ---
def pair(found):
    """An interval as data; None where there is none."""
    return found and [found.mean, 0 if np.isnan(found.half) else found.half, found.significant]


def references(m):
    return {ngram_label(row): row["test"] for row in m.ngrams().values()}


def seeds_of(m):
    """{step: [its base, test losses of the seeds, those with the tuned recipe]}."""

    def losses(step):
        return [*m.beside_change(step).values()] if step else []

    found = {
        x.label: [x.builds_on and m.label(x.builds_on), losses(x), losses(m.tuned(x))]
        for x in m.chain
        if m.runs(x)
    }
    return found and {"steps": found, "references": references(m)}


def published_of(m):
    """From the 2nd letter on: the published figure, its reimplementation, ours."""
    rows = {}
    for step in m.compared:
        row = m.published.get(step.key, {})
        if m.runs(step) and row.get("rebuilt"):
            found = [pair(m.mean(x, "test_from_2nd")) for x in (row["rebuilt"], step.key)]
            rows[step.label] = [row["exact"], *found]
    return rows


def curves_of(m, step):
    """[steps of the evaluations, test losses there, one list per seed]; empty without runs."""
    curves = [row["curve"] for row in m.runs(step).values() if row["curve"]]
    if not curves:
        return []
    return [[x for x, _, _ in curves[0]], [[test for _, _, test in points] for points in curves]]


def curves_of_chain(m):
    lines = {step.label: curves_of(m, step) for step in m.chain}
    lines = {label: line for label, line in lines.items() if line}
    return lines and {"lines": lines, "references": references(m)}


def ideas_of(m):
    """{group: {idea: for both recipes [change, whether it is significant after Holm], or None}}."""

    def name(step):
        return step.label + ("*" if step.builds_on != LAST else "")

    groups = {}
    for group in m.groups:
        for step in m.group(group):
            if step.key in m.family:
                groups.setdefault(group, {})[name(step)] = [
                    [pair(family[step.key]), step.key in family.surviving]
                    if step.key in family
                    else None
                    for family in (m.family, m.tuned_family)
                ]
    return groups


def norms_of(m):
    """{layers: {kind of normalization: {rate: mean validation loss; None without runs}}}."""
    found = {}
    for layers, kinds in m.norms.items():
        rates = sorted({rate for losses in kinds.values() for rate in losses})
        for kind, losses in kinds.items():
            means = {x: losses.get(x) and np.mean([*losses[x].values()]) for x in rates}
            found.setdefault(layers, {})[kind] = means
    return found


def transfer_of(m):
    return {m.label(key): [*map(pair, both)] for key, both in m.transfer.items()}


def robust_of(m):
    """{step: {condition: the change that the step makes there}}."""
    rows = {
        step.label: {name: pair(found.get(step.key)) for name, found in m.by_condition.items()}
        for step in m.chain
        if step.builds_on
    }
    return rows if any(any(found.values()) for found in rows.values()) else {}


def frontier_of(m):
    """[label, kind, numbers that it holds, minutes of training, test loss] of every model."""
    return [[x.label, x.kind, x.numbers, x.seconds / 60, x.test] for x in frontier(m)]


def amounts_of(m):
    """{model: [numbers of names, how far above the lowest possible loss, half its interval]}."""
    # The order is that of the styles, whichever model has the smallest number.
    lines = {"Kneser-Ney": []} | {f"the last step, {size}": [] for size in SIZES}
    for of in by_amount(m):
        if of.lowest:
            found = {"Kneser-Ney": of.kneser_ney and [of.kneser_ney, 0]}
            found |= {f"the last step, {size}": pair(loss) for size, loss in of.losses.items()}
            for model, loss in found.items():
                if loss:
                    lines[model].append([of.names, loss[0] - of.lowest, loss[1]])
    return lines if any(lines.values()) else {}


def positions_of(m):
    """{step: [positions, losses there of the seeds]}, where at least 100 test names reach."""
    found = {}
    for row in m.current("by-position.csv"):
        if row["targets"] >= 100:
            at = found.setdefault(m.label(row["step"]), {}).setdefault(row["position"], [])
            at.append(row["loss"])
    lines = {label: [[*at], [*at.values()]] for label, at in found.items()}
    return lines if len(lines) > 1 else {}


def look_of(m):
    """The attention weights of the last step for one name."""
    return look.attention_data(m.current("look.csv"))


FIGURES = {
    "staircase.png": (seeds_of, drawings.staircase),
    "published.png": (published_of, drawings.published),
    "loss-curves.png": (curves_of_chain, drawings.loss_curves),
    "ideas.png": (ideas_of, drawings.ideas),
    "transfer.png": (transfer_of, drawings.transfer),
    "norms.png": (norms_of, drawings.norms),
    "robust.png": (robust_of, drawings.robust),
    "amounts.png": (amounts_of, drawings.amounts),
    "by-position.png": (positions_of, drawings.by_position),
    "frontier.png": (frontier_of, drawings.frontier),
    "look.png": (look_of, look.draw_attention),
}


# --- Files ---
def data_of(m):
    """{name of the file: its data as text}."""

    def rounded(text):  # another machine may differ in the last digits
        return round(float(text), 5)

    found = {name: json.dumps(data(m)) for name, (data, _) in FIGURES.items()}
    found = {name: json.loads(text, parse_float=rounded) for name, text in found.items()}
    return {name: json.dumps(data) for name, data in found.items()}


@functools.cache
def code():
    """The code that draws."""
    return b"".join(Path(x.__file__).read_bytes() for x in (drawings, look))


def digest(text):
    """What a file holds of what it was drawn from: its data and the code."""
    return hashlib.sha256(text.encode() + code().replace(b"\r\n", b"\n")).hexdigest()[:16]


def stale(m):
    """{path: its data as text} of the figures that are missing, or not what would be drawn now."""
    found = {}
    for name, text in data_of(m).items():
        path = m.root / "results" / "plots" / name
        held = re.search(rb"tEXtData\0(\w{16})", path.read_bytes()) if path.exists() else None
        if not held or held[1].decode() != digest(text):
            found[path] = text
    return found


def draw(m):
    """The stale figures, {path: the bytes of the PNG}, which depend on nothing but their data."""
    files = {}
    for path, text in stale(m).items():
        data, drawing = json.loads(text), FIGURES[path.name][1]
        shown = drawing if data else drawings.not_recorded
        files[path] = drawings.png(shown, data, {"Data": digest(text)})
    return files
