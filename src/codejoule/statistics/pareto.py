"""The efficient frontier of energy and accuracy."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def pareto_front(energy: "ArrayLike", accuracy: "ArrayLike") -> "NDArray[np.bool_]":
    """Which points no other point beats.

    Parameters
    ----------
    energy : array_like, shape (n,)
        To be minimised; any one unit.
    accuracy : array_like, shape (n,)
        To be maximised, e.g. pass@1.

    Returns
    -------
    ndarray of bool, shape (n,)
        True where no other point has at most this energy and at least this accuracy, one of
        them strictly better. Equal points are kept together. A point with a NaN is not on
        the front and beats nobody.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    e = np.asarray(energy, dtype=float)
    a = np.asarray(accuracy, dtype=float)
    if e.shape != a.shape or e.ndim != 1:
        raise ValueError(f"energy {e.shape} and accuracy {a.shape} need one value per point each")
    known = ~(np.isnan(e) | np.isnan(a))
    # Row i, column j: does j beat i? Comparisons with NaN are False.
    no_worse = (e[None, :] <= e[:, None]) & (a[None, :] >= a[:, None])
    better = (e[None, :] < e[:, None]) | (a[None, :] > a[:, None])
    beaten = (no_worse & better).any(axis=1)
    return np.asarray(known & ~beaten)
