"""What seeds say: Student's intervals, and effects paired by seed."""
import functools, math, statistics
from dataclasses import dataclass

@functools.cache
def t_quantile(df, inside=0.95):
    """The t within plus and minus which Student's distribution has the share `inside`."""
    # With t = sqrt(df) * tan(a) the density is scale * cos(a) ** (df - 1), smooth and bounded.
    scale = 2 / math.sqrt(math.pi) * math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2))
    def share(angle, parts=200):  # Simpson's rule
        y = [math.cos(angle * i / parts) ** (df - 1) for i in range(parts + 1)]
        return scale * angle / parts / 3 * (y[0] + y[-1] + 4 * sum(y[1::2]) + 2 * sum(y[2:-1:2]))
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < inside else (low, middle)
    return math.sqrt(df) * math.tan(low)

def interval(values):
    """Mean, and half the width of its 95% interval; None with a single value."""
    if len(values) < 2: return statistics.fmean(values), None
    return statistics.fmean(values), t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))

@dataclass
class Effect:
    """The change in a loss from one step to another, paired by seed."""
    base: "Step"
    mean: float
    half: float | None
    seeds: int
    stale: bool

    @property
    def interval(self):
        return "" if self.half is None else f"{signed(self.mean - self.half)} to {signed(self.mean + self.half)}"

    @property
    def may_be_zero(self):
        return self.half is not None and abs(self.mean) <= self.half

def test_loss(row):
    return row["test"]

def paired(step, base, loss=test_loss):
    """The change in loss(row) from one step to another; None where no seed has both."""
    seeds = step.rows.keys() & base.rows.keys() if step and base else ()
    if not seeds: return None
    pairs = [(step.rows[seed], base.rows[seed]) for seed in sorted(seeds)]
    changes = [loss(row) - loss(base_row) for row, base_row in pairs]
    return Effect(base, *interval(changes), len(pairs), any(row["stale"] for pair in pairs for row in pair))

def effect(step, steps):
    """What the step changes in the test loss against the one that it builds on."""
    return paired(step, steps.get(step.builds_on))

def signed(value):
    return f"{value:+.4f}".replace("-", "−")

def plural(count, noun):
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

