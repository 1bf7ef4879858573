"""The statistics: intervals, paired changes, and how sure they are."""

import math

import pytest
from lib.drawings import BLUE, GREY, ORANGE, verdict_colour
from lib.markdown import change, plus_minus
from lib.stats import changes, holm, interval, p_value, pairs_needed


@pytest.mark.parametrize("t, df, p", [(2.776445, 4, 0.05), (-4.604095, 4, 0.01), (0, 2, 1)])
def test_p_values_of_students_table(t, df, p):
    assert p_value(t, df) == pytest.approx(p, abs=1e-5)


def test_an_interval_is_the_mean_and_t_standard_errors():
    """One that just touches zero has p = 0.05."""
    values = {0: 1.0, 1: 2.0, 2: 6.0}
    found = interval(values)
    half = 4.30265 * math.sqrt(7) / math.sqrt(3)  # the variance is (4 + 1 + 9) / 2
    assert (found.mean, found.n) == (3.0, 3)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-4)
    assert not found.significant
    assert change(found) == f"+3.0000 ± {half:.4f} n.s."
    shifted = interval({seed: x + found.half - found.mean for seed, x in values.items()})
    assert shifted.p == pytest.approx(0.05)


def test_better_is_blue_and_worse_orange():
    """As the titles of the figures say; gray is not significant. Below zero is better."""
    for mean, significant, colour in (-1, True, BLUE), (1, True, ORANGE), (-1, False, GREY):
        assert verdict_colour([mean, 0.5, significant]) == colour


def test_one_value_has_no_interval():
    found = interval({7: 1.5})
    assert math.isnan(found.half) and not found.significant
    assert plus_minus(found) == "+1.500 (one seed)"
    assert interval({}) is None and plus_minus(None) == "(not recorded)"


def test_a_change_is_paired():
    """The seeds differ by 10, all pairs by 1: the interval has no width."""
    found = interval(changes({0: 12.0, 1: 22.0, 2: 99.0}, {1: 21.0, 0: 11.0, 7: 50.0}))
    assert (found.mean, found.half, found.n) == (1.0, 0.0, 2)
    assert changes({0: 2.5, 1: 3.0}, 2.0) == {0: 0.5, 1: 1.0}
    assert changes(2.5, 2.0) == 0.5


@pytest.mark.parametrize(
    "p_values, remaining",
    [([0.01, 0.015, 0.024, 0.2], 3), ([0.01, 0.02, 0.02, 0.02], 1), ([0.02, 0.03], 2), ([], 0)],
)
def test_holms_correction(p_values, remaining):
    """By hand: the limits are 0.05 / 4, 0.05 / 3 and so on. Bonferroni would keep one of each."""
    assert holm(dict(enumerate(p_values))) == set(range(remaining))


@pytest.mark.parametrize("effect, n", [(1, 10), (0.5, 34)])
def test_the_pairs_that_show_a_change_in_four_of_five_trials(effect, n):
    """As in tables of the power of the paired t-test, for an effect in standard deviations."""
    found = interval({i: (-1) ** i * math.sqrt(9 / 10) for i in range(10)})  # with deviation 1
    assert abs(pairs_needed(found, effect) - n) <= 1
