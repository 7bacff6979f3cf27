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

    References
    ----------
    Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    from statsmodels.stats.multitest import multipletests

    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    if known.any():
        adjusted[known] = multipletests(p[known], method="holm")[1]
    return adjusted
