"""How much the energy of two configurations differs on these tasks, given how runs vary."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from codejoule.domain.text import p_words
from codejoule.statistics.between_runs import (
    ASSUMED,
    MODERATED,
    RunRatio,
    RunVariance,
    compare_runs,
)
from codejoule.statistics.statistic import Method, PairTasks, Row, Statistic, pair_words


def run_ratio(of: PairTasks) -> RunRatio | None:
    """Compare the runs of a pair; None where their energy or its variance is not known."""
    if of.variance is None or not all(((j > 0).all() and j.size) for j in of.run_energy_j):
        return None
    return compare_runs(*of.run_energy_j, variance=of.variance, counter_rel=of.counter_rel)


def percent_words(ratio: float, low: float, high: float) -> str:
    """E.g. ``41 % less [38, 44]``; without an interval where that is not known."""
    less = ratio < 1
    change, *ends = (100 * ((1 - value) if less else (value - 1)) for value in (ratio, low, high))
    digits = 1 if max(map(abs, (change, *ends))) < 10 else 0
    interval = "" if any(map(math.isnan, ends)) else " [{:.{d}f}, {:.{d}f}]".format(
        *sorted(ends), d=digits
    )  # fmt: skip
    return f"{change:.{digits}f} % {'less' if less else 'more'}{interval}"


def variance_words(variance: RunVariance) -> str:
    """E.g. ``runs differ by 0.8 %, from 6 degrees of freedom of repeats in this store``."""
    spread = f"runs differ by {100 * variance.sd_log:.2g} %"
    if variance.source == ASSUMED:
        return f"{spread}, assumed"
    both = " and the reference" if variance.source == MODERATED else ""
    return f"{spread}, from repeats{both} with {variance.df:.0f} degrees of freedom"


def _run_pairs(of: PairTasks, method: Method) -> Iterator[Row]:
    found = run_ratio(of)
    if found is None or of.variance is None:
        return
    yield {
        "runs": of.run_energy_j[0].size,
        "runs_reference": of.run_energy_j[1].size,
        "ratio": found.ratio,
        "ci_low": found.low,
        "ci_high": found.high,
        "p_value": found.p_value,
        "sd_between_runs_percent": 100 * of.variance.sd_log,
        "df": of.variance.df,
        "variance": of.variance.source,
    }


def _headline(rows: list[Row]) -> str:
    resolved = sum(row["verdict"] in ("less", "more") for row in rows)
    return f"on these tasks {resolved} of {len(rows)} comparisons resolve a difference in energy."


def _sentence(row: Mapping[Any, Any]) -> str:
    resolved = "not resolved" if row["verdict"] == "not resolved" else "resolved"
    change = percent_words(row["ratio"], row["ci_low"], row["ci_high"])
    variance = RunVariance(
        sd_log=row["sd_between_runs_percent"] / 100, df=row["df"], source=row["variance"]
    )
    return (
        f"{pair_words(row)}, on these tasks: {change} energy (p {p_words(row['p_value_holm'])}: "
        f"{resolved}; {variance_words(variance)})."
    )


RUN_PAIRS = Statistic(
    name="run_pairs",
    title="On these tasks: energy of runs against the reference's",
    unit="pair",
    rows=_run_pairs,
    figures=(
        "runs", "runs_reference", "ratio", "ci_low", "ci_high", "p_value",
        "sd_between_runs_percent", "df", "variance", "verdict",
    ),
    adjusted=("p_value",),
    verdict=("ratio", 1.0, "less", "more"),
    notes=(
        "The tasks are fixed and the run varies. variance: from repeats of the same engine, GPU "
        "and source of energy in this store, or assumed: measured elsewhere for the engine. What "
        "holds on other tasks is in energy_pairs.",
    ),
    headline=_headline,
    sentence=_sentence,
)  # fmt: skip
