"""Intervals from blocks of requests hold what they promise, although neighbouring windows share
tasks: simulated runs whose ratio of energies is known."""

import math

import numpy as np
import pytest

from codejoule.statistics.clusters import Resampler
from codejoule.statistics.log_ratio import paired_log_ratio
from tests.experiment.slices import Machine, decode, lengths, run

SIMULATIONS = 1000


def coverage(
    *, tasks: int, slots: int, window_tasks: int, block: int, differ: float, drift: float
) -> float:
    """How often the 95 % interval of the ratio of two configurations has the true one, which is
    that of all simulations together."""
    rng, resampler = np.random.default_rng(0), Resampler(rng=np.random.default_rng(1))
    machine, labels = Machine(slots=slots, drift=drift), np.arange(tasks) // block
    found = []
    for _ in range(SIMULATIONS):
        energies_j = [
            run(tokens, machine, window_tasks=window_tasks, rng=rng).energy_j
            for tokens in lengths(tasks, spread=0.7, differ=differ, rng=rng)
        ]
        a, b = (np.log(energy_j)[None] for energy_j in energies_j)
        ratio = paired_log_ratio(a, b, labels, resampler=resampler)
        found.append((ratio.ratio, ratio.ci_low, ratio.ci_high))
    ratios, lows, highs = np.array(found).T
    truth = math.exp(np.log(ratios).mean())
    return float(np.mean((lows <= truth) & (truth <= highs)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "slots", "window_tasks", "block"),
    [(64, 32, 8, 8), (256, 32, 32, 32), (1140, 32, 32, 128), (1140, 128, 128, 128)],
)
@pytest.mark.parametrize("differ", [0.3, 0.02])
def test_intervals_from_blocks_hold_their_coverage(
    tasks: int, slots: int, window_tasks: int, block: int, differ: float
) -> None:
    held = coverage(
        tasks=tasks, slots=slots, window_tasks=window_tasks, block=block, differ=differ, drift=0.0
    )
    print(f"{tasks} tasks, {slots} slots, blocks of {block}, differ by {differ}: {held:.3f}")
    assert held >= 0.925


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "slots", "window_tasks", "block"),
    [(64, 32, 8, 8), (256, 32, 32, 32), (1140, 32, 32, 128), (1140, 128, 128, 128)],
)
def test_a_power_that_drifts_for_longer_than_a_block_costs_little_where_lengths_differ(
    tasks: int, slots: int, window_tasks: int, block: int
) -> None:
    held = coverage(
        tasks=tasks, slots=slots, window_tasks=window_tasks, block=block, differ=0.3, drift=0.01
    )
    print(f"{tasks} tasks, {slots} slots, blocks of {block}, power drifts: {held:.3f}")
    assert held >= 0.92


def test_what_a_task_is_booked_is_what_it_took_up_to_the_errors_at_edges() -> None:
    rng = np.random.default_rng(0)
    exact, coarse = Machine(edge_j=0.0, drift=0.0), Machine(edge_j=6.0, drift=0.0)
    tokens, _ = lengths(256, spread=0.7, differ=0.3, rng=rng)
    paces = decode(tokens, exact)
    assert max(sum(p.begin <= at < p.end for p in paces) for at in np.linspace(0, 20, 50)) == 32
    truth, found = (
        run(tokens, machine, window_tasks=tasks, rng=rng).energy_j
        for machine, tasks in ((exact, 1), (coarse, 32))
    )
    assert found.sum() == pytest.approx(truth.sum(), abs=4 * 6.0)
    # Cut into fine windows or few: power that is even among the busy is divided alike.
    assert np.median(np.abs(np.log(found / truth))) < 0.02
