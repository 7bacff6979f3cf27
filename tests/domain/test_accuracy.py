import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.domain import (
    bootstrap_interval,
    pass_at_1_interval,
    pass_at_k,
    wilson_interval,
)


def brute_force(n: int, c: int, k: int) -> float:
    """Share of the k-subsets of n samples, c of them passing, that hold a passing one."""
    subsets = list(itertools.combinations(range(n), k))
    return sum(any(i < c for i in subset) for subset in subsets) / len(subsets)


@given(
    st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
)
def test_pass_at_k_is_the_share_of_subsets_with_a_pass(nck: tuple[int, int, int]) -> None:
    assert pass_at_k(*nck) == pytest.approx(brute_force(*nck), abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(1, 1, 5), (0, 0, 1), (3, 1, 0), (3, 4, 1), (3, -1, 1)])
def test_undefined_pass_at_k_is_an_error(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass"):
        pass_at_k(n, c, k)


def test_wilson_interval_matches_a_published_example() -> None:
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3:
    # 81 of 263: 0.2553 to 0.3662; 0 of 20: 0.0000 to 0.1611.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_proportion(cn: tuple[int, int]) -> None:
    low, high = wilson_interval(*cn)
    assert 0 <= low <= cn[0] / cn[1] <= high <= 1


def test_no_interval_without_trials() -> None:
    with pytest.raises(ValueError, match="0 trials"):
        wilson_interval(0, 0)
    with pytest.raises(ValueError, match="no tasks"):
        bootstrap_interval([], rng=np.random.default_rng(0))


def test_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(list(rng.beta(2, 3, size=60)), rng=rng, resamples=400)
        covered += low <= 0.4 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_one_sample_per_task_gets_wilsons_interval() -> None:
    rng = np.random.default_rng(0)
    assert pass_at_1_interval([[True], [False]], rng=rng) == wilson_interval(1, 2)


@pytest.mark.parametrize("passing", [0, 1, 3, 5])
@pytest.mark.parametrize("tasks", [1, 3, 60])
def test_tasks_of_one_rate_have_an_interval_that_claims_no_certainty(
    passing: int, tasks: int
) -> None:
    """A bootstrap over equal rates has width 0."""
    passed = [[True] * passing + [False] * (5 - passing)] * tasks
    low, high = pass_at_1_interval(passed, rng=np.random.default_rng(0))
    assert (low, high) == pytest.approx(wilson_interval(passing / 5 * tasks, tasks))
    assert high - low > 0.05
    assert 0 <= low <= passing / 5 <= high <= 1
