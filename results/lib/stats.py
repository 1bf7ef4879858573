"""Statistics of {pair: value}, where a pair is a seed or a split: intervals, paired changes, tests.

A plain number in place of such a dictionary is a value without any spread, as an n-gram model's.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np


@cache
def student(df):
    """Angles, and the share of Student's distribution between -t and t, t = sqrt(df) tan(angle)."""
    angle = np.linspace(0, math.pi / 2, 100_001)
    density = np.cos(angle) ** (df - 1)  # of the angle, up to a factor
    share = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return angle, share / share[-1]


def t_quantile(df, inside=0.95):
    """The t that has the share `inside` of Student's distribution between -t and t."""
    angle, share = student(df)
    return math.sqrt(df) * math.tan(np.interp(inside, share, angle))


def p_value(t, df):
    """The share of Student's distribution that lies further from 0 than t."""
    angle, share = student(df)
    return float(1 - np.interp(math.atan(abs(t) / math.sqrt(df)), angle, share))


def edge(points):
    """The (cost, loss) pairs that no other is better than, at a lower cost or the same."""
    found = []
    for cost, loss in sorted(points):
        if not found or loss < found[-1][1]:
            found.append((cost, loss))
    return found


@dataclass
class Interval:
    """A mean and half its 95% interval: nan for one value, 0 for a number without any spread."""

    mean: float
    half: float
    n: int  # pairs; of an unpaired change the seeds of the side that has fewer
    df: float = 0.0  # degrees of freedom, where they are not n - 1

    @property
    def low(self):
        return self.mean - self.half

    @property
    def high(self):
        return self.mean + self.half

    @property
    def significant(self):
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    @property
    def p(self):
        """How often chance alone would give a mean as far from zero, if the truth were zero."""
        if self.half == 0:  # all values are the same
            return float(self.mean == 0)
        df = self.df or self.n - 1
        return p_value(self.mean / self.half * t_quantile(df), df)


def interval(values):
    """The mean of the values and Student's 95% interval of it; None where there is no value."""
    if isinstance(values, float):
        return Interval(values, 0.0, 0)
    found = [values[pair] for pair in sorted(values)]
    if not found:
        return None
    n = len(found)
    half = t_quantile(n - 1) * np.std(found, ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return Interval(float(np.mean(found)), float(half), n)


def unpaired(values, base):
    """The change between the means of two samples that share no chance, with Welch's interval.

    Welch 1947, for samples whose spreads differ. None where a side has no value.
    """
    sides = [np.array([*side.values()]) for side in (values, base)]
    n = min(map(len, sides))
    if n == 0:
        return None
    mean = float(sides[0].mean() - sides[1].mean())
    if n == 1:
        return Interval(mean, math.nan, n)
    errors = [side.var(ddof=1) / len(side) for side in sides]
    if not any(errors):
        return Interval(mean, 0.0, n)
    df = sum(errors) ** 2 / sum(x**2 / (len(y) - 1) for x, y in zip(errors, sides, strict=True))
    return Interval(mean, float(t_quantile(df) * math.sqrt(sum(errors))), n, float(df))


def combine(function, *parts):
    """function(value, value, ...) of every pair that all the parts have."""
    pairs = [part.keys() for part in parts if not isinstance(part, float)]
    if not pairs:
        return function(*parts)
    common = sorted(set.intersection(*map(set, pairs)))
    return {x: function(*(y if isinstance(y, float) else y[x] for y in parts)) for x in common}


def changes(values, base):
    """The change from the base, pair by pair."""
    return combine(lambda value, of: value - of, values, base)


def holm(p_values):
    """The keys of {key: p} that remain: the chance that any of them is there wrongly is below 5%.

    Holm 1979: the smallest p is compared with 0.05 / n, the next with 0.05 / (n - 1), and so on
    until one is too large.
    """
    remaining = set()
    for tested, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if p > 0.05 / (len(p_values) - tested):
            break
        remaining.add(key)
    return remaining


class Family(dict):
    """Changes that are tested together, {key: interval}."""

    @property
    def better(self):
        return {key for key, change in self.items() if change.high < 0}

    @property
    def worse(self):
        return {key for key, change in self.items() if change.low > 0}

    @cached_property
    def surviving(self):
        """Those that are significant after Holm's correction."""
        return holm({key: change.p for key, change in self.items()})


def pairs_needed(found, size, most=1000):
    """How many pairs with this spread would show a change of a size in four of five trials.

    None for more than `most`.
    """
    deviation = found.half * math.sqrt(found.n) / t_quantile(found.df or found.n - 1)
    for n in range(2, most + 1):
        if (t_quantile(n - 1) + t_quantile(n - 1, 0.6)) * deviation / math.sqrt(n) <= size:
            return n
    return None


def error_over_names(values, targets):
    """Half the 95% interval of sum(values) / sum(targets), (N,) each, over other such names."""
    values, targets = np.asarray(values), np.asarray(targets)
    apart = values - values.sum() / targets.sum() * targets
    return float(1.96 * math.sqrt(len(values)) * apart.std(ddof=1) / targets.sum())
