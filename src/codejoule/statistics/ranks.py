"""Rank tests: of configurations as if each had answered tasks of its own, and of the same tasks."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from codejoule.statistics.result import ROUNDING, Result, has_spread, holm
from codejoule.statistics.statistic import RUNS_AS_GIVEN, Method, Row, SetTasks, Statistic

DUNN_CONFIGURATIONS = 40
"""Configurations of one set up to which Dunn's test of all pairs is made."""

_UNPAIRED = (
    "This test takes the configurations for independent samples, although they answered the "
    "same tasks: it mostly sees how tasks differ. Beside it stand paired tests."
)


def kruskal_wallis(groups: Sequence[NDArray[np.float64]]) -> Result:
    """Whether independent samples come from one distribution.

    Parameters
    ----------
    groups : sequence of ndarray of float
        One sample per group.

    Returns
    -------
    Result
        H, corrected for ties, its p-value, and as effect epsilon squared, ``H / (n - 1)``: 1
        where groups do not overlap. NaN for fewer than two groups, an empty one, no spread or a
        NaN.

    References
    ----------
    Kruskal and Wallis (1952), JASA 47, 583-621; Tomczak and Tomczak (2014), Trends in Sport
    Sciences 21, 19-25.
    """
    from scipy import stats

    n = sum(g.size for g in groups)
    if len(groups) < 2 or not all(g.size for g in groups) or not has_spread(np.concatenate(groups)):
        return Result(n=n)
    h, p_value = stats.kruskal(*groups)
    return Result(statistic=float(h), p_value=float(p_value), effect=float(h) / (n - 1), n=n)


def dunn(groups: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Which of several independent samples differ.

    Parameters
    ----------
    groups : sequence of ndarray of float
        One sample per group, ``k`` of them.

    Returns
    -------
    ndarray of float, shape (k, k)
        Holm-adjusted p-values of Dunn's test, corrected for ties; 1 on the diagonal, and where
        nothing differs. NaN where a group is empty or holds a NaN.

    References
    ----------
    Dunn (1964), Technometrics 6, 241-252.
    """
    import scikit_posthocs

    adjusted = np.ones((len(groups), len(groups)))
    if not all(g.size and np.isfinite(g).all() for g in groups):
        adjusted[~np.eye(len(groups), dtype=bool)] = np.nan
        return adjusted
    if len(groups) < 2 or not has_spread(np.concatenate(groups)):
        return adjusted
    p_values = scikit_posthocs.posthoc_dunn(list(groups)).to_numpy(dtype=float)
    upper = np.triu_indices(len(groups), k=1)
    adjusted[upper] = holm(p_values[upper])
    adjusted.T[upper] = adjusted[upper]
    return adjusted


def cliffs_delta(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """How often a value of one sample exceeds one of another.

    Parameters
    ----------
    a, b : ndarray of float, shapes (n,) and (m,)
        The samples.

    Returns
    -------
    float
        ``P(a > b) - P(a < b)``, from -1 to 1; NaN where a sample is empty or holds a NaN.

    References
    ----------
    Cliff (1993), Psychological Bulletin 114, 494-509.
    """
    if not (a.size and b.size) or np.isnan(a).any() or np.isnan(b).any():
        return np.nan
    ordered = np.sort(b)
    below = np.searchsorted(ordered, a, side="left").sum()
    above = (b.size - np.searchsorted(ordered, a, side="right")).sum()
    return float(below - above) / (a.size * b.size)


def friedman(blocks: NDArray[np.float64]) -> Result:
    """Whether treatments differ within blocks.

    Parameters
    ----------
    blocks : ndarray of float, shape (n, k)
        One row per block (a task, or a batch of tasks), one column per configuration.

    Returns
    -------
    Result
        Friedman's chi-squared, corrected for ties, its p-value, and as effect Kendall's W,
        ``chi2 / (n (k - 1))``: 1 where all blocks rank the configurations alike. NaN for fewer
        than three configurations (`wilcoxon` is the test of two), fewer than two blocks, no
        differences or a NaN.

    References
    ----------
    Friedman (1937), JASA 32, 675-701; Kendall and Babington Smith (1939), Annals of
    Mathematical Statistics 10, 275-287.
    """
    from scipy import stats

    n, k = blocks.shape
    if k < 3 or n < 2 or not any(has_spread(block) for block in blocks) or np.isnan(blocks).any():
        return Result(n=n)
    chi2, p_value = stats.friedmanchisquare(*blocks.T)
    effect = float(chi2) / (n * (k - 1))
    return Result(statistic=float(chi2), p_value=float(p_value), effect=effect, n=n)


def wilcoxon(a: NDArray[np.float64], b: NDArray[np.float64]) -> Result:
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
        return Result(n=difference.size)
    magnitudes = np.abs(difference)
    exact = difference.size <= 50 and bool(
        magnitudes.all() and np.unique(magnitudes).size == magnitudes.size
    )
    found = stats.wilcoxon(difference, method="exact" if exact else "approx", correction=False)
    return Result(statistic=float(found.statistic), p_value=float(found.pvalue), n=difference.size)


def _kruskal_wallis(of: SetTasks, _: Method) -> Iterator[Row]:
    if of.labels.size > 1:
        found = kruskal_wallis(of.mean_j())
        yield {
            "h": found.statistic,
            "df": len(of.energy_j) - 1,
            "p_value": found.p_value,
            "epsilon_squared": found.effect,
        }


KRUSKAL_WALLIS = Statistic(
    name="kruskal_wallis",
    title="Kruskal-Wallis test of the energy per task of configurations",
    unit="set",
    rows=_kruskal_wallis,
    figures=("h", "df", "p_value", "epsilon_squared"),
    thesis="tables 5.16, 5.22, 5.28, 5.33, 5.38",
    notes=(_UNPAIRED,),
)


def _dunn(of: SetTasks, _: Method) -> Iterator[Row]:
    if of.labels.size < 2 or len(of.energy_j) > DUNN_CONFIGURATIONS:
        return
    means_j = of.mean_j()
    p_values = dunn(means_j)
    for i, j in of.pairs:
        delta = cliffs_delta(means_j[i], means_j[j])
        yield {"pair": (i, j), "p_value_holm": p_values[i, j], "cliffs_delta": delta}


DUNN = Statistic(
    name="dunn",
    title="Dunn's test of the energy per task, pair by pair, p-values adjusted by Holm",
    unit="contrasts",
    rows=_dunn,
    figures=("p_value_holm", "cliffs_delta"),
    thesis="tables 5.17, 5.23, 5.39",
    notes=(_UNPAIRED, "Adjusted within each set, as in the thesis."),
)


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
        "kendalls_w": found.effect,
    }


FRIEDMAN = Statistic(
    name="friedman",
    title="Friedman's test of the energy of the same tasks under several configurations",
    unit="set",
    rows=_friedman,
    figures=("blocks", "chi2", "df", "p_value", "kendalls_w"),
    adjusted=("p_value",),
    notes=(
        "Blocks are tasks, or batches of tasks where several were metered together. Of two "
        "configurations Wilcoxon's test (energy_pairs) is the test.",
        RUNS_AS_GIVEN,
    ),
)
