"""How much energy differs from run to run, and what a difference between runs then means."""

import csv
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike

from codejoule.statistics.result import ROUNDING

REPEATS = "repeats"
"""The source of a variance that runs of the same store have shown."""
ASSUMED = "assumed"
"""The source of a variance that was measured elsewhere, or that the user states."""
MODERATED = "repeats and reference"
"""The source of a variance of few repeats, which one measured elsewhere moderates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVariance:
    """How much the energy of runs of one configuration differs."""

    sd_log: float
    """Standard deviation of the logarithm of a run's energy; 0.02 is about 2 %."""
    df: float
    """Degrees of freedom of its estimate; inf where it is taken as known."""
    source: str
    """`REPEATS`, `ASSUMED` or `MODERATED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRatio:
    """Energy of one configuration over that of another, on the same tasks."""

    ratio: float
    """Ratio of geometric means over runs; 0.8 is 20 % less."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end."""
    p_value: float
    """Two-sided p-value of a ratio of 1."""

    @property
    def resolved(self) -> bool:
        """Whether the interval excludes a ratio of 1."""
        return self.low > 1 or self.high < 1


def pooled_run_variance(groups: Iterable[ArrayLike]) -> RunVariance | None:
    """Pool the variance between runs over configurations.

    Parameters
    ----------
    groups : iterable of array_like, each of shape (runs,)
        Energies [J] of the runs of one configuration each, on the same tasks.

    Returns
    -------
    RunVariance or None
        None where no configuration has two runs, or where none of them differ.

    Raises
    ------
    ValueError
        If an energy is not above 0, or not known.

    Notes
    -----
    With `r` runs a group has ``r - 1`` degrees of freedom; squares of deviations of logarithms from
    their group's mean, and degrees of freedom, are added up. Groups of one run add nothing.
    """
    energies_j = [np.asarray(group, dtype=float) for group in groups]
    if not all((group > 0).all() for group in energies_j):
        raise ValueError("energies must be known, and above 0 J")
    logs = [np.log(group) for group in energies_j]
    df = sum(max(0, log.size - 1) for log in logs)
    if df == 0:
        return None
    squares = sum(float(((log - log.mean()) ** 2).sum()) for log in logs if log.size > 1)
    sd_log = math.sqrt(squares / df)
    if sd_log <= ROUNDING:
        return None
    return RunVariance(sd_log=sd_log, df=float(df), source=REPEATS)


def moderated_variance(repeats: RunVariance, reference: RunVariance) -> RunVariance:
    """Moderate the variance of few repeats by one that was measured elsewhere.

    Parameters
    ----------
    repeats, reference : RunVariance
        Both with finite degrees of freedom.

    Returns
    -------
    RunVariance
        Their mean, weighted by degrees of freedom, with the degrees of freedom of both.

    References
    ----------
    Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3(1), 3: the moderated variance, the reference in
    place of the prior that is estimated there.
    """
    df = repeats.df + reference.df
    square = (repeats.df * repeats.sd_log**2 + reference.df * reference.sd_log**2) / df
    return RunVariance(sd_log=math.sqrt(square), df=df, source=MODERATED)


def upper_sd(variance: RunVariance, error: float) -> float:
    """Bound the standard deviation between runs from above.

    Parameters
    ----------
    variance : RunVariance
        An estimate and its degrees of freedom.
    error : float
        Probability with which the truth may lie above the bound, in (0, 1).

    Returns
    -------
    float
        ``s sqrt(nu / chi2)`` with the lower quantile of the chi-square distribution of ``nu``
        degrees of freedom; the estimate itself where it is taken as known.
    """
    from scipy import stats

    if math.isinf(variance.df):
        return variance.sd_log
    return variance.sd_log * math.sqrt(variance.df / float(stats.chi2.ppf(error, variance.df)))


def reference_variance(engine: str, energy_source: str) -> RunVariance:
    """Look up the variance between runs that was measured for an engine elsewhere.

    Parameters
    ----------
    engine : str
        Name of the engine, such as ``vllm``.
    energy_source : str
        What measured the energy: ``nvml``, ``rapl`` or ``estimate``.

    Returns
    -------
    RunVariance
        The variance with its degrees of freedom. For an engine without a measurement it is the
        largest of the same source; for a source without one, the largest of all.

    References
    ----------
    ``between_runs.csv`` beside this module says where each figure comes from.
    """
    rows = _reference()
    same_source = {key: found for key, found in rows.items() if key[1] == energy_source}
    if (engine, energy_source) in same_source:
        return same_source[engine, energy_source]
    return max((same_source or rows).values(), key=lambda found: found.sd_log)


