"""What the thesis tests before it chooses a test."""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from codejoule.statistics.result import Result, has_spread
from codejoule.statistics.statistic import DRIFTS, Method, Row, RunTasks, SetTasks, Statistic


def durbin_watson(series: NDArray[np.float64]) -> float:
    """Autocorrelation of a series about its mean.

    Parameters
    ----------
    series : ndarray of float, shape (n,)
        Values in the order in which they were observed.

    Returns
    -------
    float
        Between 0 and 4: near 2 without, below 2 with positive autocorrelation. NaN for fewer
        than two values, a constant series or a NaN.

    References
    ----------
    Durbin and Watson (1950), Biometrika 37, 409-428.
    """
    from statsmodels.stats.stattools import durbin_watson as statistic

    if not has_spread(series):
        return np.nan
    return float(statistic(series - series.mean()))


def shapiro_wilk(values: NDArray[np.float64]) -> Result:
    """Normality of a sample.

    Parameters
    ----------
    values : ndarray of float, shape (n,)
        The sample.

    Returns
    -------
    Result
        W and its p-value; NaN for fewer than three values, a constant sample or a NaN.

    References
    ----------
    Shapiro and Wilk (1965), Biometrika 52, 591-611; Royston (1995), algorithm AS R94.
    """
    from scipy import stats

    if values.size < 3 or not has_spread(values):
        return Result(n=values.size)
    with warnings.catch_warnings():
        # Above 5,000 values scipy warns that p is approximate: it is far below any level then.
        warnings.simplefilter("ignore", UserWarning)
        w, p_value = stats.shapiro(values)
    return Result(statistic=float(w), p_value=float(p_value), n=values.size)


def levene(groups: Sequence[NDArray[np.float64]]) -> Result:
    """Equality of variances, by deviations from the medians.

    Parameters
    ----------
    groups : sequence of ndarray of float
        One sample per group.

    Returns
    -------
    Result
        F and its p-value; NaN for fewer than two groups, groups of one value, no spread or a NaN.

    References
    ----------
    Brown and Forsythe (1974), JASA 69, 364-367.
    """
    from scipy import stats

    n = sum(g.size for g in groups)
    known = all(g.size > 1 and np.isfinite(g).all() for g in groups)
    if (
        len(groups) < 2
        or not known
        or not any(has_spread(np.abs(g - np.median(g)), scale=np.abs(g).max()) for g in groups)
    ):
        return Result(n=n)
    f, p_value = stats.levene(*groups, center="median")
    return Result(statistic=float(f), p_value=float(p_value), n=n)


def _assumptions(run: RunTasks, _: Method) -> Iterator[Row]:
    series = run.energy_j
    if series.size < 2:
        return
    normal, half = shapiro_wilk(series), series.size // 2
    constant = levene([series[:half], series[half:]])
    yield {
        "tasks": series.size,
        "durbin_watson": durbin_watson(series),
        "shapiro_wilk_w": normal.statistic,
        "shapiro_wilk_p_value": normal.p_value,
        "levene_f": constant.statistic,
        "levene_p_value": constant.p_value,
    }


def _drift(rows: list[Row]) -> str | None:
    low = sum(row["durbin_watson"] < DRIFTS for row in rows)
    if not low:
        return None
    return (
        f"In {low} of {len(rows)} runs the energy of successive tasks is correlated "
        f"(Durbin-Watson below {DRIFTS:g}): errors that allow for it are in the table regression."
    )


ASSUMPTIONS = Statistic(
    name="assumptions",
    title="Durbin-Watson, Shapiro-Wilk and Levene's test of the energy per task in each run",
    unit="run",
    rows=_assumptions,
    figures=(
        "tasks", "durbin_watson", "shapiro_wilk_w", "shapiro_wilk_p_value", "levene_f",
        "levene_p_value",
    ),
    thesis="tables 5.2-5.4, 5.20, 5.26, 5.31, 5.36",
    notes=(
        "In the order of generation. Levene's test (about medians) compares the variance in "
        "the first half of a run with that in the second.",
    ),
    caution=_drift,
)  # fmt: skip


def _levene(of: SetTasks, _: Method) -> Iterator[Row]:
    if of.labels.size > 1:
        found = levene(of.mean_j())
        yield {"f": found.statistic, "p_value": found.p_value}


LEVENE = Statistic(
    name="levene",
    title="Levene's test of the energy per task of configurations",
    unit="set",
    rows=_levene,
    figures=("f", "p_value"),
    thesis="tables 5.15, 5.21, 5.27, 5.32, 5.37",
    notes=("About medians. Energy of a task: mean over runs.",),
)
