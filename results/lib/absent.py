"""What has runs and is in no table, or has rows that do not count, and why: words for a reader."""

from collections import Counter
from contextlib import suppress

from lib.command import Failure
from lib.names import OF_A_RUN, join
from lib.steps import find
from lib.tables import CANONICAL, device_of


def some(texts, most=3):
    """The first of several texts, and how many others there are."""
    left = len(texts) - most
    return [*texts[:most], *([f"{left} other{'s' * (left > 1)}"] if left > 0 else [])]


def unlisted(m):
    """The steps with other settings that have runs under the condition, but no row anywhere."""
    found = {}
    for row in m.rows:
        base = m.steps.get("@".join(filter(None, (row["script"], row["preset"]))))
        if base and row["overrides"]:
            with suppress(Failure, ValueError):  # it may be of an earlier state of the script
                words = m.condition.parse(base)[1].split()
                common = {word.partition("=")[0] for word in words}
                own = dict(word.split("=") for word in row["overrides"].split())
                name = join(base.key, {x: own[x] for x in own.keys() - common})
                step = find(m.steps, name)
                found |= {} if step.key in m.steps else {step.key: step}
    return [step for step in found.values() if m.runs(step)]


def why_not(m, step):
    """Why rows of a step do not count under the condition: ["3 runs at steps=1000", ...]."""
    whys, counted = Counter(), {id(row) for row in m.runs(step).values()}
    settings, overrides = m.condition.parse(step)
    for row in m.rows_of(step):
        if step.settings.items() <= row["settings"].items():
            if id(row) not in counted:
                whys[difference(m, row, step, settings)] += 1
    whys.pop("", None)
    return [f"{n} {'run' if n == 1 else 'runs'} {why}" for why, n in whys.items()]


def absent(m, step):
    """Why an idea, or a script of one's own, is in no table of a page; None where it is in one.

    Nothing is said of what has no runs at all.
    """
    n, whys = len(m.runs(step, CANONICAL)), why_not(m, step)
    if (n > 2 and not step.is_own) or not (n or whys) or (step.settings and not step.listed):
        return None
    count = f"{n} run counts" if n == 1 else f"{n} runs count"
    needs = "it is on no page until it is a patch" if n > 2 else "a page needs three seeds"
    return f"{step.key}: {'; '.join([count, *some(whys)])}; {needs}"


def difference(m, row, step, settings):
    """In what a row is no run of the step under the condition; empty where a seed is double."""
    if row["source"] != step.source:
        return "made by another source"
    other = {x for x in settings if row["settings"].get(x, settings[x]) != settings[x]}
    if other := sorted(other - OF_A_RUN):
        return "at " + " ".join(f"{x}={row['settings'][x]}" for x in other)
    if row["data_hash"] != m.condition.data_of(step):
        return f"on {row['data']}"
    if device_of(row) != m.condition.device:
        return f"on {device_of(row)}"
    return "" if row["settings"].keys() == settings.keys() else "made with other settings"
