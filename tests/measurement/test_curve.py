"""The curve of energy: arithmetic on ticks, no GPU."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codejoule.measurement.curve import Ticks, distinct_ticks, energy_at, tick_times


def _ticks(power_w: list[float], period_s: float = 0.1) -> Ticks:
    energy_j = np.concatenate([[500.0], 500.0 + np.cumsum(np.array(power_w) * period_s)])
    return Ticks(time_s=np.arange(len(energy_j)) * period_s, energy_j=energy_j)


powers = st.lists(st.floats(20.0, 700.0), min_size=8, max_size=40)


@settings(max_examples=60, deadline=None)
@given(power_w=powers, cuts=st.lists(st.floats(0.0, 0.8), max_size=12))
def test_any_partition_of_the_run_adds_up_to_the_counters_difference(
    power_w: list[float], cuts: list[float]
) -> None:
    ticks = _ticks(power_w)
    moments = [0.0, *sorted(cuts), float(ticks.time_s[-1])]
    at_j = [energy_at(moment, ticks, moments).energy_j for moment in moments]
    parts_j = [later - earlier for earlier, later in pairwise(at_j)]
    counter_j = ticks.energy_j[-1] - ticks.energy_j[0]
    assert sum(parts_j) == pytest.approx(counter_j, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(power_w=st.floats(20.0, 700.0), moment_s=st.floats(0.0, 2.0))
def test_even_power_gives_a_straight_line_without_uncertainty(
    power_w: float, moment_s: float
) -> None:
    point = energy_at(moment_s, _ticks([power_w] * 20), [0.53, 1.21])
    assert point.energy_j == pytest.approx(500.0 + power_w * moment_s, rel=1e-9)
    assert point.uncertainty_j == pytest.approx(0.0, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(step_s=st.floats(0.6, 1.4), low_w=st.floats(50, 300), high_w=st.floats(310, 700))
def test_a_known_step_inside_a_tick_is_resolved_exactly(
    step_s: float, low_w: float, high_w: float
) -> None:
    time_s = np.arange(21) * 0.1
    energy_j = low_w * np.minimum(time_s, step_s) + high_w * np.maximum(0.0, time_s - step_s)
    ticks = Ticks(time_s=time_s, energy_j=energy_j)
    point = energy_at(step_s, ticks, [step_s])
    assert point.energy_j == pytest.approx(low_w * step_s, rel=1e-3)
    assert 0 < point.uncertainty_j < 0.02 * (high_w - low_w)


def test_a_moment_outside_the_ticks_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"2\.5 s is outside the ticks, 0\.0 to 0\.8"):
        energy_at(2.5, _ticks([100.0] * 8))


def test_late_reads_do_not_move_the_ticks() -> None:
    rng = np.random.default_rng(0)
    true_s = 7.0 + np.arange(200) * 0.09999
    after_s = true_s + 0.003 + rng.exponential(0.002, 200)
    after_s[::17] += 0.03
    before_s = true_s - 0.004
    found_s = tick_times(before_s, after_s)
    assert np.abs(found_s - true_s - 0.003).max() < 5e-4


@pytest.mark.parametrize("count", [16, 100])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_reads_held_up_by_a_busy_machine_do_not_move_the_clock(share: float, count: int) -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        true_s = np.arange(count) * 0.05 + 7.0
        before_s = true_s - rng.uniform(0.002, 0.004, count)
        after_s = true_s + 0.002 + np.minimum(rng.exponential(0.0005, count), 0.003)
        # As seen where other processes took both cores: a read that takes from a tick to the next,
        # and, apart from others, one that ends most of a tick late.
        started = rng.random(count) < share
        before_s[started] = true_s[started] - rng.uniform(0.03, 0.0495, started.sum())
        ended = rng.random(count) < share / 5
        after_s[ended] = true_s[ended] + rng.uniform(0.026, 0.044, ended.sum())
        assert np.abs(tick_times(before_s, after_s) - true_s - 0.002).max() < 0.003, seed


def test_an_irregular_counter_keeps_its_reads_bounds() -> None:
    rng = np.random.default_rng(0)
    true_s = np.cumsum(rng.uniform(0.05, 0.15, 100))
    before_s, after_s = true_s - 0.003, true_s + 0.002
    found_s = tick_times(before_s, after_s)
    assert ((found_s >= before_s) & (found_s <= after_s)).all()


def test_ticks_seen_together_count_as_the_last_of_them() -> None:
    ticks = distinct_ticks(np.array([0.0, 0.1, 0.1, 0.3]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert ticks.time_s.tolist() == [0.0, 0.1, 0.3]
    assert ticks.energy_j.tolist() == [1.0, 3.0, 4.0]
