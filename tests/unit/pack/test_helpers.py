"""What the tests themselves lean on."""

import pytest

from helpers.each import each


def test_each_runs_all_values_and_names_those_that_fail():
    seen = []

    @each("k", [1, 2])
    @each(("a", "b"), [(3, 4), (5, 6)])
    def rule(k, a, b, fixture):
        seen.append((k, a, b, fixture))
        assert (k, a) != (2, 5)

    with pytest.raises(AssertionError, match="with k = 2") as caught:
        rule(fixture=0)
    assert str(caught.value.__cause__) == "with a = 5, b = 6"
    assert seen == [(1, 3, 4, 0), (1, 5, 6, 0), (2, 3, 4, 0), (2, 5, 6, 0)]


def test_each_of_nothing_is_refused():
    with pytest.raises(AssertionError, match="no values for k"):
        each("k", [])
