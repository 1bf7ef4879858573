"""The statistics: Student's intervals, and effects paired by seed."""

import math
import sys
import types

import pytest
from common import ROOT

sys.path.insert(0, str(ROOT / "results"))

from harness.stats import effect, holm, in_words, interval, p_value, t_quantile


@pytest.mark.parametrize("df, t", [(1, 12.70620), (2, 4.30265), (4, 2.77645), (9, 2.26216)])
def test_the_quantiles_are_those_of_the_tables(df, t):
    assert t_quantile(df) == pytest.approx(t, abs=2e-5)


def test_an_interval_is_the_mean_and_t_standard_errors():
    found = interval([1.0, 2.0, 6.0])
    half = 4.30265 * math.sqrt(7) / math.sqrt(3)  # the variance is (4 + 1 + 9) / 2
    assert (found.mean, found.seeds) == (3.0, 3)
    assert found.low == pytest.approx(3 - half, abs=1e-4)
    assert found.high == pytest.approx(3 + half, abs=1e-4)


def test_one_value_has_no_interval():
    found = interval([1.5])
    assert found.mean == 1.5
    assert math.isnan(found.half)
    assert not found.may_be_zero
    assert in_words(found) == "+1.5000 (one seed)"


def of(*losses, seeds=None):
    """A step with these test losses."""
    seeds = seeds or range(len(losses))
    pairs = zip(seeds, losses, strict=True)
    return types.SimpleNamespace(rows={seed: {"test": loss} for seed, loss in pairs})


def test_an_effect_is_paired_by_seed():
    """The seeds differ by 10, the pairs by 1: the interval has no width."""
    found = effect(of(12.0, 22.0), of(11.0, 21.0))
    assert (found.mean, found.half, found.seeds) == (1.0, 0.0, 2)


def test_only_common_seeds_have_a_part_in_an_effect():
    found = effect(of(5.0, 7.0, 99.0, seeds=[0, 1, 2]), of(3.0, 4.0, 50.0, seeds=[1, 0, 7]))
    assert (found.mean, found.seeds) == (2.5, 2)  # 5 - 4 and 7 - 3
    assert effect(of(5.0), of(4.0, seeds=[1])) is None


@pytest.mark.parametrize(
    "p_values, remaining",
    [([0.01, 0.015, 0.024, 0.2], 3), ([0.01, 0.02, 0.02, 0.02], 1), ([0.02, 0.03], 2), ([], 0)],
)
def test_holms_correction(p_values, remaining):
    """By hand: the limits are 0.05 / 4, 0.05 / 3 and so on. Bonferroni would keep one of each."""
    assert holm(dict(enumerate(p_values))) == set(range(remaining))


@pytest.mark.parametrize("t, df, p", [(2.776445, 4, 0.05), (-4.604095, 4, 0.01), (0, 2, 1)])
def test_p_values_of_students_table(t, df, p):
    assert p_value(t, df) == pytest.approx(p, abs=1e-5)


def test_the_p_value_of_an_interval_that_just_touches_zero():
    found = interval([1.0, 2.0, 4.0])
    assert interval([x + found.half - found.mean for x in (1.0, 2.0, 4.0)]).p == pytest.approx(0.05)
