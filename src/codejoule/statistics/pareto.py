"""The efficient frontier of energy and accuracy, and how sure a place on it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codejoule.statistics.clusters import Resampler, cluster_sums


def pareto_front(energy: ArrayLike, accuracy: ArrayLike) -> NDArray[np.bool_]:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """Energy and pass@1 of each configuration in bootstrap resamples of tasks and runs."""

    energy_j: NDArray[np.float64]
    """Energy of all tasks [J], shape (resamples, k)."""
    pass_at_1: NDArray[np.float64]
    """Shape (resamples, k)."""


def resample(
    energy_j: list[NDArray[np.float64]],
    passed: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    resampler: Resampler,
) -> Resampled:
    """Draw clusters of tasks, the same for all configurations, and runs of each.

    Parameters
    ----------
    energy_j : list of ndarray of float, each of shape (runs, tasks)
        Energy of each task in each run [J], one array per configuration (``k``).
    passed : ndarray of float, shape (k, tasks)
        Share of each task's samples that passed.
    labels : ndarray of int, shape (tasks,)
        Cluster of each task.
    resampler : Resampler
        Source of the resamples.

    Returns
    -------
    Resampled
        Energies are scaled to the number of tasks, so that resamples with larger clusters are
        not dearer for it.
    """
    sizes = np.bincount(labels).astype(float)
    counts = resampler.counts(sizes.size)
    drawn = (counts @ sizes)[:, None]
    runs = np.concatenate(energy_j)
    totals_j = counts @ cluster_sums(runs, labels).T / drawn * labels.size
    energies, start = np.empty((resampler.resamples, len(energy_j))), 0
    for i, own in enumerate(energy_j):
        columns = totals_j[:, start : start + len(own)]
        picks = resampler.rng.integers(len(own), size=(resampler.resamples, len(own)))
        energies[:, i] = np.take_along_axis(columns, picks, axis=1).mean(axis=1)
        start += len(own)
    return Resampled(energy_j=energies, pass_at_1=counts @ cluster_sums(passed, labels).T / drawn)


def front_probability(drawn: Resampled) -> NDArray[np.float64]:
    """Share of resamples in which each configuration is on the Pareto front.

    Parameters
    ----------
    drawn : Resampled
        From `resample`.

    Returns
    -------
    ndarray of float, shape (k,)
        Equal points share the front, as in `pareto_front`.
    """
    pairs = zip(drawn.energy_j, drawn.pass_at_1, strict=True)
    return np.asarray(np.mean([pareto_front(*resampled) for resampled in pairs], axis=0))
