"""The tables of one group: each is a function of its evidence."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis.comparison import front_energy
from codejoule.analysis.evidence import Evidence, Unit
from codejoule.analysis.findings import disagreement_table
from codejoule.analysis.quantization import quantization_tables
from codejoule.analysis.rounds import rounds_table
from codejoule.analysis.table import Table
from codejoule.domain.metrics import J_PER_KWH
from codejoule.statistics import (
    ALPHA,
    KEYS,
    STATISTICS,
    Method,
    Resampled,
    Resampler,
    Row,
    Statistic,
    front_probability,
    hac_lags,
    has_spread,
    resample,
)

if TYPE_CHECKING:
    import pandas as pd

_REDUCTIONS = (
    "energy_kwh", "energy_reference_kwh", "reduction_percent", "pass_at_1", "pass_at_1_reference",
    "pass_at_1_difference",
)  # fmt: skip

FEWEST_CLUSTERS = 8
"""With fewer clusters of tasks, resampling says nothing about uncertainty."""


def make_tables(
    evidence: Evidence,
    method: Method,
    *,
    names: Collection[str] | None = None,
    accuracy: bool = True,
) -> dict[str, Table]:
    """Every table that these runs allow by its name, in the order of docs/reference/analysis.md.

    `names` asks for these of the registered statistics and no other table. Without `accuracy`
    (random weights) statistics of pass@1 are left out. Tables that need figures of tasks, or
    configurations that differ in one setting, have no rows without them.
    """
    wanted = [s for s in STATISTICS if accuracy or not s.needs_accuracy]
    if names is not None:
        return {s.name: statistic_table(s, evidence, method) for s in wanted if s.name in names}
    tables = [summary_table(evidence), reductions_table(evidence), *quantization_tables(evidence)]
    rounds = rounds_table(evidence)
    tables += [rounds] if len(rounds.frame) else []
    tables += [statistic_table(statistic, evidence, method) for statistic in wanted]
    if accuracy:
        tables.append(efficiency_table(evidence, resampler=method.resampler))
    tables.append(disagreement_table({table.name: table.rows() for table in tables}))
    return {table.name: table for table in tables}


def statistic_table(statistic: Statistic, evidence: Evidence, method: Method) -> Table:
    """One statistic of all its units, adjusted and concluded within each family."""
    rows: list[Row] = []
    for family in evidence.units[statistic.unit]:
        found = [row for unit in family for row in _rows(statistic, unit, method)]
        rows += statistic.family(found)
    tasks = len(evidence.figures.task_ids)
    lags = hac_lags(tasks) if tasks else 0
    return Table.of(
        rows,
        statistic.columns,
        name=statistic.name,
        title=statistic.title,
        thesis=statistic.thesis,
        notes=statistic.remarks(margin=method.margin, lags=lags),
    )


def _rows(statistic: Statistic, unit: Unit, method: Method) -> list[Row]:
    names, figures = unit
    rows = [names | row for row in statistic.rows(figures, method)]
    if statistic.unit == "contrasts":
        for row in rows:
            row["configuration"], row["reference"] = (row["labels"][i] for i in row["pair"])
    return rows


def summary_table(evidence: Evidence) -> Table:
    """Energy, latency, throughput and pass@1 of each configuration."""
    table = evidence.table.assign(
        configuration=list(evidence.labels),
        energy_generation_kwh=evidence.table["energy_generation_j"] / J_PER_KWH,
        energy_total_kwh=evidence.table["energy_total_j"] / J_PER_KWH,
        latency_min=evidence.table["latency_s"] / 60,
    )
    columns = (
        "configuration", *evidence.settings, "runs", "tasks", "energy_generation_kwh",
        "energy_total_kwh", "latency_min", "throughput_tokens_per_s", "output_tokens",
        "pass_at_1", "pass_at_1_ci_low", "pass_at_1_ci_high", "pass_at_1_per_kwh",
        "energy_per_output_token_j", "energy_per_task_j", "energy_per_solved_task_j", "carbon_g",
        "energy_source", "energy_scope",
    )  # fmt: skip
    return Table(
        name="summary",
        title="Figures of each configuration",
        frame=table[list(columns)],
        thesis="tables 5.18, 5.24, 5.29, 5.34, 5.40",
        notes=("Means over the runs of a configuration.",),
    )


def reductions_table(evidence: Evidence) -> Table:
    """By how much each configuration differs from its reference, from the figures of runs."""
    basis = front_energy(evidence.table)
    kwh = evidence.table[basis].to_numpy(dtype=float) / J_PER_KWH
    passed = evidence.table["pass_at_1"].to_numpy(dtype=float)
    rows = []
    for names, _ in (unit for family in evidence.units["pair"] for unit in family):
        a, b = names["places"]
        saved = 100 * (1 - kwh[a] / kwh[b]) if kwh[b] else np.nan
        figures = (kwh[a], kwh[b], saved, passed[a], passed[b], passed[a] - passed[b])
        rows.append(names | dict(zip(_REDUCTIONS, figures, strict=True)))
    what = "generation" if basis == "energy_generation_j" else "generation and evaluation"
    return Table.of(
        rows,
        (*KEYS["pair"], *_REDUCTIONS),
        name="reductions",
        title="What each configuration saves and loses against its reference",
        notes=(f"Energy of {what}, means over runs. Without uncertainty: see energy_pairs.",),
    )


def efficiency_table(evidence: Evidence, *, resampler: Resampler) -> Table:
    """Energy, pass@1 and what follows from both, with intervals, and the Pareto front.

    Intervals are percentiles of a bootstrap over clusters of tasks, the same for all
    configurations, and over runs; NaN where there are no figures of tasks or fewer than
    `FEWEST_CLUSTERS`, and where a figure is the same in all resamples (all tasks pass, all fail):
    width 0 would look like certainty. ``front_probability`` is the share of resamples in which a
    configuration is on the front.
    """
    import pandas as pd

    table = evidence.table
    basis = front_energy(table)
    total = basis == "energy_total_j"
    drawn = _drawn(evidence, basis, resampler)
    intervals = {} if drawn is None else _intervals(evidence, drawn, per_total=total)
    mean_j, sd_j = table["energy_generation_j"], table["energy_generation_sd_j"]
    columns: dict[str, Any] = {"configuration": list(evidence.labels), "runs": table["runs"]}
    columns |= _with_interval("energy_kwh", table[basis] / J_PER_KWH, intervals)
    columns["energy_sd_between_runs_percent"] = (100 * sd_j / mean_j).where(mean_j != 0)
    for name in ("pass_at_1", "pass_at_1_per_kwh", "energy_per_solved_task_j"):
        columns |= _with_interval(name, table[name], intervals)
    columns |= {
        "carbon_g": table["carbon_g"],
        "on_front": table["pareto"],
        "front_probability": np.nan if drawn is None else front_probability(drawn),
    }
    what = "generation and evaluation" if total else "generation"
    notes = [f"Energy of {what}."]
    if drawn is None:
        notes.append(
            "No intervals: they need figures of every task from every configuration, and "
            f"{FEWEST_CLUSTERS} or more separately metered groups of tasks."
        )
    elif (table["runs"] == 1).any():
        notes.append(
            "Intervals tell how figures depend on the choice of tasks. Where a configuration "
            "has one run they do not contain the variance between runs, which is unknown."
        )
    return Table(
        name="efficiency",
        title="What energy buys, and the Pareto front with bootstrap probabilities",
        frame=pd.DataFrame(columns),
        thesis="figure 4.12, pass@kWh of tables 5.24, 5.29, 5.34, 5.40",
        notes=tuple(notes),
    )


def _intervals(
    evidence: Evidence, drawn: Resampled, *, per_total: bool
) -> dict[str, NDArray[np.float64]]:
    """Figures of each resample; those that rest on the total where that is what was drawn."""
    kwh = drawn.energy_j / J_PER_KWH
    found = {"energy_kwh": kwh, "pass_at_1": drawn.pass_at_1}
    if not per_total:
        return found
    # What the choice of tasks does to pass@1 is not known where no resample differs.
    passed = np.where(np.ptp(drawn.pass_at_1, axis=0) > 0, drawn.pass_at_1, np.nan)
    found["pass_at_1_per_kwh"] = passed / kwh
    rates = evidence.figures.passed
    if np.isin(rates[~np.isnan(rates)], (0.0, 1.0)).all():
        with np.errstate(divide="ignore"):
            solved = passed * len(evidence.figures.task_ids)
            found["energy_per_solved_task_j"] = drawn.energy_j / solved
    return found


def _drawn(evidence: Evidence, basis: str, resampler: Resampler) -> Resampled | None:
    tasks = np.asarray(evidence.complete.all(axis=0) & ~np.isnan(evidence.passed).any(axis=0))
    labels = evidence.clusters(range(len(evidence.labels)), tasks)
    if not labels.size or labels.max() + 1 < FEWEST_CLUSTERS:
        return None
    figures, total = evidence.figures, basis == "energy_total_j"
    energy_j = figures.energy_j + figures.evaluation_j if total else figures.energy_j
    # Figures of the common tasks are scaled to all tasks of the run, because all count alike.
    scale = tasks.size / tasks.sum()
    own_j = [energy_j[rows][:, tasks] * scale for rows in evidence.rows]
    if any(np.isnan(own).any() for own in own_j):
        return None
    return resample(own_j, evidence.passed[:, tasks], labels, resampler=resampler)


def _with_interval(
    name: str, values: "pd.Series[float]", intervals: Mapping[str, NDArray[np.float64]]
) -> dict[str, Any]:
    """A column and the ends of its 95 % interval; NaN where resamples tell nothing of it."""
    ends = np.full((2, len(values)), np.nan)
    for i, drawn in enumerate(intervals[name].T if name in intervals else ()):
        if has_spread(drawn[np.isfinite(drawn)]):
            # Energy per solved task is infinite in resamples in which none is solved.
            with np.errstate(invalid="ignore"):
                ends[:, i] = np.percentile(drawn, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
    return {name: values, f"{name}_ci_low": ends[0], f"{name}_ci_high": ends[1]}
