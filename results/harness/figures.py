"""The figures inside sentences: what a marker such as `effect train-2@final test` stands for.

A loss is a column of
results.csv, or the difference of two, as in test-train.
"""

import inspect
import math
import re
from dataclasses import dataclass

from harness.command import Failure
from harness.effects import at_two_sizes, family, rebuilt
from harness.evidence import counted, of_now, speeds
from harness.rows import key_of
from harness.stats import changes, effect, in_words, interval, mean_in_words, signed


@dataclass
class Figure:
    """The text of a figure, and from where to where it may lie."""

    text: str
    low: float = math.nan
    high: float = math.nan


NOT_RECORDED = Figure("(not recorded)")


def find(evidence, name):
    """The step that a marker names."""
    if name not in evidence.steps:
        raise Failure(f"a marker names {name}, and there is no such step")
    return evidence.steps[name]


def effect_figure(evidence, name, loss, base=None):
    """effect STEP LOSS [STEP]: the change against what it builds on, or against another step."""
    step = find(evidence, name)
    base = find(evidence, base) if base else evidence.steps[step.builds_on]
    change = effect(step, base, loss)
    return Figure(in_words(change), change.low, change.high) if change else NOT_RECORDED


def beyond_figure(evidence, name, loss, *parts):
    """beyond STEP LOSS STEP...: what the step changes less what the others change, added up."""
    steps = [find(evidence, x) for x in (name, *parts)]
    whole, *parts = (changes(x, evidence.steps[x.builds_on], loss) for x in steps)
    seeds = sorted(whole.keys() & set.intersection(*(part.keys() & whole.keys() for part in parts)))
    if not seeds:
        return NOT_RECORDED
    change = interval([whole[seed] - sum(part[seed] for part in parts) for seed in seeds])
    return Figure(in_words(change), change.low, change.high)


def at_rate_figure(evidence, name, rate, base=None):
    """at-rate STEP RATE [STEP]: the change in validation loss at a learning rate."""
    step = find(evidence, name)
    base = find(evidence, base) if base else evidence.steps[step.builds_on]
    here, there = (evidence.at_rates.get(x.key, {}).get(float(rate)) for x in (step, base))
    change = here and there and effect(here, there)
    return Figure(in_words(change), change.low, change.high) if change else NOT_RECORDED


def mean_figure(evidence, name, loss):
    """mean STEP LOSS: the mean over the seeds and its interval."""
    step = find(evidence, name)
    if not step.rows:
        return NOT_RECORDED
    found = interval(step.values(loss))
    if "-" in loss:  # a difference has a sign
        return Figure(in_words(found), found.low, found.high)
    return Figure(mean_in_words(found), found.low, found.high)


def each_figure(evidence, name, loss):
    """each STEP LOSS: the value of every seed."""
    values = find(evidence, name).values(loss)
    text = ", ".join(f"{value:.4f}" for value in values)
    return Figure(text, min(values), max(values)) if values else NOT_RECORDED


def published_figure(evidence, name, column):
    """published STEP train|test|exact: what was published, or its exact evaluation."""
    value = find(evidence, name).published[column]
    return Figure(f"{value:.{3 if column == 'exact' else 2}f}", value, value)


def published_effect_figure(evidence, name, column):
    """published-effect STEP train|test|exact: its change against what the step builds on."""
    step = find(evidence, name)
    change = step.published[column] - evidence.steps[step.builds_on].published[column]
    return Figure(signed(change, 3 if column == "exact" else 2), change, change)


def time_share_figure(evidence, name, base):
    """time-share STEP STEP: the training time as a fraction of another step's, by bench.py."""
    steps, measured = [find(evidence, name), find(evidence, base)], speeds(evidence)
    if not all(step.key in measured for step in steps):
        return NOT_RECORDED
    time, of = (step.config.steps * measured[step.key]["ms_per_step"] for step in steps)
    return Figure(f"{time / of:.0%}", time / of, time / of)


def time_to_figure(evidence, name, other):
    """time-to STEP STEP: its training time as a fraction of what the other takes to the same loss.

    That is where the other's curve, the mean over its seeds, is first as low as this step's loss.
    """
    step, other = find(evidence, name), find(evidence, other)
    measured, curves = speeds(evidence), other.values("curve")
    if not (step.rows and curves and all(curves) and {step.key, other.key} <= measured.keys()):
        return NOT_RECORDED
    goal = interval(step.values("test")).mean
    reached = [
        points[0][0]
        for points in zip(*curves, strict=True)
        if interval([test for _, _, test in points]).mean <= goal
    ]
    if not reached:
        raise Failure(f"{other.key} never comes as low as {step.key}")
    time = step.config.steps * measured[step.key]["ms_per_step"]
    of = reached[0] * measured[other.key]["ms_per_step"]
    return Figure(f"{time / of:.0%}", time / of, time / of)


def probability_figure(evidence, name, loss):
    """probability STEP LOSS: the geometric mean of the probability of the right character."""
    step = find(evidence, name)
    if not step.rows:
        return NOT_RECORDED
    share = math.exp(-interval(step.values(loss)).mean)
    return Figure(f"{share:.1%}", share, share)


