"""Rank tests for configurations that answered the same tasks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from codejoule.statistics.result import ROUNDING, Result, has_spread
from codejoule.statistics.statistic import (
    ADJUSTED,
    RUNS_AS_GIVEN,
    SET,
    Method,
    Row,
    SetTasks,
    Statistic,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def friedman(blocks: "NDArray[np.float64]") -> Result:
    """Whether treatments differ within blocks.

    Parameters
    ----------
    blocks : ndarray of float, shape (n, k)
        One row per block (a task, or a batch of tasks), one column per configuration.

    Returns
    -------
    Result
        Friedman's chi-squared, corrected for ties, and its p-value. NaN for fewer than three
        configurations (`wilcoxon` is the test of two), fewer than two blocks, no differences or
        a NaN.

    References
    ----------
    Friedman (1937), JASA 32, 675-701.
    """
    from scipy import stats

    n, k = blocks.shape
    if k < 3 or n < 2 or not any(has_spread(block) for block in blocks) or np.isnan(blocks).any():
        return Result(statistic=np.nan, p_value=np.nan, n=n)
    chi2, p_value = stats.friedmanchisquare(*blocks.T)
    return Result(statistic=float(chi2), p_value=float(p_value), n=n, df=(k - 1,))


def kendalls_w(test: Result) -> float:
    """Effect size of a Friedman test.

    Parameters
    ----------
    test : Result
        From `friedman`.

    Returns
    -------
    float
        ``chi2 / (n (k - 1))``: 1 where all blocks rank the configurations alike.

    References
    ----------
    Kendall and Babington Smith (1939), Annals of Mathematical Statistics 10, 275-287.
    """
    return test.statistic / (test.n * test.df[0]) if test.df else np.nan


def wilcoxon(a: "NDArray[np.float64]", b: "NDArray[np.float64]") -> Result:
    """Whether paired differences lie symmetrically about 0.

    Parameters
    ----------
    a, b : ndarray of float, shape (n,)
        Values of two configurations, block by block.

    Returns
    -------
    Result
        W (the smaller of the signed rank sums) and its p-value: exact up to 50 blocks without
        ties and zeros, else by the normal approximation corrected for ties. NaN where nothing
        differs by more than rounding, or a value is NaN.

    References
    ----------
    Wilcoxon (1945), Biometrics Bulletin 1, 80-83.
    """
    from scipy import stats

    difference = np.where(np.isclose(a, b, rtol=ROUNDING, atol=0), 0.0, a - b)
    if not difference.any() or np.isnan(difference).any():
        return Result(statistic=np.nan, p_value=np.nan, n=difference.size)
    magnitudes = np.abs(difference)
    exact = difference.size <= 50 and bool(
        magnitudes.all() and np.unique(magnitudes).size == magnitudes.size
    )
    found = stats.wilcoxon(difference, method="exact" if exact else "approx", correction=False)
    return Result(statistic=float(found.statistic), p_value=float(found.pvalue), n=difference.size)


def _friedman(of: SetTasks, _: Method) -> Iterator[Row]:
    if not of.labels.size:
        return
    logs = [own.mean(axis=0) for own in of.cluster_logs()]
    found = friedman(np.stack(logs, axis=1))
    yield {
        "blocks": found.n,
        "chi2": found.statistic,
        "df": len(logs) - 1,
        "p_value": found.p_value,
        "kendalls_w": kendalls_w(found),
    }


FRIEDMAN = Statistic(
    name="friedman",
    title="Friedman's test of the energy of the same tasks under several configurations",
    unit="set",
    rows=_friedman,
    columns=(*SET, "blocks", "chi2", "df", "p_value", "p_value_holm", "kendalls_w"),
    adjusted=("p_value",),
    notes=(
        "Blocks are tasks, or batches of tasks where several were metered together. Of two "
        "configurations Wilcoxon's test (energy_pairs) is the test.",
        RUNS_AS_GIVEN,
        ADJUSTED,
    ),
)
