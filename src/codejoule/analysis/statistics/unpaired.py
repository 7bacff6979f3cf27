"""The thesis' tests: configurations as if each had answered tasks of its own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from codejoule.analysis.statistics.holm import holm
from codejoule.analysis.statistics.result import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray


def kruskal_wallis(groups: "Sequence[NDArray[np.float64]]") -> Result:
    """Whether independent samples come from one distribution.

    Parameters
    ----------
    groups : sequence of ndarray of float
        One sample per group.

    Returns
    -------
    Result
        H, corrected for ties, and its p-value; NaN for fewer than two groups or no spread.

    References
    ----------
    Kruskal and Wallis (1952), JASA 47, 583-621.
    """
    from scipy import stats

    n = sum(g.size for g in groups)
    if len(groups) < 2 or np.ptp(np.concatenate(groups)) == 0:
        return Result(statistic=np.nan, p_value=np.nan, n=n)
    h, p_value = stats.kruskal(*groups)
    return Result(statistic=float(h), p_value=float(p_value), n=n, df=(len(groups) - 1,))


def epsilon_squared(test: Result) -> float:
    """Effect size of a Kruskal-Wallis test.

    Parameters
    ----------
    test : Result
        From `kruskal_wallis`.

    Returns
    -------
    float
        ``H / (n - 1)``: 0 without an effect, 1 where groups do not overlap at all.

    References
    ----------
    Tomczak and Tomczak (2014), Trends in Sport Sciences 21, 19-25.
    """
    return test.statistic / (test.n - 1)


def dunn(groups: "Sequence[NDArray[np.float64]]") -> "NDArray[np.float64]":
    """Which of several independent samples differ.

    Parameters
    ----------
    groups : sequence of ndarray of float
        One sample per group, ``k`` of them.

    Returns
    -------
    ndarray of float, shape (k, k)
        Holm-adjusted p-values of Dunn's test, corrected for ties; 1 on the diagonal.

    References
    ----------
    Dunn (1964), Technometrics 6, 241-252.
    """
    import scikit_posthocs

    adjusted = np.ones((len(groups), len(groups)))
    if np.ptp(np.concatenate(groups)) == 0:
        return adjusted
    p_values = scikit_posthocs.posthoc_dunn(list(groups)).to_numpy(dtype=float)
    upper = np.triu_indices(len(groups), k=1)
    adjusted[upper] = holm(p_values[upper])
    adjusted.T[upper] = adjusted[upper]
    return adjusted


def cliffs_delta(a: "NDArray[np.float64]", b: "NDArray[np.float64]") -> float:
    """How often a value of one sample exceeds one of another.

    Parameters
    ----------
    a, b : ndarray of float, shapes (n,) and (m,)
        The samples.

    Returns
    -------
    float
        ``P(a > b) - P(a < b)``, from -1 to 1.

    References
    ----------
    Cliff (1993), Psychological Bulletin 114, 494-509.
    """
    ordered = np.sort(b)
    below = np.searchsorted(ordered, a, side="left").sum()
    above = (b.size - np.searchsorted(ordered, a, side="right")).sum()
    return float(below - above) / (a.size * b.size)
