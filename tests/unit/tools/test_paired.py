"""tools/metrics/paired.py: what is said of two runs over the same pictures."""

import itertools

import numpy as np
import pytest
from scipy import stats

from tools.metrics import paired


@pytest.fixture
def random():
    return np.random.default_rng(3)


def tossed(differences):
    """p by every way in which the signs could have fallen."""
    differences = differences[differences != 0]
    ranks = stats.rankdata(np.abs(differences))
    middle = ranks.sum() / 2
    found = abs(ranks[differences > 0].sum() - middle)
    signs = itertools.product((0, 1), repeat=len(ranks))
    return np.mean([abs(np.dot(ranks, way) - middle) >= found - 1e-9 for way in signs])


@pytest.mark.parametrize("count", [1, 2, 5, 8, 11])
def test_p_is_exact_where_differences_are_tied_or_zero(count, random):
    for _ in range(20):
        differences = random.integers(-3, 5, count).astype(float)
        if differences.any():
            assert paired.signed_rank(differences) == pytest.approx(tossed(differences))


@pytest.mark.parametrize("count", [6, 20, 49])
def test_p_is_that_of_scipy(count, random):
    differences = random.normal(0.3, 1, count)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert paired.signed_rank(differences) == pytest.approx(expected)


def test_p_of_many_pictures_goes_on_where_it_is_no_longer_counted_out(monkeypatch, random):
    differences = random.normal(0.08, 1, 400)
    exact = paired.signed_rank(differences)
    monkeypatch.setattr(paired, "EXACT_TO", 399)
    assert paired.signed_rank(differences) == pytest.approx(exact, abs=1e-3)


def test_runs_that_are_equal_show_nothing(random):
    values = random.normal(size=30)
    found = paired.compared(values, values)
    assert (found.p, found.shift, found.rises, found.falls) == (1, 0, 0, 0)


@pytest.mark.parametrize("count", [6, 9, 14])
def test_the_interval_holds_the_shifts_that_the_test_does_not_refuse(count, random):
    differences = random.normal(1, 2, count)
    found = paired.compared(np.zeros(count), differences)
    assert found.low < found.shift < found.high
    step = 1e-6
    for edge, inwards in ((found.low, step), (found.high, -step)):
        assert paired.signed_rank(differences - edge - inwards) > paired.LEVEL
        assert paired.signed_rank(differences - edge + inwards) <= paired.LEVEL


def test_few_pictures_have_no_interval_and_show_nothing():
    for count in (1, 2, 5):
        found = paired.compared(np.zeros(count), np.arange(1, count + 1))
        assert found.low is None
        assert found.p > paired.LEVEL
    assert paired.compared(np.zeros(6), np.arange(1, 7)).p == pytest.approx(2 / 2**6)


def test_the_interval_of_many_pictures_is_the_counted_one_nearly(monkeypatch, random):
    values = random.normal(0.2, 1, 300)
    exact = paired.compared(np.zeros(300), values)
    monkeypatch.setattr(paired, "EXACT_TO", 299)
    other = paired.compared(np.zeros(300), values)
    assert other.low == pytest.approx(exact.low, abs=1e-3)
    assert other.high == pytest.approx(exact.high, abs=1e-3)


def test_one_odd_picture_does_not_decide(random):
    differences = np.full(12, 0.1) + random.normal(0, 0.01, 12)
    differences[5] = -40.0
    found = paired.compared(np.zeros(12), differences)
    assert found.mean < 0 < found.low
    assert found.p < paired.LEVEL


def test_the_interval_holds_the_true_shift_as_often_as_promised(random):
    held = 0
    for _ in range(2000):
        found = paired.compared(np.zeros(10), random.standard_t(3, 10) + 0.5)
        held += found.low <= 0.5 <= found.high
    assert held >= 0.94 * 2000


def test_p_of_several_measures_is_raised_as_holm_says():
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired.holm([0.5, 0.9]) == [1.0, 1.0]
    assert paired.holm([]) == []
