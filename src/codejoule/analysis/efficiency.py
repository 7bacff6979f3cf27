"""What a kilowatt-hour buys, and how sure each configuration's place on the front is."""

from typing import TYPE_CHECKING

import numpy as np

from codejoule.analysis.comparison import front_energy
from codejoule.analysis.table import Table
from codejoule.domain.metrics import J_PER_KWH
from codejoule.statistics import (
    ALPHA,
    Resampled,
    Resampler,
    front_probability,
    has_spread,
    resample,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from codejoule.analysis.evidence import Evidence

FEWEST_CLUSTERS = 8
"""Clusters of tasks below which resampling them says nothing of uncertainty."""


def efficiency_table(evidence: "Evidence", *, resampler: Resampler) -> Table:
    """Energy, pass@1 and what follows of both, with intervals, and the Pareto front.

    Parameters
    ----------
    evidence : Evidence
        Configurations of one group.
    resampler : Resampler
        Source of the bootstrap's resamples.

    Returns
    -------
    Table
        ``efficiency``: one row per configuration. Intervals are percentiles of a bootstrap over
        clusters of tasks, the same for all configurations, and over runs; NaN where there are no
        figures of tasks or fewer than `FEWEST_CLUSTERS`, and where a figure is the same in all
        resamples (all tasks pass, all fail): width 0 would look like certainty.
        ``front_probability`` is the share of resamples in which a configuration is on the front.
    """
    import pandas as pd

    table = evidence.table
    basis = front_energy(table)
    frame = pd.DataFrame({"configuration": list(evidence.labels)})
    frame["runs"] = table["runs"].to_numpy()
    frame["energy_kwh"] = table[basis].to_numpy() / J_PER_KWH
    frame["energy_sd_between_runs_percent"] = [_spread(evidence, i) for i in range(len(table))]
    frame["pass_at_1"] = table["pass_at_1"].to_numpy()
    frame["pass_at_1_per_kwh"] = table["pass_at_1_per_kwh"].to_numpy()
    frame["energy_per_solved_task_j"] = table["energy_per_solved_task_j"].to_numpy()
    frame["carbon_g"] = table["carbon_g"].to_numpy()
    frame["on_front"] = table["pareto"].to_numpy()
    drawn = _drawn(evidence, basis, resampler)
    total = basis == "energy_total_j"
    _add(frame, "energy_kwh", None if drawn is None else drawn.energy_j / J_PER_KWH)
    _add(frame, "pass_at_1", None if drawn is None else drawn.pass_at_1)
    per_kwh = solved_j = None
    if drawn is not None and total:
        # What the choice of tasks does to pass@1 is not known where no resample differs.
        passed = np.where(np.ptp(drawn.pass_at_1, axis=0) > 0, drawn.pass_at_1, np.nan)
        per_kwh = passed / (drawn.energy_j / J_PER_KWH)
        if evidence.figures.passed.size and _one_sample(evidence):
            with np.errstate(divide="ignore"):
                tasks = len(evidence.figures.task_ids)
                solved_j = drawn.energy_j / (passed * tasks)
    _add(frame, "pass_at_1_per_kwh", per_kwh)
    _add(frame, "energy_per_solved_task_j", solved_j)
    frame["front_probability"] = np.nan if drawn is None else front_probability(drawn)
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
        frame=frame,
        thesis="figure 4.12, pass@kWh of tables 5.24, 5.29, 5.34, 5.40",
        notes=tuple(notes),
    )


def _spread(evidence: "Evidence", i: int) -> float:
    """Relative standard deviation of energy between a configuration's runs [percent]."""
    row = evidence.table.iloc[i]
    mean_j = float(row["energy_generation_j"])
    return 100 * float(row["energy_generation_sd_j"]) / mean_j if mean_j else np.nan


def _one_sample(evidence: "Evidence") -> bool:
    passed = evidence.figures.passed
    return bool(np.isin(passed[~np.isnan(passed)], (0.0, 1.0)).all())


def _drawn(evidence: "Evidence", basis: str, resampler: Resampler) -> Resampled | None:
    everyone = range(len(evidence.labels))
    tasks = evidence.complete(everyone) & evidence.judged(everyone)
    if not tasks.any():
        return None
    labels = evidence.clusters(everyone, tasks)
    if labels.max() + 1 < FEWEST_CLUSTERS:
        return None
    figures = evidence.figures
    energy_j = figures.total_j if basis == "energy_total_j" else figures.energy_j
    own_j = [energy_j[evidence.rows[i]][:, tasks] for i in everyone]
    if any(np.isnan(e).any() for e in own_j):
        return None
    # Per task all tasks of the run count alike: figures of the tasks in common, scaled to all.
    scale = tasks.size / tasks.sum()
    passed = np.stack([evidence.passed(i, tasks) for i in everyone])
    return resample([e * scale for e in own_j], passed, labels, resampler=resampler)


def _add(frame: "pd.DataFrame", name: str, values: "NDArray[np.float64] | None") -> None:
    """Put the 95 % interval of a column beside it; NaN where resamples tell nothing of it."""
    place = list(frame.columns).index(name) + 1
    ends = np.full((2, len(frame)), np.nan)
    for i, drawn in enumerate([] if values is None else values.T):
        if has_spread(drawn[np.isfinite(drawn)]):
            # Energy per solved task is infinite in resamples in which none is solved.
            with np.errstate(invalid="ignore"):
                ends[:, i] = np.percentile(drawn, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
    frame.insert(place, f"{name}_ci_low", list(ends[0]))
    frame.insert(place + 1, f"{name}_ci_high", list(ends[1]))
