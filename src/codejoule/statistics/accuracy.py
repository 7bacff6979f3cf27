"""Whether two configurations solve the same tasks equally often."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codejoule.domain.text import p_words
from codejoule.statistics.result import ALPHA, has_spread
from codejoule.statistics.statistic import (
    MARGIN,
    Method,
    PairTasks,
    Row,
    Statistic,
    pair_words,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedAccuracy:
    """pass@1 of one configuration against another's, task by task. NaN where undefined."""

    lost: int
    """Tasks that the first solves less often."""
    gained: int
    """Tasks that the first solves more often."""
    tasks: int
    """Tasks compared."""
    difference: float
    """pass@1 of the first less that of the second."""
    ci_low: float
    """Lower end of the 95 % interval of `difference`."""
    ci_high: float
    """Upper end."""
    p_value: float
    """Two-sided p-value of no difference."""
    p_value_no_loss: float
    """One-sided p-value of a loss of `margin` or more; small means "no loss" is shown."""
    margin: float
    """Non-inferiority margin."""
    method: str
    """``mcnemar`` (exact, one verdict per task) or ``t`` (rates of several samples or runs)."""


def paired_accuracy(
    a: NDArray[np.float64], b: NDArray[np.float64], *, margin: float = MARGIN
) -> PairedAccuracy:
    """Compare two configurations' verdicts.

    Parameters
    ----------
    a, b : ndarray of float, shape (tasks,)
        Share of each task's samples (over all runs) that passed.
    margin : float
        Loss of pass@1 that still counts as none, above 0.

    Returns
    -------
    PairedAccuracy
        With a verdict per task (all rates 0 or 1) McNemar's exact test, and Tango's score
        interval and non-inferiority test; otherwise t-tests of the differences of rates, none
        of which is surer than tasks that were not seen allow (`unseen`).

    Raises
    ------
    ValueError
        If the margin does not lie between 0 and 1, if there are no tasks, or a rate is unknown.

    Notes
    -----
    A difference that is not significant is no evidence of equality. Only `p_value_no_loss` is.

    References
    ----------
    McNemar (1947), Psychometrika 12, 153-157; Tango (1998), Statistics in Medicine 17, 891-908.
    """
    from scipy import stats

    if not 0 < margin < 1:
        raise ValueError(f"a non-inferiority margin of {margin}: it must be above 0 and below 1")
    if a.size == 0:
        raise ValueError("no tasks to compare")
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("a task without a verdict cannot be compared: leave it out")
    d = a - b
    gained, lost, n = int((d > 0).sum()), int((d < 0).sum()), int(d.size)
    difference = float(d.mean())
    binary = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    if binary:
        low, high = tango_interval(gained, lost, n)
        p_value = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
        p_no_loss = float(stats.norm.sf(tango_score(gained, lost, n, -margin)))
    else:
        # As shares of the way from -1 to 1, so that `unseen` holds for differences too.
        up, down = (1 + difference) / 2, (1 - difference) / 2
        rest = (ALPHA / 2) ** (1 / n)
        low, high = 2 * up * rest - 1, 1 - 2 * down * rest
        p_value = 2 * unseen(n, max(up, down), 0.5)
        p_no_loss = unseen(n, up, (1 - margin) / 2)
        if has_spread(d, scale=1.0):
            error = float(d.std(ddof=1)) / math.sqrt(n)
            half = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * error
            low, high = min(low, difference - half), max(high, difference + half)
            p_value = max(p_value, float(2 * stats.t.sf(abs(difference) / error, n - 1)))
            p_no_loss = max(p_no_loss, float(stats.t.sf((difference + margin) / error, n - 1)))
        p_value = min(1.0, p_value)
    return PairedAccuracy(
        lost=lost, gained=gained, tasks=n, difference=difference, ci_low=low, ci_high=high,
        p_value=p_value, p_value_no_loss=p_no_loss, margin=margin,
        method="mcnemar" if binary else "t",
    )  # fmt: skip


