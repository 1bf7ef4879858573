"""What seeds say: Student's intervals, and effects paired by seed."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from harness.scripts import Step, value_of


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


def holm(p_values, level=0.05):
    """The keys of {key: p} that remain: with this chance at most is any of them there wrongly.

    Holm 1979: the smallest p is compared with level / n, the next with level / (n - 1), and so on
    until one is too large.
    """
    remaining = set()
    for tested, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if p > level / (len(p_values) - tested):
            break
        remaining.add(key)
    return remaining


@dataclass
class Interval:
    """A mean and its 95% interval; half is nan for a single value, which has none."""

    mean: float
    half: float
    seeds: int

    @property
    def low(self):
        return self.mean - self.half

    @property
    def high(self):
        return self.mean + self.half

    @property
    def may_be_zero(self):
        return self.low <= 0 <= self.high

    @property
    def p(self):
        """How often seeds alone would give a mean as far from zero, if the truth were zero."""
        if self.half == 0:  # all values are the same
            return float(self.mean == 0)
        df = self.seeds - 1
        return p_value(self.mean / self.half * t_quantile(df), df)


def interval(values):
    """The mean of the values and Student's 95% interval of it."""
    n = len(values)
    half = t_quantile(n - 1) * np.std(values, ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return Interval(float(np.mean(values)), float(half), n)


def changes(step: Step, base: Step, figure="test"):
    """How a figure changes from one step to another, {seed: change}."""
    seeds = sorted(step.rows.keys() & base.rows.keys())
    return {s: value_of(step.rows[s], figure) - value_of(base.rows[s], figure) for s in seeds}


def effect(step: Step, base: Step, figure="test"):
    """The interval of the change from one step to another; None if no seed has both."""
    found = changes(step, base, figure)
    return interval([*found.values()]) if found else None


def signed(value, digits=4):
    """+0.1234 or −0.1234, with a minus sign of the width of the plus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def mean_in_words(found):
    """2.0680 (2.0613 to 2.0747)."""
    if math.isnan(found.half):
        return f"{found.mean:.4f} (one seed)"
    return f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f})"


def in_words(change):
    """−0.1371 (−0.1444 to −0.1299); what may be zero is said to."""
    if math.isnan(change.half):
        return f"{signed(change.mean)} (one seed)"
    doubt = ", may be zero" if change.may_be_zero else ""
    return f"{signed(change.mean)} ({signed(change.low)} to {signed(change.high)}{doubt})"
