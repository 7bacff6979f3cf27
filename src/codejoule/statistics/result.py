"""What every test returns, and several p-values of one question."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

ALPHA = 0.05
"""Level of every test and, as ``1 - ALPHA``, confidence of every interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One hypothesis test. NaN where the test is undefined for its data."""

    statistic: float = math.nan
    """The test's statistic."""
    p_value: float = math.nan
    """Two-sided unless the test says otherwise."""
    effect: float = math.nan
    """Size of the effect, where the test has one: 0 for none, 1 for the largest."""
    n: int
    """Observations, or blocks of a paired test."""


ROUNDING = 1e-9
"""Relative difference below which figures differ by rounding alone: no meter is as fine."""


def has_spread(values: NDArray[np.float64], *, scale: float | None = None) -> bool:
    """Whether values are known and differ by more than rounding.

    Parameters
    ----------
    values : ndarray of float
        Any number of them, none included.
    scale : float, optional
        What rounding is relative to; their largest magnitude unless given.

    Returns
    -------
    bool
        False for fewer than two values, for equal ones, and where one is NaN or infinite: an
        error that is estimated from such values would claim certainty.
    """
    if values.size < 2 or not np.isfinite(values).all():
        return False
    largest = float(np.abs(values).max()) if scale is None else scale
    return bool(np.ptp(values) > ROUNDING * largest)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust the p-values of one family.

    Parameters
    ----------
    p_values : array_like, shape (m,)
        Unadjusted p-values; NaN for a test that is undefined.

    Returns
    -------
    ndarray of float, shape (m,)
        Adjusted p-values: rejecting those below a level makes one or more false rejections in
        the whole family with at most that probability. NaN stays NaN and does not count.

    Notes
    -----
    statsmodels' `multipletests` gives the same and collects garbage at every call, which takes
    0.2 s each time in a process of this size.

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
