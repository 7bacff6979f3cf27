"""Where a curve of ratios crosses 1, and what is said of it where that is not known."""

import math

import pytest

from codejoule.statistics import find_crossing


def test_a_crossing_is_interpolated_in_logarithms_with_the_interval_s_own_crossings() -> None:
    ratios = [0.5, 0.5, 2.0, 2.0]
    found = find_crossing([1, 8, 32, 64], ratios, [0.4, 0.4, 1.6, 1.6], [0.625, 0.625, 2.5, 2.5])
    assert (found.below, found.above, found.unresolved) == ((1, 8), (32, 64), ())
    assert found.at == pytest.approx(16), "halfway in logarithms"
    # The upper end goes from 0.625 to 2.5, the lower one from 0.4 to 1.6.
    assert found.low == pytest.approx(8 * 4 ** (math.log(1 / 0.625) / math.log(4)))
    assert found.high == pytest.approx(8 * 4 ** (math.log(1 / 0.4) / math.log(4)))
    assert 8 < found.low < found.at < found.high < 32


def test_a_curve_that_falls_crosses_too() -> None:
    found = find_crossing([1, 4], [2.0, 0.5], [1.6, 0.4], [2.5, 0.625])
    assert found.at == pytest.approx(2)
    assert 1 < found.low < found.at < found.high < 4


def test_unresolved_batches_widen_the_interval_of_the_crossing() -> None:
    found = find_crossing(
        [8, 16, 32, 64], [0.7, 0.95, 1.05, 1.4], [0.6, 0.9, 0.98, 1.3], [0.8, 1.02, 1.1, 1.5]
    )
    assert found.unresolved == (16, 32)
    assert 8 < found.low < 16 < found.at < 32 < found.high < 64


def test_no_crossing_is_said_where_one_side_was_not_shown() -> None:
    for lows, highs in (
        ([0.4, 0.5], [0.6, 0.7]),
        ([1.1, 1.2], [1.3, 1.4]),
        ([0.4, 0.9], [0.6, 1.3]),
        ([math.nan] * 2, [math.nan] * 2),
    ):
        found = find_crossing([1, 8], [0.5, 1.1], lows, highs)
        assert math.isnan(found.at)
        assert math.isnan(found.low)


def test_a_curve_that_changes_side_twice_has_no_single_crossing() -> None:
    found = find_crossing([1, 8, 64], [0.5, 2, 0.5], [0.4, 1.8, 0.4], [0.6, 2.2, 0.6])
    assert found.changes == 2
    assert math.isnan(found.at)
