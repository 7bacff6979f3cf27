"""Clusters of tasks that shared an accounting window, and resamples of such clusters. Tasks in one
window are not independent."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
"""Number of bootstrap resamples; 50 of them then lie beyond each end of a 95 % interval."""


def clusters(windows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Group tasks so that no two groups ever shared an accounting window.

    Parameters
    ----------
    windows : sequence of ndarray of int, each of shape (tasks,)
        For each run the number of the window that every task was decoded in.

    Returns
    -------
    ndarray of int, shape (tasks,)
        Number of each task's cluster, from 0. With one task per window each task is its own.

    Raises
    ------
    ValueError
        If there are no runs or no tasks.

    Notes
    -----
    The energy of a window is measured as a whole and allocated to its tasks, so its tasks share
    its noise. Two tasks are put into one group if they shared a window in any run, or if a chain of
    shared windows links them (the connected components of that graph). The noise of windows is then
    independent from group to group.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not windows or windows[0].size == 0:
        raise ValueError("no clusters of no tasks")
    count = windows[0].size
    rows, columns, offset = [], [], count
    for window in {w.tobytes(): w for w in windows}.values():
        _, label = np.unique(window, return_inverse=True)
        rows.append(np.arange(count))
        columns.append(offset + label)
        offset += int(label.max()) + 1
    i, j = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(i.size), (i, j)), shape=(offset, offset))
    _, label = connected_components(graph, directed=False)
    _, dense = np.unique(label[:count], return_inverse=True)
    return np.asarray(dense, dtype=np.int64)


def cluster_means(values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of each cluster.

    Parameters
    ----------
    values : ndarray of float, shape (..., tasks)
        Values of each task.
    labels : ndarray of int, shape (tasks,)
        From `clusters`.

    Returns
    -------
    ndarray of float, shape (..., clusters)
        Independent blocks.

    Raises
    ------
    ValueError
        If there are no tasks.
    """
    return cluster_sums(values, labels) / np.bincount(labels)


def cluster_sums(values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of each cluster; shapes and ValueError as in `cluster_means`."""
    if labels.size == 0:
        raise ValueError("no clusters of no tasks")
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    return np.asarray(np.add.reduceat(values[..., order], starts, axis=-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampler:
    """Resamples that many comparisons share. They are drawn once for each number of clusters."""

    rng: np.random.Generator
    """Source of randomness."""
    resamples: int = RESAMPLES
    """Resamples."""
    _drawn: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    def counts(self, count: int) -> NDArray[np.float64]:
        """How often each of `count` clusters is drawn in each resample; the same each time.

        Shape (resamples, count). A product with sums per cluster gives sums per resample.
        """
        if count not in self._drawn:
            picks = self.rng.integers(count, size=(self.resamples, count))
            picks += np.arange(self.resamples)[:, None] * count
            drawn = np.bincount(picks.ravel(), minlength=picks.size).reshape(picks.shape)
            self._drawn[count] = drawn.astype(float)
        return self._drawn[count]
