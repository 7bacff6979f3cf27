"""How much the energy of two configurations on the same tasks differs."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codejoule.domain.text import p_words
from codejoule.statistics.assumptions import durbin_watson
from codejoule.statistics.clusters import Resampler, cluster_means, cluster_sums
from codejoule.statistics.ranks import cliffs_delta, wilcoxon
from codejoule.statistics.result import ALPHA, ROUNDING
from codejoule.statistics.statistic import (
    DRIFTS,
    RUNS_AS_GIVEN,
    Method,
    PairTasks,
    Row,
    Statistic,
    pair_words,
)

_LEAST_VARIANCE = ROUNDING**2
"""A variance of a mean logarithm below this is rounding. An error computed from it would claim
certainty."""


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
    """Degrees of freedom of the t-test; with repeats those of the variance between runs."""
    clusters: int
    """Independent groups of tasks."""
    between_runs: bool
    """Whether error and interval contain the variance between runs."""


def paired_log_ratio(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    resampler: Resampler,
) -> LogRatio:
    """Ratio of two configurations' energy, with its interval.

    Parameters
    ----------
    a, b : ndarray of float, shapes (runs of a, tasks) and (runs of b, tasks)
        Logarithm of each task's energy in each run.
    labels : ndarray of int, shape (tasks,)
        Cluster of each task, from `clusters` over all these runs.
    resampler : Resampler
        Source of the bootstrap's resamples.

    Returns
    -------
    LogRatio
        The p-value is that of a t-test with a cluster-robust error. With one run each the
        interval is the symmetric bootstrap-t over clusters, and both say nothing of variance
        between runs. With repeats both contain it, unless the runs do not differ at all: then
        they are taken as one run. Where tasks or clusters do not differ either, only the ratio
        is defined.

    Raises
    ------
    ValueError
        If there are no tasks.

    Notes
    -----
    Let ``d_t`` be the difference of mean logarithms on task ``t``, ``D`` its mean over ``n``
    tasks, ``G`` clusters. One run each: ``V = G/(G-1) sum_g (sum_{t in g} (d_t - D))^2 / n^2``,
    ``G - 1`` degrees of freedom.

    Repeats: ``V = V_runs + V_more``, ``V_more = max(0, V_tasks - V_noise)``. ``V_runs`` is the
    variance of run means, pooled over both sides, times ``1/R_a + 1/R_b``; it contains shifts of
    whole runs and noise of tasks. ``V_tasks`` (as above) contains noise of tasks and how
    differently tasks react; what both contain, ``V_noise``, is estimated from the residuals of
    runs on tasks and counted once. The critical value is Cochran and Cox's,
    ``(V_runs t(R_a + R_b - 2) + V_more t(G - 1)) / V``. Satterthwaite's would reject too often:
    where two runs happen to agree it trusts them.

    References
    ----------
    Hall (1992), The Bootstrap and Edgeworth Expansion, 3.6; Cameron and Miller (2015), Journal
    of Human Resources 50, 317-372; Cochran and Cox (1957), Experimental Designs, 4.14.
    """
    from scipy import stats

    if labels.size == 0:
        raise ValueError("no tasks to compare")
    difference = a.mean(axis=0) - b.mean(axis=0)
    theta, groups = float(difference.mean()), int(labels.max()) + 1
    v_tasks = _cluster_variance(difference - theta, labels)
    runs = _run_variance(a, b)
    if runs is None:
        error = math.sqrt(v_tasks) if v_tasks > _LEAST_VARIANCE else math.nan
        df = float(groups - 1)
        p_value = float(2 * stats.t.sf(abs(theta) / error, df))
        known = not math.isnan(error)
        half = error * _bootstrap_t(difference - theta, labels, resampler) if known else error
    else:
        v_runs, df = runs
        v_noise = _noise_variance(a, labels) + _noise_variance(b, labels)
        if min(len(a), len(b)) == 1:
            # A single run does not show its noise, so it is taken to be as the other side's.
            v_noise *= 1 + max(len(a), len(b))
        v_more = 0.0 if groups < 2 else max(0.0, v_tasks - v_noise)
        parts = ((v_runs, df), (v_more, float(groups - 1)))
        error = math.sqrt(v_runs + v_more)
        p_value = _p_value(abs(theta) / error, parts)
        half = error * _critical(ALPHA, parts)
    return LogRatio(
        ratio=math.exp(theta),
        ci_low=math.exp(theta - half),
        ci_high=math.exp(theta + half) if half < 500 else math.nan,
        p_value=p_value,
        standard_error=error,
        df=df,
        clusters=groups,
        between_runs=runs is not None,
    )


def _cluster_variance(centred: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Cluster-robust variance of the mean over tasks (and runs); NaN for one cluster."""
    groups = int(labels.max()) + 1
    if groups < 2:
        return math.nan
    sums = cluster_sums(centred, labels)
    return float(groups / (groups - 1) * np.sum(sums**2) / centred.size**2)


