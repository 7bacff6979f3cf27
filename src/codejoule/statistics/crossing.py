"""Where a ratio that changes with the batch crosses 1."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What is known of where a curve of ratios crosses 1. What is not known is NaN."""

    below: tuple[int, ...]
    """Batches at which the ratio is shown to be below 1."""
    above: tuple[int, ...]
    """Batches at which it is shown to be above 1."""
    unresolved: tuple[int, ...]
    """Batches at which neither is shown."""
    changes: int
    """How often what is shown changes along the batches."""
    at: float = math.nan
    """Batch of the crossing, between batches that were measured."""
    low: float = math.nan
    """Lower end of its interval: from here on a ratio of 1 lies in the interval of the ratio."""
    high: float = math.nan
    """Upper end."""


def find_crossing(
    batches: Sequence[int], ratios: ArrayLike, lows: ArrayLike, highs: ArrayLike
) -> Crossing:
    """Find where a curve of ratios crosses 1.

    Parameters
    ----------
    batches : sequence of int, length n
        Ascending batch sizes.
    ratios, lows, highs : array_like, shape (n,)
        Ratio at each of them, above 0, and its interval; NaN where an interval is not known.

    Returns
    -------
    Crossing
        A crossing is said only where the ratio is shown to be on one side of 1 at one batch and on
        the other at a later one, and nowhere else changes side.

    Notes
    -----
    Between batches the logarithm of the ratio is taken to be linear in that of the batch. The
    interval of the crossing is the set of batches at which the band of intervals contains 1
    (Fieller's inversion, pointwise); it lies between the last batch of the first side and the
    first batch of the other.

    References
    ----------
    Fieller (1954), Some problems in interval estimation, JRSS B 16, 175-185.
    """
    ratio, low, high = (np.asarray(values, dtype=float) for values in (ratios, lows, highs))
    below, above = high < 1, low > 1
    side = np.where(below, -1, np.where(above, 1, 0))
    known = [i for i in range(len(batches)) if side[i]]
    turns = [(i, j) for i, j in pairwise(known) if side[i] != side[j]]
    found = Crossing(
        below=tuple(b for b, own in zip(batches, below, strict=True) if own),
        above=tuple(b for b, own in zip(batches, above, strict=True) if own),
        unresolved=tuple(b for b, own in zip(batches, side, strict=True) if not own),
        changes=len(turns),
    )
    if len(turns) != 1:
        return found
    first, last = turns[0]
    part = slice(first, last + 1)
    x = np.log(np.asarray(batches, dtype=float)[part])
    # Of a curve that rises the upper end of the band meets 1 first.
    nearer, farther = (high, low) if side[first] < 0 else (low, high)
    return Crossing(
        below=found.below,
        above=found.above,
        unresolved=found.unresolved,
        changes=1,
        at=_zero(x, np.log(ratio[part])),
        low=_zero(x, np.log(nearer[part])),
        high=_zero(x, np.log(farther[part]), from_end=True),
    )


def _zero(
    x: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    y: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    *,
    from_end: bool = False,
) -> float:
    """The exponential of the first (last) place where the line through the points is 0."""
    parts = list(pairwise(range(len(x))))
    for i, j in reversed(parts) if from_end else parts:
        if y[i] * y[j] <= 0 and y[i] != y[j]:
            return math.exp(x[i] + (x[j] - x[i]) * y[i] / (y[i] - y[j]))
    return math.nan
