"""The tables of one group: each is a function of its evidence."""

from collections.abc import Collection

import numpy as np

from codejoule.analysis.comparison import front_energy
from codejoule.analysis.disagreements import disagreement_table
from codejoule.analysis.efficiency import efficiency_table
from codejoule.analysis.evidence import Evidence, Unit
from codejoule.analysis.table import Table
from codejoule.domain.metrics import J_PER_KWH
from codejoule.statistics import KEYS, STATISTICS, Method, Row, Statistic, hac_lags

_REDUCTIONS = (
    "energy_kwh", "energy_reference_kwh", "reduction_percent", "pass_at_1", "pass_at_1_reference",
    "pass_at_1_difference",
)  # fmt: skip


def make_tables(
    evidence: Evidence,
    method: Method,
    *,
    names: Collection[str] | None = None,
    accuracy: bool = True,
) -> dict[str, Table]:
    """Every table that these runs allow by its name, in the order of docs/analysis.md.

    `names` asks for these of the registered statistics and no other table. Without `accuracy`
    (random weights) statistics of pass@1 are left out. Tables that need figures of tasks, or
    configurations that differ in one setting, have no rows without them.
    """
    wanted = [s for s in STATISTICS if accuracy or not s.needs_accuracy]
    if names is not None:
        return {s.name: statistic_table(s, evidence, method) for s in wanted if s.name in names}
    tables = [summary_table(evidence), reductions_table(evidence)]
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
