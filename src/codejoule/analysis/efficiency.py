"""What a kilowatt-hour buys, and how sure each configuration's place on the front is."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis.comparison import front_energy
from codejoule.analysis.evidence import Evidence
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

_FIGURES = ("pass_at_1", "pass_at_1_per_kwh", "energy_per_solved_task_j", "carbon_g")

FEWEST_CLUSTERS = 8
"""Clusters of tasks below which resampling them says nothing of uncertainty."""


def efficiency_table(evidence: Evidence, *, resampler: Resampler) -> Table:
    """Energy, pass@1 and what follows of both, with intervals, and the Pareto front.

    Intervals are percentiles of a bootstrap over clusters of tasks, the same for all
    configurations, and over runs; NaN where there are no figures of tasks or fewer than
    `FEWEST_CLUSTERS`, and where a figure is the same in all resamples (all tasks pass, all fail):
    width 0 would look like certainty. ``front_probability`` is the share of resamples in which a
    configuration is on the front.
    """
    import pandas as pd

    table = evidence.table
    basis = front_energy(table)
    mean_j, sd_j = table["energy_generation_j"], table["energy_generation_sd_j"]
    frame = pd.DataFrame(
        {
            "configuration": list(evidence.labels),
            "runs": table["runs"],
            "energy_kwh": table[basis] / J_PER_KWH,
            "energy_sd_between_runs_percent": (100 * sd_j / mean_j).where(mean_j != 0),
            **{name: table[name] for name in _FIGURES},
            "on_front": table["pareto"],
        }
    )
    drawn = _drawn(evidence, basis, resampler)
    total = basis == "energy_total_j"
    intervals = {} if drawn is None else _intervals(evidence, drawn, per_total=total)
    for name in ("energy_kwh", "pass_at_1", "pass_at_1_per_kwh", "energy_per_solved_task_j"):
        _add(frame, name, intervals.get(name))
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
    # Per task all tasks of the run count alike: figures of the tasks in common, scaled to all.
    scale = tasks.size / tasks.sum()
    own_j = [energy_j[rows][:, tasks] * scale for rows in evidence.rows]
    if any(np.isnan(own).any() for own in own_j):
        return None
    return resample(own_j, evidence.passed[:, tasks], labels, resampler=resampler)


def _add(frame: "pd.DataFrame", name: str, values: NDArray[np.float64] | None) -> None:
    """Put the 95 % interval of a column after it; NaN where resamples tell nothing of it."""
    place = list(frame.columns).index(name) + 1
    ends = np.full((2, len(frame)), np.nan)
    for i, drawn in enumerate([] if values is None else values.T):
        if has_spread(drawn[np.isfinite(drawn)]):
            # Energy per solved task is infinite in resamples in which none is solved.
            with np.errstate(invalid="ignore"):
                ends[:, i] = np.percentile(drawn, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
    frame.insert(place, f"{name}_ci_low", ends[0])
    frame.insert(place + 1, f"{name}_ci_high", ends[1])