def _run_variance(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float] | None:
    """Variance of the difference of run means, with its degrees of freedom; None if unknown."""
    means = [a.mean(axis=1), b.mean(axis=1)]
    df = sum(len(m) - 1 for m in means)
    if df == 0:
        return None
    pooled = sum(float(np.sum((m - m.mean()) ** 2)) for m in means) / df
    if not pooled > _LEAST_VARIANCE:
        return None
    return pooled * sum(1 / len(m) for m in means), float(df)


def _critical(alpha: float, parts: tuple[tuple[float, float], ...]) -> float:
    """Cochran and Cox's critical value of a sum of (variance, degrees of freedom)."""
    from scipy.special import stdtrit

    # stats.t.ppf would be too slow: finding the root takes many calls, and this one takes a
    # microsecond.
    known = [(v, -float(stdtrit(df, alpha / 2))) for v, df in parts if v > 0]
    return sum(v * t for v, t in known) / sum(v for v, _ in known) if known else math.nan


def _p_value(t: float, parts: tuple[tuple[float, float], ...]) -> float:
    """Level at which `_critical` is `t`; at least 1e-12."""
    from scipy import optimize

    if math.isnan(t):
        return math.nan
    smallest = 1e-12
    if t >= _critical(smallest, parts):
        return smallest
    # In the logarithm, so that small levels are found to as many digits as large ones.
    root = optimize.brentq(
        lambda level: _critical(math.exp(level), parts) - t, math.log(smallest), 0.0, xtol=1e-12
    )
    return math.exp(float(root))