@cache
def _reference() -> dict[tuple[str, str], RunVariance]:
    text = files(__package__).joinpath("between_runs.csv").read_text(encoding="utf-8")
    return {
        (row["engine"], row["energy_source"]): RunVariance(
            sd_log=float(row["sd_log"]), df=float(row["df"]), source=ASSUMED
        )
        for row in csv.DictReader(text.splitlines())
    }


def compare_runs(
    energies_a_j: ArrayLike,
    energies_b_j: ArrayLike,
    *,
    variance: RunVariance,
    counter_rel: float = 0.0,
    confidence: float = 0.95,
) -> RunRatio:
    """Compare the energy of two configurations on these tasks: the tasks are fixed, the run varies.

    Parameters
    ----------
    energies_a_j, energies_b_j : array_like, shapes (runs of a,) and (runs of b,)
        Energy of each run [J], of the same tasks; one run each is enough.
    variance : RunVariance
        How much runs of one configuration differ, taken as the same for both.
    counter_rel : float
        Relative standard uncertainty of one run's energy that comes from the meter. It is added
        where the variance is assumed; the variance of repeats contains it already.
    confidence : float
        Of the interval, in (0, 1).

    Returns
    -------
    RunRatio
        Energy of a over energy of b.

    Raises
    ------
    ValueError
        If either has no runs, or an energy is not above 0, or not known.

    Notes
    -----
    The difference of mean logarithms over its standard error ``s sqrt(1/R_a + 1/R_b)`` follows
    Student's t with the degrees of freedom of ``s``: the two-sample t-test with a pooled variance
    whose degrees of freedom come from more than these two samples.
    """
    from scipy import stats

    a, b = (np.asarray(each, dtype=float) for each in (energies_a_j, energies_b_j))
    if a.size == 0 or b.size == 0:
        raise ValueError("no runs to compare")
    if not ((a > 0).all() and (b > 0).all()):
        raise ValueError("energies must be known, and above 0 J")
    a, b = np.log(a), np.log(b)
    theta = float(a.mean() - b.mean())
    error = _standard_error(a.size, b.size, variance, counter_rel)
    half = float(stats.t.ppf((1 + confidence) / 2, variance.df)) * error
    return RunRatio(
        ratio=math.exp(theta),
        low=math.exp(theta - half),
        high=math.exp(theta + half),
        # A number too small for a float is not 0.
        p_value=max(float(2 * stats.t.sf(abs(theta) / error, variance.df)), sys.float_info.min),
    )


def smallest_ratio(
    runs_a: int,
    runs_b: int,
    *,
    variance: RunVariance,
    counter_rel: float = 0.0,
    power: float = 0.8,
    confidence: float = 0.95,
) -> float:
    """Find the smallest difference that `compare_runs` resolves with a given probability.

    Parameters
    ----------
    runs_a, runs_b : int
        Runs of each configuration, at least 1.
    variance : RunVariance
        As for `compare_runs`.
    counter_rel : float
        As for `compare_runs`.
    power : float
        Probability that the interval excludes a ratio of 1, in (0, 1).
    confidence : float
        Of that interval, in (0, 1).

    Returns
    -------
    float
        Ratio above 1: 1.03 is a difference of 3 %. As much less than 1, its inverse is resolved
        as well. Infinity where it is larger than a number can be.

    Notes
    -----
    Solves for the noncentrality of Student's t at which the test rejects with probability `power`.
    """
    from scipy import optimize, stats

    error = _standard_error(runs_a, runs_b, variance, counter_rel)
    critical = float(stats.t.ppf((1 + confidence) / 2, variance.df))

    def missing(shift: float) -> float:
        if math.isinf(variance.df):
            return float(stats.norm.sf(critical - shift)) - power
        return float(stats.nct.sf(critical, variance.df, shift)) - power

    highest = 2 * critical + 10
    shift = float(optimize.brentq(missing, 0.0, highest))
    try:
        return math.exp(shift * error)
    except OverflowError:
        return math.inf


def _standard_error(runs_a: int, runs_b: int, variance: RunVariance, counter_rel: float) -> float:
    meter = counter_rel if variance.source == ASSUMED else 0.0
    return math.hypot(variance.sd_log, meter) * math.sqrt(1 / runs_a + 1 / runs_b)
