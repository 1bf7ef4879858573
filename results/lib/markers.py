"""The markers in the sentences of the pages, each with the claim that its sentence makes.

    effect A B [LOSS] CLAIM   the change from B to A, and half its 95% interval
    mean A [LOSS] [CLAIM]     the mean over the seeds, likewise
    count WHAT [CLAIM]        a plain number

A claim is <X or >X, which the whole interval must be, or n.s.: the interval includes zero.
"""

import math
import re

from lib.blocks import BLIND
from lib.command import Failure
from lib.costs import relative_time
from lib.known import CONTROLS
from lib.markdown import NOT_RECORDED, number, plus_minus, signed
from lib.stats import interval
from lib.tables import Condition


def significant(pairs):
    return sum(pair.significant for pair in pairs)


def transferred(m):
    """The ideas that are significant at both sizes, with the same sign."""
    both = [pair for pair in m.transfer.values() if significant(pair) == 2]
    return sum(small.mean * wide.mean > 0 for small, wide in both)


def holding(m, step):
    """Under how many other conditions a step lowers the loss significantly, and of how many."""
    found = [changes.get(step) for name, changes in m.by_condition.items() if name != "seeds"]
    found = [x for x in found if x and x.n > 1]
    return (sum(x.high < 0 for x in found), len(found)) if found else None


def learned(m, step):
    """How far a step gets on the made-up list, from a blind guess to the lowest possible loss."""
    if made_up := m.made_up:
        loss = m.mean(step, condition=Condition(data_hash=made_up["data_hash"]))
        return loss and (BLIND - loss.mean) / (BLIND - made_up["test"])


def ensemble_of(m, step, models, mixed):
    """The test loss of the largest average of a step up to that many models, mixed or not."""
    rows = [row for row in m.current("ensemble.csv") if row["step"] == step]
    rows = [row for row in rows if row["models"] <= models and (row["weight"] > 0) == mixed]
    return max(rows, key=lambda row: row["models"])["test"] if rows else None


COUNTS = {  # a plain number, how it is written, and the steps that are named after it
    "runs": ("{}", lambda m: len(m.canonical)),
    "ideas": ("{}", lambda m: len(m.family)),
    "ideas-better": ("{}", lambda m: len(m.family.better)),
    "ideas-worse": ("{}", lambda m: len(m.family.worse)),
    "ideas-holm": ("{}", lambda m: len(m.family.surviving)),
    "ideas-by-chance": ("{:.0f}", lambda m: 0.05 * len(m.family)),  # if none had any effect
    "tuned-ideas": ("{}", lambda m: len(m.tuned_family)),
    "tuned-ideas-better": ("{}", lambda m: len(m.tuned_family.better)),
    "tuned-ideas-worse": ("{}", lambda m: len(m.tuned_family.worse)),
    "tuned-ideas-holm": ("{}", lambda m: len(m.tuned_family.surviving)),
    "ideas-better-in-both": ("{}", lambda m: len(m.family.better & m.tuned_family.better)),
    "ideas-better-and-tuned": ("{}", lambda m: len(m.family.better & m.tuned_family.keys())),
    "controls": ("{}", lambda m: len(m.group(CONTROLS))),
    "transfer-significant": ("{}", lambda m: significant(x for x, _ in m.transfer.values())),
    "transfer-kept": ("{}", transferred),
    "replication-error": ("{:.3f}", lambda m: m.replication_error()),
    "mixed:A": ("{:.3f}", lambda m, a: ensemble_of(m, a, 1, True)),
    "averaged:A": ("{:.3f}", lambda m, a: ensemble_of(m, a, 5, False)),
    "averaged-mixed:A": ("{:.3f}", lambda m, a: ensemble_of(m, a, 5, True)),
    "known-names": ("{:.0%}", lambda m: m.made_up and m.made_up["known"]),
    "learned:A": ("{:.0%}", learned),
    "new-names:A": ("{:.0%}", lambda m, step: m.new_names(step)),
    "probability:A": ("{:.1%}", lambda m, a: math.exp(-m.mean(a).mean) if m.mean(a) else None),
    "time:A:B": ("{:.0%}", lambda m, a, b: relative_time(m, a, b)),
    "holds:A": ("{} of {}", holding),
}


def count(m, what):
    """A plain number, and its text; None and no text where it is not recorded."""
    name, *steps = what.split(":")
    usage = ":".join([name, *"ABC"[: len(steps)]])
    if usage not in COUNTS:
        raise Failure(f"no count {what!r}; there are {', '.join(COUNTS)}")
    form, function = COUNTS[usage]
    value = function(m, *map(m.key, steps))
    values = value if isinstance(value, tuple) else (value,)
    return values[0], "" if value is None else form.format(*values)


ONE = "(?:train|test|test_from_2nd|test_unseen|lowest)"
LOSS, LIMIT = f"(?: ({ONE}(?:-{ONE})?))?", r" [<>]-?\d+(?:\.\d+)?"
FORMS = {
    "effect": rf"(\S+) (\S+){LOSS}( n\.s\.|{LIMIT})",
    "mean": rf"(\S+){LOSS}({LIMIT})?",
    "count": rf"(\S+)({LIMIT})?",
}


def holds(claim, found):
    if claim == "n.s.":
        return found.low <= 0 <= found.high
    limit = float(claim[1:])
    return found.high < limit if claim[0] == "<" else found.low > limit


def fill(m, marker):
    """The text of a marker in a sentence, and what it claims that does not hold, or None."""
    kind, _, rest = marker.partition(" ")
    form = re.fullmatch(FORMS[kind], rest)
    if not form:
        usage = re.search(rf"^ *({kind} .*?)  ", __doc__, flags=re.M)[1]
        raise Failure(f"{marker!r} is not {usage}")
    *words, claim = form.groups()
    if kind == "count":
        value, text = count(m, *words)
        found = None if value is None else interval(float(value))
    elif kind == "mean":
        name, loss = m.key(words[0]), words[1] or "test"
        found = m.mean(name, loss)
        text = plus_minus(found, signed if "-" in loss else number)
    else:
        a, b, loss = words
        found = m.effect(m.key(a), m.key(b), loss or "test")
        text = plus_minus(found)
    if found is None:
        return NOT_RECORDED, None
    wrong = claim and not holds(claim.strip(), found)
    return text, f"{marker!r} does not hold: it is {text}" if wrong else None
