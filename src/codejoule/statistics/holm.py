"""Several tests of one question."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def holm(p_values: "ArrayLike") -> "NDArray[np.float64]":
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