def _noise_variance(runs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Variance of the mean over runs and tasks that is due to noise of single tasks."""
    count = len(runs)
    if count < 2:
        return 0.0
    residual = runs - runs.mean(axis=0) - runs.mean(axis=1, keepdims=True) + runs.mean()
    return count / (count - 1) * _cluster_variance(residual, labels)


def _bootstrap_t(
    centred: NDArray[np.float64], labels: NDArray[np.int64], resampler: Resampler
) -> float:
    """Critical value of the symmetric bootstrap-t interval; NaN where it is unbounded."""
    sizes = np.bincount(labels).astype(float)
    groups = sizes.size
    sums = cluster_sums(centred, labels)
    counts = resampler.counts(groups)
    n = counts @ sizes
    shift = counts @ sums / n
    # sum_g w_g (s_g - m_g shift)^2, multiplied out so that it is three products of matrices.
    squares = counts @ sums**2 - 2 * shift * (counts @ (sums * sizes))
    squares += shift**2 * (counts @ sizes**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.sqrt(np.maximum(squares, 0) * groups / (groups - 1)) / n
        t = np.where(errors > 0, np.abs(shift) / errors, np.inf)
    quantile = float(np.quantile(t, 1 - ALPHA, method="higher"))
    return quantile if math.isfinite(quantile) else math.nan


def _energy_pairs(of: PairTasks, method: Method) -> Iterator[Row]:
    if not of.labels.size:
        return
    logs, reference = (np.log(energy_j) for energy_j in of.energy_j)
    mean, reference_mean = logs.mean(axis=0), reference.mean(axis=0)
    ranks = wilcoxon(cluster_means(mean, of.labels), cluster_means(reference_mean, of.labels))
    in_order = (mean - reference_mean)[np.argsort(of.order)]
    found = asdict(paired_log_ratio(logs, reference, of.labels, resampler=method.resampler))
    if math.isnan(found["ci_low"]):
        # Two or three groups bear no interval: a test on one or two degrees of freedom says
        # "not resolved" of any difference.
        found["p_value"] = math.nan
    yield found | {
        "tasks": of.labels.size,
        "runs": len(logs),
        "runs_reference": len(reference),
        "wilcoxon_w": ranks.statistic,
        "wilcoxon_p_value": ranks.p_value,
        "cliffs_delta": cliffs_delta(mean, reference_mean),
        "share_lower": float((mean < reference_mean).mean()),
        "durbin_watson": durbin_watson(in_order),
    }


def change_words(row: Mapping[Any, Any]) -> str:
    """E.g. ``4.9 % less energy per task, 95 % interval 3.1 % less to 6.6 % less``."""

    def percent(ratio: float) -> str:
        change = 100 * (ratio - 1)
        digits = 1 if abs(change) < 10 else 0
        return f"{abs(change):.{digits}f} % {'less' if change < 0 else 'more'}"

    known = not (math.isnan(row["ci_low"]) or math.isnan(row["ci_high"]))
    interval = f"{percent(row['ci_low'])} to {percent(row['ci_high'])}" if known else "unknown"
    return f"{percent(row['ratio'])} energy per task, 95 % interval {interval}"


def _headline(rows: list[Row]) -> str:
    resolved = sum(row["verdict"] in ("less", "more") for row in rows)
    unknown = sum(row["verdict"] == "unknown" for row in rows)
    tail = f"; {unknown} are not known, for want of tasks metered apart" if unknown else ""
    return (
        f"on tasks like these {resolved} of {len(rows)} comparisons resolve a difference in "
        f"energy{tail}."
    )


def _sentence(row: Row) -> str:
    if row["verdict"] == "unknown":
        return (
            f"{pair_words(row)}, on tasks like these: not known, for its {row['tasks']} tasks were "
            f"metered in {row['clusters']} {'group' if row['clusters'] == 1 else 'groups'}; more "
            "tasks tell (suite.limit)."
        )
    resolved = "not resolved" if row["verdict"] == "not resolved" else "resolved"
    return (
        f"{pair_words(row)}, on tasks like these: {change_words(row)} "
        f"(p {p_words(row['p_value_holm'])}: {resolved})."
    )


def _dependence(rows: list[Row]) -> str | None:
    """Warns of comparisons of single runs in which successive tasks differ alike."""
    low = [row for row in rows if not row["between_runs"] and row["durbin_watson"] < DRIFTS]
    if not low:
        return None
    return (
        f"Caution: in {len(low)} of {len(rows)} comparisons the difference in energy drifts from "
        f"task to task (Durbin-Watson below {DRIFTS:g}, e.g. {pair_words(low[0])}). Tests of "
        "single runs then find differences that are not there; repeats tell (repeat=1,2,3)."
    )


ENERGY_PAIRS = Statistic(
    name="energy_pairs",
    title="On tasks like these: energy per task against the reference, task by task",
    unit="pair",
    rows=_energy_pairs,
    figures=(
        "tasks", "clusters", "runs", "runs_reference", "between_runs", "ratio", "ci_low",
        "ci_high", "p_value", "wilcoxon_w", "wilcoxon_p_value", "cliffs_delta", "share_lower",
        "durbin_watson", "verdict",
    ),
    adjusted=("p_value", "wilcoxon_p_value"),
    verdict=("ratio", 1.0, "less", "more"),
    notes=(
        "ratio: geometric mean of energy over the reference's energy, with its 95 % interval "
        "(one run each: bootstrap over clusters of tasks that shared a batch; repeats: t, "
        "variance between runs included). share_lower: tasks that took less. durbin_watson: "
        "of the differences in the order of generation; far below 2 they are not independent, "
        "and errors are too small.",
        RUNS_AS_GIVEN,
    ),
    headline=_headline,
    sentence=_sentence,
    caution=_dependence,
)  # fmt: skip
