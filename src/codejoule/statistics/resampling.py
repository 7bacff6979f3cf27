"""Bootstrap resamples of clusters."""

from dataclasses import dataclass, field
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

    Raises
    ------
    ValueError
        If there are no clusters.
    """
    if count < 1:
        raise ValueError("no resamples of no clusters")
    picks = rng.integers(count, size=(resamples, count))
    picks += np.arange(resamples)[:, None] * count
    return (
        np.bincount(picks.ravel(), minlength=resamples * count)
        .reshape(resamples, count)
        .astype(float)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampler:
    """Resamples that many comparisons share, drawn once for each number of clusters."""

    rng: np.random.Generator
    """Source of randomness."""
    resamples: int = RESAMPLES
    """Resamples."""
    _drawn: "dict[int, NDArray[np.float64]]" = field(default_factory=dict)

    def counts(self, count: int) -> "NDArray[np.float64]":
        """`resample_counts` of `count` clusters; the same each time."""
        if count not in self._drawn:
            self._drawn[count] = resample_counts(count, rng=self.rng, resamples=self.resamples)
        return self._drawn[count]
