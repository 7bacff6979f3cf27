"""By how much two configurations differ in energy on the same tasks."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codejoule.analysis.statistics.clusters import cluster_sums
from codejoule.analysis.statistics.resampling import RESAMPLES, resample_counts
from codejoule.analysis.statistics.result import ALPHA

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRatio:
    """Geometric mean over tasks of the ratio of two energies. NaN where undefined."""

    ratio: float
    """Energy of the first over energy of the second; 0.8 is 20 % less."""
    ci_low: float
    """Lower end of the 95 % interval of `ratio`."""
    ci_high: float
    """Upper end."""
    p_value: float
    """Two-sided p-value of a ratio of 1."""
    standard_error: float
    """Standard error of ``log(ratio)``."""
    df: float
    """Degrees of freedom of the t-test."""
    clusters: int
    """Independent groups of tasks."""
    between_runs: bool
    """Whether error and interval contain the variance between runs."""


def paired_log_ratio(
    a: "NDArray[np.float64]",
    b: "NDArray[np.float64]",
    labels: "NDArray[np.int64]",
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> LogRatio:
    """Ratio of two configurations' energy, with its interval.

    Parameters
    ----------
    a, b : ndarray of float, shapes (runs of a, tasks) and (runs of b, tasks)
        Logarithm of each task's energy in each run.
    labels : ndarray of int, shape (tasks,)
        Cluster of each task, from `clusters` over all these runs.
    rng : numpy.random.Generator
        Source of randomness of the bootstrap.
    resamples : int
        Bootstrap resamples.

    Returns
    -------
    LogRatio
        The p-value is that of a t-test with a cluster-robust error. With one run each the
        interval is the symmetric bootstrap-t over clusters, and both say nothing of variance
        between runs. With repeats both contain it.

    Notes
    -----
    Let ``d_t`` be the difference of mean logarithms on task ``t``, ``D`` its mean over ``n``
    tasks, ``G`` clusters. One run each: ``V = G/(G-1) sum_g (sum_{t in g} (d_t - D))^2 / n^2``,
    ``G - 1`` degrees of freedom.

    Repeats: ``V = V_runs + max(0, V_tasks - V_noise)``. ``V_runs`` is the variance of run means
    over the number of runs (pooled where one side has a single run), which contains shifts of
    whole runs and noise of tasks; ``V_tasks`` (as above) contains noise of tasks and how
    differently tasks react; what both contain, ``V_noise``, is estimated from the residuals of
    runs on tasks and counted once. Degrees of freedom by Satterthwaite.

    References
    ----------
    Hall (1992), The Bootstrap and Edgeworth Expansion, 3.6; Cameron and Miller (2015), Journal
    of Human Resources 50, 317-372; Satterthwaite (1946), Biometrics Bulletin 2, 110-114.
    """
    from scipy import stats

    difference = a.mean(axis=0) - b.mean(axis=0)
    theta, groups = float(difference.mean()), int(labels.max()) + 1
    v_tasks = _cluster_variance(difference - theta, labels)
    runs = _run_variance(a, b)
    if runs is None:
        variance, df = v_tasks, float(groups - 1)
        half = _bootstrap_half_width(difference, labels, rng=rng, resamples=resamples)
    else:
        v_runs, df_runs = runs
        v_noise = _noise_variance(a, labels) + _noise_variance(b, labels)
        if min(len(a), len(b)) == 1:
            # The single run's own noise cannot be told apart: take it to be as the other's.
            v_noise *= 1 + max(len(a), len(b))
        v_more = 0.0 if groups < 2 else max(0.0, v_tasks - v_noise)
        variance = v_runs + v_more
        parts = v_runs**2 / df_runs + (v_more**2 / (groups - 1) if v_more else 0.0)
        df = variance**2 / parts if parts > 0 else math.nan
        half = float(stats.t.ppf(1 - ALPHA / 2, df)) * math.sqrt(variance)
    error = math.sqrt(variance) if variance > 0 else math.nan
    return LogRatio(
        ratio=math.exp(theta),
        ci_low=math.exp(theta - half),
        ci_high=math.exp(theta + half) if half < 500 else math.nan,
        p_value=float(2 * stats.t.sf(abs(theta) / error, df)),
        standard_error=error,
        df=df,
        clusters=groups,
        between_runs=runs is not None,
    )


def _cluster_variance(centred: "NDArray[np.float64]", labels: "NDArray[np.int64]") -> float:
    """Cluster-robust variance of a mean; NaN for one cluster."""
    groups = int(labels.max()) + 1
    if groups < 2:
        return math.nan
    sums = cluster_sums(centred, labels)
    return float(groups / (groups - 1) * np.sum(sums**2) / centred.size**2)


def _run_variance(a: "NDArray[np.float64]", b: "NDArray[np.float64]") -> tuple[float, float] | None:
    """Variance of the difference of run means, with its degrees of freedom."""
    means = [a.mean(axis=1), b.mean(axis=1)]
    counts = [len(m) for m in means]
    if max(counts) == 1:
        return None
    if min(counts) == 1:
        (repeated,) = (m for m in means if len(m) > 1)
        return float(np.var(repeated, ddof=1) * sum(1 / c for c in counts)), len(repeated) - 1
    parts = [float(np.var(m, ddof=1)) / len(m) for m in means]
    total = sum(parts)
    if total == 0:
        return 0.0, float(sum(counts) - 2)
    df = total**2 / sum(p**2 / (c - 1) for p, c in zip(parts, counts, strict=True))
    return total, df


def _noise_variance(runs: "NDArray[np.float64]", labels: "NDArray[np.int64]") -> float:
    """Variance of the mean over runs and tasks that is due to noise of single tasks."""
    count, tasks = runs.shape
    groups = int(labels.max()) + 1
    if count < 2 or groups < 2:
        return 0.0
    residual = runs - runs.mean(axis=0) - runs.mean(axis=1, keepdims=True) + runs.mean()
    sums = cluster_sums(residual, labels)
    scale = count / (count - 1) * groups / (groups - 1)
    return float(scale * np.sum(sums**2) / (count * tasks) ** 2)


def _bootstrap_half_width(
    difference: "NDArray[np.float64]",
    labels: "NDArray[np.int64]",
    *,
    rng: np.random.Generator,
    resamples: int,
) -> float:
    """Half the width of the symmetric bootstrap-t interval; NaN where it is unbounded."""
    sizes = np.bincount(labels).astype(float)
    groups = sizes.size
    theta = float(difference.mean())
    variance = _cluster_variance(difference - theta, labels)
    if groups < 2 or not variance > 0:
        return math.nan
    sums = cluster_sums(difference - theta, labels)
    counts = resample_counts(groups, rng=rng, resamples=resamples)
    n = counts @ sizes
    shift = counts @ sums / n
    # sum_g w_g (s_g - m_g shift)^2, multiplied out so that it is three products of matrices.
    squares = counts @ sums**2 - 2 * shift * (counts @ (sums * sizes))
    squares += shift**2 * (counts @ sizes**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.sqrt(np.maximum(squares, 0) * groups / (groups - 1)) / n
        t = np.where(errors > 0, np.abs(shift) / errors, np.inf)
    quantile = float(np.quantile(t, 1 - ALPHA, method="higher"))
    return quantile * math.sqrt(variance) if math.isfinite(quantile) else math.nan
