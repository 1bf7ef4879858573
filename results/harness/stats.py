"""What seeds say: Student's intervals, and effects paired by seed."""

import math
from dataclasses import dataclass

import numpy as np

from harness.scripts import Step, value_of


def t_quantile(df, inside=0.95):
    """The t that has the share `inside` of Student's distribution between -t and t."""
    # With t = sqrt(df) tan(angle) the density is cos(angle)^(df - 1), up to a factor.
    angle = np.linspace(0, math.pi / 2, 100_001)
    density = np.cos(angle) ** (df - 1)
    share = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(df) * math.tan(np.interp(inside * share[-1], share, angle))


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


def interval(values):
    """The mean of the values and Student's 95% interval of it."""
    n = len(values)
    half = t_quantile(n - 1) * np.std(values, ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return Interval(float(np.mean(values)), float(half), n)


def effect(step: Step, base: Step, figure="test"):
    """How a figure changes from one step to another, paired by seed; None if no seed has both."""
    seeds = sorted(step.rows.keys() & base.rows.keys())
    if not seeds:
        return None
    changes = [value_of(step.rows[s], figure) - value_of(base.rows[s], figure) for s in seeds]
    return interval(changes)


def signed(value, digits=4):
    """+0.1234 or −0.1234, with a minus sign of the width of the plus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def in_words(change):
    """−0.1371 (−0.1444 to −0.1299); what may be zero is said to."""
    if math.isnan(change.half):
        return f"{signed(change.mean)} (one seed)"
    doubt = ", may be zero" if change.may_be_zero else ""
    return f"{signed(change.mean)} ({signed(change.low)} to {signed(change.high)}{doubt})"