def tango_score(gained: int, lost: int, n: int, delta: float) -> float:
    """Score statistic of a paired difference of proportions of `delta`.

    Parameters
    ----------
    gained, lost : int
        Pairs in which only the first, only the second succeeded.
    n : int
        Pairs.
    delta : float
        Difference (first less second) under the hypothesis, in (-1, 1).

    Returns
    -------
    float
        Standard normal under the hypothesis; its square at 0 is McNemar's chi-squared.

    Raises
    ------
    ValueError
        If there are no pairs.

    References
    ----------
    Tango (1998), Statistics in Medicine 17, 891-908.
    """
    if n < 1:
        raise ValueError("no score of no pairs")
    b = -(gained + lost) + (2 * n - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    numerator = gained - lost - n * delta
    if variance <= 0:
        return math.copysign(math.inf, numerator) if numerator else 0.0
    return numerator / math.sqrt(variance)


def tango_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """95 % interval of a paired difference of proportions: the deltas that are not rejected.

    Raises ValueError if there are no pairs.
    """
    from scipy import optimize, stats

    if n < 1:
        raise ValueError("no interval for the difference of no pairs")
    z = float(stats.norm.ppf(1 - ALPHA / 2))
    estimate, edge = (gained - lost) / n, 1 - 1e-12
    ends = []
    for side, target in ((-edge, z), (edge, -z)):
        if tango_score(gained, lost, n, side) * math.copysign(1, target) <= abs(target):
            ends.append(math.copysign(1.0, side))
            continue
        root = optimize.brentq(
            lambda delta, target=target: tango_score(gained, lost, n, delta) - target,
            min(estimate, side), max(estimate, side), xtol=1e-12,
        )  # fmt: skip
        ends.append(float(root))
    return ends[0], ends[1]


def unseen(n: int, mean: float, target: float) -> float:
    """Probability that tasks which would bring a mean of rates down to a target were not drawn.

    Parameters
    ----------
    n : int
        Tasks drawn.
    mean : float
        Mean of their rates, above 0.
    target : float
        Mean under the hypothesis, above 0.

    Returns
    -------
    float
        ``(target / mean)^n``, at most 1: the share of tasks with rate 0 that makes the mean
        `target`, drawn not once. No p-value may be below it, however little the rates differ,
        and with confidence ``1 - alpha`` no more than ``alpha^(1/n)`` is left of a mean.

    References
    ----------
    Hanley and Lippman-Hand (1983), JAMA 249, 1743-1745 (for a mean of 1, the "rule of three").
    """
    return float(min(1.0, target / mean) ** n)


def at_least(rates: NDArray[np.float64], target: float) -> float:
    """One-sided p-value that pass@1 lies below a target; small means it is reached.

    Parameters
    ----------
    rates : ndarray of float, shape (tasks,)
        Share of each task's samples that passed.
    target : float
        pass@1 to reach, in (0, 1).

    Returns
    -------
    float
        Exact binomial with a verdict per task, and where all tasks have one rate: a t-test
        would take that for certainty, while no rate varies more than a verdict does, so that
        counting each task as a trial errs on the safe side. Else a t-test of the rates, but
        never below `unseen`. NaN without tasks or with an unknown rate.
    """
    from scipy import stats

    n = rates.size
    if n == 0 or np.isnan(rates).any():
        return math.nan
    if _are_trials(rates):
        passed = float(rates.sum())
        return float(stats.beta.cdf(target, passed, n - passed + 1)) if passed else 1.0
    error = float(rates.std(ddof=1)) / math.sqrt(n)
    p_value = float(stats.t.sf((rates.mean() - target) / error, n - 1))
    return max(p_value, unseen(n, float(rates.mean()), target))


def lower_bound(rates: NDArray[np.float64], *, alpha: float = ALPHA) -> float:
    """One-sided lower confidence bound of pass@1, the inverse of `at_least`.

    Parameters
    ----------
    rates : ndarray of float, shape (tasks,)
        Share of each task's samples that passed.
    alpha : float
        One less the confidence.

    Returns
    -------
    float
        Clopper and Pearson's with a verdict per task or one rate of all tasks, else Student's,
        but never above what `unseen` allows. NaN without tasks or with an unknown rate.

    References
    ----------
    Clopper and Pearson (1934), Biometrika 26, 404-413.
    """
    from scipy import stats

    n = rates.size
    if n == 0 or np.isnan(rates).any():
        return math.nan
    if _are_trials(rates):
        passed = float(rates.sum())
        return float(stats.beta.ppf(alpha, passed, n - passed + 1)) if passed else 0.0
    error = float(rates.std(ddof=1)) / math.sqrt(n)
    student = rates.mean() - stats.t.ppf(1 - alpha, n - 1) * error
    return float(max(0.0, min(student, rates.mean() * alpha ** (1 / n))))


def _are_trials(rates: NDArray[np.float64]) -> bool:
    return bool(np.isin(rates, (0.0, 1.0)).all()) or not has_spread(rates, scale=1.0)


def _accuracy_pairs(of: PairTasks, method: Method) -> Iterator[Row]:
    if of.passed[0].size:
        found = paired_accuracy(*of.passed, margin=method.margin)
        yield asdict(found) | {"test": found.method, "no_loss_p_value": found.p_value_no_loss}


def _headline(rows: list[Row]) -> str:
    differ = sum(row["verdict"] in ("lower", "higher") for row in rows)
    kept = sum(row["no_loss_shown"] for row in rows)
    return (
        f"{differ} of {len(rows)} comparisons resolve a difference in pass@1; {kept} "
        f"exclude a loss beyond {rows[0]['margin']:g}."
    )


def difference_words(row: Mapping[Any, Any]) -> str:
    """E.g. ``-0.050, 95 % interval -0.236 to +0.119``."""
    return f"{row['difference']:+.3f}, 95 % interval {row['ci_low']:+.3f} to {row['ci_high']:+.3f}"


def _sentence(row: Row) -> str:
    test = "exact McNemar" if row["test"] == "mcnemar" else "t-test"
    resolved = "cannot resolve" if row["verdict"] == "not resolved" else "resolves"
    loss = (
        f"no loss beyond {row['margin']:g} is shown"
        if row["no_loss_shown"]
        else f"a loss of {row['margin']:g} is not excluded"
    )
    difference, _, interval = difference_words(row).partition(", ")
    return (
        f"{pair_words(row)}: pass@1 {difference} ({interval}; of {row['tasks']} tasks "
        f"{row['lost']} lost, {row['gained']} gained; {test}, p after Holm "
        f"{p_words(row['p_value_holm'])}): this suite {resolved} a difference; {loss}."
    )


ACCURACY_PAIRS = Statistic(
    name="accuracy_pairs",
    title="pass@1 against the reference, task by task",
    unit="pair",
    rows=_accuracy_pairs,
    figures=(
        "tasks", "lost", "gained", "difference", "ci_low", "ci_high", "test", "p_value", "margin",
        "no_loss_p_value", "verdict", "no_loss_shown",
    ),
    adjusted=("p_value", "no_loss_p_value"),
    verdict=("difference", 0.0, "lower", "higher"),
    shown=("no_loss_shown", "no_loss_p_value"),
    notes=(
        "mcnemar: exact test, Tango's score interval; t: several samples or runs per task. "
        "no_loss: non-inferiority, one-sided, margin {margin:g} of pass@1. A difference "
        "that is not significant is no evidence that there is none; only no_loss_shown is.",
    ),
    needs_accuracy=True,
    headline=_headline,
    sentence=_sentence,
)  # fmt: skip