def new_names_figure(evidence, name):
    """new-names STEP: the share of generated names that are in neither split."""
    key = find(evidence, name).key
    rows = [row for row in of_now(evidence, "generated.csv") if key_of(row) == key]
    if not rows:
        return NOT_RECORDED
    share = sum(row["new"] for row in rows) / sum(row["names"] for row in rows)
    return Figure(f"{share:.1%}", share, share)


def counted_figure(evidence, model, loss):
    """counted bigram|Kneser-Ney LOSS: what ngram.py counted."""
    values = [row[loss] for row in counted(evidence).values() if row["model"] == model]
    return Figure(f"{values[0]:.4f}", values[0], values[0]) if values else NOT_RECORDED


def family_figure(evidence, of_ideas):
    """family measured|by-chance|surviving|not-told-from-zero: how many ideas are so."""
    found, surviving = family(evidence)
    number = {
        "measured": len(found),
        "by-chance": round(0.05 * len(found)),  # of 95% intervals, without any effect
        "surviving": len(surviving),
        "not-told-from-zero": sum(change.may_be_zero for change in found.values()),
    }[of_ideas]
    return Figure(str(number), number, number)


def two_sizes_figure(evidence, of_pairs):
    """two-sizes measured|told|same-side|kept|turned|new: how many ideas are so at two sizes."""
    pairs = [(small, wide) for _, small, wide in at_two_sizes(evidence)]
    told = [(small, wide) for small, wide in pairs if not small.may_be_zero]
    twice = [small.mean * wide.mean for small, wide in told if not wide.may_be_zero]
    number = {
        "measured": len(pairs),
        "told": len(told),
        "same-side": sum(small.mean * wide.mean > 0 for small, wide in told),
        "kept": sum(product > 0 for product in twice),
        "turned": sum(product < 0 for product in twice),
        "new": sum(small.may_be_zero and not wide.may_be_zero for small, wide in pairs),
    }[of_pairs]
    return Figure(str(number), number, number)


def holm_figure(evidence, name):
    """holm STEP: whether the idea's effect survives Holm's correction over all ideas."""
    found, surviving = family(evidence)
    key = find(evidence, name).key
    if key not in found:
        return NOT_RECORDED
    return Figure("survives Holm" if key in surviving else "does not survive Holm")


def rebuilt_figure(evidence):
    """rebuilt: how far at most a step of the chain, reimplemented, is from the published one."""
    wanted = {step.key for step in evidence.chain if step.published.get("rebuilt")}
    away = {x.key: abs(found.mean - exact) for x, exact, found in rebuilt(evidence)}
    if not wanted or not wanted <= away.keys():
        return NOT_RECORDED
    furthest = max(away[key] for key in wanted)
    return Figure(f"{furthest:.3f}", furthest, furthest)


FIGURES = {
    "effect": effect_figure,
    "beyond": beyond_figure,
    "at-rate": at_rate_figure,
    "mean": mean_figure,
    "each": each_figure,
    "published": published_figure,
    "published-effect": published_effect_figure,
    "time-share": time_share_figure,
    "time-to": time_to_figure,
    "probability": probability_figure,
    "new-names": new_names_figure,
    "counted": counted_figure,
    "family": family_figure,
    "two-sizes": two_sizes_figure,
    "holm": holm_figure,
    "rebuilt": rebuilt_figure,
}


WORDS = {  # what the words of a marker may be, by the names of their parameters
    "loss": "(train|test|test_from_2nd|test_unseen)(-(train|test|test_from_2nd|test_unseen))?",
    "rate": r"\d+(\.\d+)?",
    "column": "train|test|exact",
    "model": "bigram|Kneser-Ney",
    "of_ideas": "measured|by-chance|surviving|not-told-from-zero",
    "of_pairs": "measured|told|same-side|kept|turned|new",
}


def resolve(evidence, marker):
    """The text of a figure, and what its sentence presumes that is not so, or None."""
    kind, *words = marker.split()
    presumed = words.pop() if words and re.fullmatch(r"zero|[<>]-?\d+(\.\d+)?", words[-1]) else None
    try:
        given = inspect.signature(FIGURES[kind]).bind(evidence, *words).arguments
    except TypeError as error:
        raise Failure(f"{marker!r} is not {inspect.getdoc(FIGURES[kind])}") from error
    for word, known in WORDS.items():
        if word in given and not re.fullmatch(known, given[word]):
            raise Failure(f"{marker!r}: {given[word]} is not {known}")
    figure = FIGURES[kind](evidence, *words)
    if presumed is None:
        return figure.text, None
    if presumed == "zero":
        holds = figure.low <= 0 <= figure.high
    elif presumed[0] == "<":
        holds = figure.high < float(presumed[1:])
    else:
        holds = figure.low > float(presumed[1:])
    return figure.text, None if holds else f"presumed {marker}: it is {figure.text}"
