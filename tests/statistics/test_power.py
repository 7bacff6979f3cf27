"""Whether a promised power comes out."""

import math

import numpy as np
import pytest

from codejoule.statistics import paired_accuracy
from codejoule.statistics.between_runs import RunVariance, compare_runs, smallest_ratio
from codejoule.statistics.power import mcnemar_power, smallest_difference


def test_so_few_tasks_resolve_nothing_and_none_says_so() -> None:
    """Five discordant tasks, all one way, have p 0.0625."""
    assert smallest_difference(5, discordance=0.2) is None
    assert smallest_difference(6, discordance=0.2) == pytest.approx(0.8 ** (1 / 6), abs=1e-3)


def test_more_tasks_and_less_discordance_resolve_less() -> None:
    sizes = [smallest_difference(n, discordance=0.2) for n in (12, 64, 406, 1140)]
    assert sizes == sorted(sizes, reverse=True)
    quiet = smallest_difference(406, discordance=0.05)
    assert quiet is not None and quiet < sizes[2]


def test_without_a_difference_the_power_is_at_most_the_level() -> None:
    assert mcnemar_power(406, 0.0, discordance=0.2) <= 0.05
    assert mcnemar_power(406, 0.0, discordance=0.0) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("tasks", "discordance"), [(12, 0.2), (64, 0.2), (64, 0.05), (406, 0.1)])
def test_the_smallest_difference_in_pass_at_1_is_resolved_in_80_percent(
    tasks: int, discordance: float
) -> None:
    difference = smallest_difference(tasks, discordance=discordance)
    assert difference is not None
    rng, psi = np.random.default_rng(tasks), max(discordance, difference)
    resolved = 0
    for _ in range(2000):
        draw = rng.random(tasks)
        gained, lost = draw < (psi + difference) / 2, draw >= 1 - (psi - difference) / 2
        both = rng.random(tasks) < 0.5
        a = np.where(gained, 1.0, np.where(lost, 0.0, both))
        b = np.where(gained, 0.0, np.where(lost, 1.0, both))
        resolved += paired_accuracy(a, b).p_value <= 0.05
    assert resolved / 2000 == pytest.approx(0.8, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("df", [4, 12, math.inf])
def test_the_smallest_difference_in_energy_is_resolved_in_80_percent(runs: int, df: float) -> None:
    """The between-run deviation is 2 %; with few degrees of freedom it is estimated each time."""
    true, rng = 0.02, np.random.default_rng(7)
    resolved = 0
    for _ in range(3000):
        told = true * math.sqrt(rng.chisquare(df) / df) if math.isfinite(df) else true
        known = RunVariance(sd_log=true, df=df, source="repeats")
        ratio = smallest_ratio(runs, runs, variance=known)
        a = ratio * np.exp(rng.normal(0, true, runs))
        b = np.exp(rng.normal(0, true, runs))
        seen = RunVariance(sd_log=told, df=df, source="repeats")
        resolved += compare_runs(a, b, variance=seen).p_value <= 0.05
    assert resolved / 3000 == pytest.approx(0.8, abs=0.04)


def test_a_difference_larger_than_a_number_can_be_is_infinite() -> None:
    """Two hundred configurations have 19,900 pairs, and two repeats one degree of freedom."""
    known = RunVariance(sd_log=0.2, df=1, source="repeats")
    assert smallest_ratio(1, 1, variance=known, confidence=1 - 0.05 / 19_900) == math.inf
