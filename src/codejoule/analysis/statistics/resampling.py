"""Bootstrap resamples of clusters."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 2000
"""Bootstrap resamples: the end of a 95 % interval is then a percentile of 50 in each tail."""


def resample_counts(
    count: int, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> "NDArray[np.float64]":
    """How often each cluster is drawn in each resample.

    Parameters
    ----------
    count : int
        Clusters.
    rng : numpy.random.Generator
        Source of randomness.
    resamples : int
        Resamples.

    Returns
    -------
    ndarray of float, shape (resamples, count)
        Rows add up to `count`. A product with sums per cluster gives sums per resample.
    """
    picks = rng.integers(count, size=(resamples, count))
    picks += np.arange(resamples)[:, None] * count
    return (
        np.bincount(picks.ravel(), minlength=resamples * count)
        .reshape(resamples, count)
        .astype(float)
    )
