"""The goal that a configuration has to reach, and the configurations that reach it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis.comparison import front_energy
from codejoule.analysis.evidence import Evidence
from codejoule.analysis.table import Table
from codejoule.domain.metrics import J_PER_KWH
from codejoule.statistics import (
    ALPHA,
    ROUNDING,
    Row,
    at_least,
    holm,
    lower_bound,
    paired_accuracy,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a configuration has to reach. With neither figure: least energy per correct program,
    with pass@1 not shown lower than the best by more than the margin."""

    min_pass_at_1: float | None = None
    """pass@1 to reach with 95 % confidence, in (0, 1): the one with least energy is wanted."""
    max_kwh: float | None = None
    """Energy of one run over all tasks not to exceed [kWh], above 0: without `min_pass_at_1`
    the one with the best pass@1 is wanted."""

    def __post_init__(self) -> None:
        if self.min_pass_at_1 is not None and not 0 < self.min_pass_at_1 < 1:
            raise ValueError(f"min_pass_at_1={self.min_pass_at_1:g} must lie between 0 and 1")
        if self.max_kwh is not None and not self.max_kwh > 0:
            raise ValueError(f"max_kwh={self.max_kwh:g} must be above 0")

    @property
    def given(self) -> bool:
        """Whether pass@1 or energy has to reach a figure."""
        return self.min_pass_at_1 is not None or self.max_kwh is not None

    @property
    def words(self) -> str:
        """The goal as a sentence without its end."""
        if not self.given:
            return (
                "least energy per correct program, pass@1 not shown lower than the best by more "
                "than the margin"
            )
        budget = f"at most {self.max_kwh:g} kWh" if self.max_kwh is not None else ""
        if self.min_pass_at_1 is None:
            return f"{budget}, best pass@1"
        accuracy = f"at least {self.min_pass_at_1:g} pass@1 with 95 % confidence"
        return ", ".join(part for part in (accuracy, budget, "least energy") if part)

    def rank(self, row: Row) -> tuple[float, float]:
        """Sorts rows of `candidates`, the better first."""
        # Means over repeats of one rate differ by rounding.
        failed = 1 - round(row["pass_at_1"], 9)
        by_energy = self.min_pass_at_1 is not None or self.max_kwh is None
        return (row["cost_j"], failed) if by_energy else (failed, row["cost_j"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What energy is divided by."""

    per: str
    """``correct program``, ``task`` where none is known, or ``run`` where a goal speaks of runs."""
    goal: str
    """The goal in words that name this cost."""
    runs_j: list[NDArray[np.float64]]
    """Energy [J] per that of each configuration's runs; NaN where it is not known."""


def cost(evidence: Evidence, goal: Goal) -> Cost:
    """Energy by what the goal counts, with evaluation where that is known of every row.

    A correct program's is ``energy_per_solved_task_j``, or where that was not logged the run's
    energy over ``pass@1 x tasks``.
    """
    total = front_energy(evidence.table) == "energy_total_j"
    kwh = evidence.of_runs("energy_total_kwh")
    runs_j = [own * J_PER_KWH for own in kwh] if total else evidence.run_energy_j
    if goal.given:
        return Cost(per="run", goal=goal.words, runs_j=runs_j)
    tasks, rates = evidence.of_runs("tasks"), evidence.of_runs("pass_at_1")
    if evidence.table["pass_at_1"].isna().all():
        pairs = zip(evidence.run_energy_j, tasks, strict=True)
        return Cost(
            per="task", goal="least energy per task", runs_j=[own / count for own, count in pairs]
        )
    logged = evidence.of_runs("energy_per_solved_task_j")
    if not any(np.isnan(j[p > 0]).any() for j, p in zip(logged, rates, strict=True)):
        return Cost(per="correct program", goal=goal.words, runs_j=logged)
    correct = [np.where(p > 0, p * count, np.nan) for p, count in zip(rates, tasks, strict=True)]
    pairs = zip(runs_j, correct, strict=True)
    return Cost(
        per="correct program", goal=goal.words, runs_j=[own / count for own, count in pairs]
    )


def candidates(evidence: Evidence, goal: Goal, own: Cost, *, margin: float) -> Table:
    """Every configuration against the goal, in the order of the comparison table.

    Configurations without energy or pass@1 never qualify.

    That pass@1 reaches its goal is tested one-sided for every configuration and adjusted by Holm
    over all of them, because picking the least of many that seem to reach it is a multiple
    comparison. That energy stays below its limit is tested in the same way between runs where there
    are repeats; with one run the figure itself is compared. Without either goal, a configuration
    qualifies unless the 95 % interval of its pass@1 less that of the best lies below the margin of
    loss.
    """
    import pandas as pd

    table = evidence.table
    kwh = table[front_energy(table)].to_numpy(dtype=float) / J_PER_KWH
    rates = [_rates(evidence, i) for i in range(len(table))]
    upper_kwh, exceeds = _energy_bounds(evidence, kwh, goal.max_kwh)
    frame = pd.DataFrame(
        {
            "configuration": list(evidence.labels),
            "runs": table["runs"].to_numpy(),
            "energy_kwh": kwh,
            "energy_upper_kwh": upper_kwh,
            "cost_j": [float(j.mean()) for j in own.runs_j],
            "pass_at_1": table["pass_at_1"].to_numpy(dtype=float),
            "pass_at_1_lower": [lower_bound(own) for own in rates],
        }
    )
    qualifies = frame["cost_j"].notna()
    if own.per != "task":
        qualifies &= frame["pass_at_1"].notna()
    if goal.min_pass_at_1 is not None:
        frame["goal_p_value_holm"] = holm([at_least(own, goal.min_pass_at_1) for own in rates])
        qualifies &= frame["goal_p_value_holm"] < ALPHA
    if goal.max_kwh is not None:
        frame["budget_p_value_holm"] = exceeds
        qualifies &= np.where(np.isnan(exceeds), kwh <= goal.max_kwh, exceeds < ALPHA)
    if not goal.given and own.per != "task":
        frame["pass_at_1_to_best_ci_high"] = _to_best(evidence)
        qualifies &= ~(frame["pass_at_1_to_best_ci_high"] < -margin)
    frame["qualifies"] = qualifies
    if own.per == "task":
        return Table(
            name="candidates",
            title=f"Configurations against the goal: {own.goal}",
            frame=frame,
            notes=("cost_j: energy per task.",),
        )
    return Table(
        name="candidates",
        title=f"Configurations against the goal: {own.goal}",
        frame=frame,
        notes=(
            f"cost_j: energy per {own.per}. pass_at_1_lower: one-sided 95 % bound of each "
            "configuration by itself; goal_p_value_holm: that pass@1 lies below the goal, adjusted "
            "over all of them. energy_upper_kwh: the same for energy, where there are repeats. "
            "pass_at_1_to_best_ci_high: upper end of the 95 % interval of pass@1 less the best's.",
        ),
    )


def _to_best(evidence: Evidence) -> list[float]:
    """Upper ends of the 95 % intervals of pass@1 less that of the best; NaN where unknown."""
    rates = evidence.table[["pass_at_1", "pass_at_1_ci_low", "pass_at_1_ci_high"]].to_numpy(float)
    best = int(np.nanargmax(rates[:, 0]))
    highs = []
    for i, (passed, _, high) in enumerate(rates):
        paired = evidence.compare(i, best).passed
        if i == best:
            highs.append(0.0)
        elif paired[0].size:
            highs.append(paired_accuracy(*paired).ci_high)
        else:
            # Newcombe's interval of independent samples: too wide for the same tasks, never too
            # narrow where they are alike.
            best_passed, best_low, _ = rates[best]
            highs.append(passed - best_passed + math.hypot(high - passed, best_passed - best_low))
    return highs


def _rates(evidence: Evidence, i: int) -> NDArray[np.float64]:
    """Share passed of each task; rebuilt from pass@1 where only that is known, else empty."""
    own = evidence.passed[i]
    judged = ~np.isnan(own)
    if judged.any():
        return np.asarray(own[judged])
    pass_at_1, count = evidence.table[["pass_at_1", "tasks"]].to_numpy(dtype=float)[i]
    if math.isnan(pass_at_1) or math.isnan(count):
        return np.empty(0)
    passed = round(pass_at_1 * count)
    return np.repeat([1.0, 0.0], [passed, round(count) - passed])


def _energy_bounds(
    evidence: Evidence, kwh: NDArray[np.float64], limit: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper 95 % bound of mean energy, and p-values that it exceeds the limit.

    NaN with one run, and where runs do not differ, because neither shows the variance between runs.
    """
    from scipy import stats

    table = evidence.table
    runs = table["runs"].to_numpy(dtype=float)
    spread = (table["energy_generation_sd_j"] / table["energy_generation_j"]).to_numpy(dtype=float)
    error = np.where(spread > ROUNDING, kwh * spread / np.sqrt(runs), np.nan)
    upper = kwh + stats.t.ppf(1 - ALPHA, runs - 1) * error
    if limit is None:
        return upper, np.full(kwh.shape, np.nan)
    return upper, holm(stats.t.cdf((kwh - limit) / error, runs - 1))
