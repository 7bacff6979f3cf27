"""pass@k and its intervals."""

import math
from collections.abc import Sequence

import numpy as np


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of pass@k for one task.

    Parameters
    ----------
    n : int
        Samples drawn for the task, at least `k`.
    c : int
        Samples that passed, from 0 to `n`.
    k : int
        Samples a user may try, at least 1.

    Returns
    -------
    float
        Probability that at least one of `k` samples, drawn without replacement from the
        `n`, passes.

    Raises
    ------
    ValueError
        If ``n < k``, ``k < 1`` or `c` lies outside ``[0, n]``: pass@k is then undefined.

    Notes
    -----
    ``1 - C(n - c, k) / C(n, k)``, as a product that does not overflow.

    References
    ----------
    Chen et al. (2021), Evaluating Large Language Models Trained on Code, eq. 1.
    """
    if k < 1 or n < k:
        raise ValueError(f"pass@{k} of {n} samples is undefined: it needs 1 <= k <= n")
    if not 0 <= c <= n:
        raise ValueError(f"c={c} passing samples of n={n}: c must lie between 0 and n")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def wilson_interval(c: float, n: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    Parameters
    ----------
    c : float
        Successes; a fraction where trials succeed in part.
    n : int
        Trials, at least 1.
    z : float
        Standard normal quantile; the default gives 95 %.

    Returns
    -------
    tuple of float
        Lower and upper bound.

    Raises
    ------
    ValueError
        If there are no trials or `c` lies outside ``[0, n]``.

    References
    ----------
    Wilson (1927), JASA 22, 209-212.
    """
    if n < 1 or not 0 <= c <= n:
        raise ValueError(f"no interval for {c} successes in {n} trials")
    p = c / n
    scale = 1.0 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At c = 0 and c = n the exact bound is 0 and 1; rounding must not move it.
    low = 0.0 if c == 0 else centre - half
    high = 1.0 if c == n else centre + half
    return low, high


def pass_at_1_interval(
    passed: Sequence[Sequence[bool]], *, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of pass@1.

    Parameters
    ----------
    passed : sequence of sequence of bool, shape (tasks, samples of that task)
        Whether each sample passed.
    rng : numpy.random.Generator
        Source of randomness of the bootstrap.

    Returns
    -------
    tuple of float
        Wilson's interval where every task has one sample, else the bootstrap's over tasks. Where
        all tasks have the same rate, a bootstrap would claim certainty. It is then Wilson's
        interval of that rate over the tasks, which errs on the safe side: among rates with one
        mean, those vary most that are 0 or 1.

    Raises
    ------
    ValueError
        If there are no tasks, or one without samples.
    """
    if any(not samples for samples in passed):
        raise ValueError("no pass rate of a task without samples")
    rates = [sum(samples) / len(samples) for samples in passed]
    if all(len(samples) == 1 for samples in passed) or len(set(rates)) == 1:
        return wilson_interval(math.fsum(rates), len(rates))
    return bootstrap_interval(rates, rng=rng)


def bootstrap_interval(
    values: Sequence[float], *, rng: np.random.Generator, resamples: int = 10_000
) -> tuple[float, float]:
    """95 % percentile interval of a mean over tasks.

    Parameters
    ----------
    values : sequence of float, shape (tasks,)
        One value per task, e.g. its pass@k.
    rng : numpy.random.Generator
        Source of randomness.
    resamples : int
        Bootstrap resamples.

    Returns
    -------
    tuple of float
        2.5th and 97.5th percentile of the resampled means; NaN where all values are equal, from
        which a bootstrap learns nothing, or one is NaN.

    Raises
    ------
    ValueError
        If there are no values.

    References
    ----------
    Efron (1979), Annals of Statistics 7, 1-26.
    """
    if not values:
        raise ValueError("no interval for the mean of no tasks")
    data = np.asarray(values, dtype=float)
    # Equal up to rounding.
    if not np.ptp(data) > 1e-9 * np.abs(data).max():
        return math.nan, math.nan
    means = np.empty(resamples)
    for start in range(0, resamples, 1000):
        count = min(1000, resamples - start)
        picks = rng.integers(len(data), size=(count, len(data)))
        means[start : start + count] = data[picks].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
