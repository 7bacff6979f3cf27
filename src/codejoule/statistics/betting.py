"""Evidence that a mean lies above a value, by bets on tasks that are drawn without replacement. It
is valid at every look."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BOLDNESS = 0.95
"""Largest share of the wealth that one task may cost."""

_PRIOR_VARIANCE = 0.1
"""Variance of one imagined task, with which the estimate begins before any task was seen."""


def log_growth(x: NDArray[np.float64], *, population: int, null: float, low: float) -> NDArray[Any]:
    r"""Growth of the wealth of a gambler who bets, task by task, that the mean of all tasks is
    above a value.

    Parameters
    ----------
    x : ndarray of float, shape (n, ...)
        What the first `n` tasks gave, in a random order of all tasks; axis 0 is that order.
    population : int
        How many tasks there are, ``N``.
    null : float
        The value under the hypothesis "the mean of all ``N`` is at most this", ``m``.
    low : float
        Smallest value that a task can give.

    Returns
    -------
    ndarray of float, shape (n, ...)
        Increments of log wealth. Infinite from where the tasks seen alone refute the hypothesis.

    Notes
    -----
    Given the first ``i - 1`` tasks, the next one's mean is at most
    ``m_i = (N m - sum_{j<i} x_j) / (N - i + 1)`` under the hypothesis, so wealth
    ``prod (1 + lambda_i (x_i - m_i))`` with ``0 <= lambda_i <= 1 / (m_i - low)`` chosen from the
    tasks before is a nonnegative supermartingale. By Ville's inequality it exceeds ``1 / alpha`` at
    any look, however many there are, with probability at most ``alpha``. The bets are the
    approximate GRAPA bets of the reference.

    References
    ----------
    Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting,
    J. R. Stat. Soc. B 86, 1-27 (section 5 for sampling without replacement).
    """
    n = x.shape[0]
    seen = np.arange(n, dtype=float).reshape((n,) + (1,) * (x.ndim - 1))
    before = np.cumsum(x, axis=0) - x
    squares = np.cumsum(x * x, axis=0) - x * x
    at_most = (population * null - before) / (population - seen)
    mean = before / (seen + 1)
    variance = np.maximum((squares + _PRIOR_VARIANCE) / (seen + 1) - mean * mean, 1e-4)
    gap = mean - at_most
    room = np.maximum(at_most - low, 0.0)
    gain = np.maximum(gap * room, 1e-12)
    share = (np.sqrt(variance**2 + 4 * gain**2) - variance) / (2 * gain)
    with np.errstate(divide="ignore", invalid="ignore"):
        bet = np.where(gap > 0, np.minimum(share, _BOLDNESS) / room, 0.0)
        growth = np.log1p(bet * (x - at_most))
    return np.where(at_most < low - 1e-12, np.inf, np.where(room == 0, 0.0, growth))
