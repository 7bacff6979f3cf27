"""Which configuration to take, given what is wanted."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis.comparison import front_energy
from codejoule.analysis.evidence import Evidence
from codejoule.analysis.table import Table
from codejoule.domain.metrics import J_PER_KWH
from codejoule.domain.text import number, p_words
from codejoule.statistics import (
    ALPHA,
    ROUNDING,
    Resampler,
    Row,
    at_least,
    holm,
    lower_bound,
    paired_accuracy,
    paired_log_ratio,
)
from codejoule.statistics.accuracy import difference_words
from codejoule.statistics.log_ratio import change_words

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 5
"""Configurations that a sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a configuration has to reach; at least one of the two."""

    min_pass_at_1: float | None = None
    """pass@1 to reach with 95 % confidence, in (0, 1): the one with least energy is wanted."""
    max_kwh: float | None = None
    """Energy of one run over all tasks not to exceed [kWh], above 0: without `min_pass_at_1`
    the one with the best pass@1 is wanted."""

    def __post_init__(self) -> None:
        if self.min_pass_at_1 is None and self.max_kwh is None:
            raise ValueError("a goal needs min_pass_at_1, max_kwh or both")
        if self.min_pass_at_1 is not None and not 0 < self.min_pass_at_1 < 1:
            raise ValueError(f"min_pass_at_1={self.min_pass_at_1:g} must lie between 0 and 1")
        if self.max_kwh is not None and not self.max_kwh > 0:
            raise ValueError(f"max_kwh={self.max_kwh:g} must be above 0")

    @property
    def by_energy(self) -> bool:
        """Whether the least energy is wanted, not the best pass@1."""
        return self.min_pass_at_1 is not None

    @property
    def words(self) -> str:
        """The goal as a sentence without its end."""
        budget = f"at most {self.max_kwh:g} kWh" if self.max_kwh is not None else ""
        if self.min_pass_at_1 is None:
            return f"{budget}, best pass@1"
        accuracy = f"at least {self.min_pass_at_1:g} pass@1 with 95 % confidence"
        return ", ".join(part for part in (accuracy, budget, "least energy") if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """An answer to a goal."""

    goal: str
    """The goal, in words."""
    configuration: str | None
    """The configuration to take; None where none is shown to reach the goal."""
    margin: tuple[str, ...]
    """By how much it reaches the goal and beats the next, one sentence each."""
    unsure: tuple[str, ...]
    """What is not known or could be otherwise."""
    candidates: Table
    """Every configuration against the goal."""

    def as_json(self) -> dict[str, Any]:
        """As what `json.dumps` takes."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        return facts | {"candidates": self.candidates.as_json()}


def recommend(evidence: Evidence, goal: Goal, *, resampler: Resampler) -> Recommendation:
    """Choose a configuration.

    Configurations without energy or pass@1 are never chosen. Of equal energy the better pass@1 is
    taken, of equal pass@1 the lower energy.

    That pass@1 reaches its goal is tested one-sided for every configuration and adjusted by Holm
    over all of them, because the least of many that seem to reach it is looked for. That energy
    stays below its limit is tested in the same way between runs where there are repeats; with one
    run the figure itself has to do.
    """
    table = Table(
        name="recommendation",
        title=f"Configurations against the goal: {goal.words}",
        frame=_candidates(evidence, goal),
        notes=(
            "pass_at_1_lower: one-sided 95 % bound of each configuration by itself; "
            "goal_p_value_holm: that pass@1 lies below the goal, adjusted over all of them. "
            "energy_upper_kwh: the same for energy, where there are repeats.",
        ),
    )
    rows = table.rows()
    ranked = [i for i, row in enumerate(rows) if row["qualifies"]]
    ranked.sort(key=lambda i: _rank(rows[i], goal))
    if not ranked:
        margin, unsure = [], [_nearest(rows, goal)]
    else:
        best = ranked[0]
        rivals, not_shown = _rivals(evidence, rows, goal, ranked, resampler)
        margin = [*_margins(rows[best], goal), *rivals]
        unsure = [*_doubts(evidence, best), *not_shown, *_near_misses(rows, goal, best)]
        unsure += _limits(evidence, rows, goal, best)
    return Recommendation(
        goal=goal.words,
        configuration=evidence.labels[ranked[0]] if ranked else None,
        margin=tuple(margin),
        unsure=tuple(unsure),
        candidates=table,
    )


def _rank(row: Row, goal: Goal) -> tuple[float, float]:
    """Sorts the better first."""
    # Means over repeats of one rate differ by rounding.
    energy_kwh, failed = row["energy_kwh"], 1 - round(row["pass_at_1"], 9)
    return (energy_kwh, failed) if goal.by_energy else (failed, energy_kwh)


def _candidates(evidence: Evidence, goal: Goal) -> "pd.DataFrame":
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
            "pass_at_1": table["pass_at_1"].to_numpy(dtype=float),
            "pass_at_1_lower": [lower_bound(own) for own in rates],
        }
    )
    qualifies = frame["energy_kwh"].notna() & frame["pass_at_1"].notna()
    if goal.min_pass_at_1 is not None:
        frame["goal_p_value_holm"] = holm([at_least(own, goal.min_pass_at_1) for own in rates])
        qualifies &= frame["goal_p_value_holm"] < ALPHA
    if goal.max_kwh is not None:
        frame["budget_p_value_holm"] = exceeds
        qualifies &= np.where(np.isnan(exceeds), kwh <= goal.max_kwh, exceeds < ALPHA)
    frame["qualifies"] = qualifies
    return frame


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

    NaN with one run, and where runs do not differ: they tell nothing of variance between runs.
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


def _margins(row: Row, goal: Goal) -> list[str]:
    accuracy = f"pass@1 {row['pass_at_1']:.3f}"
    if goal.min_pass_at_1 is not None:
        lower = row["pass_at_1_lower"]
        accuracy += (
            f", with 95 % confidence at least {lower:.3f}: {lower - goal.min_pass_at_1:+.3f} "
            "against the goal"
        )
    energy = f"{_kwh(row['energy_kwh'])} per run over all tasks"
    if goal.max_kwh is not None:
        left = 100 * (1 - row["energy_kwh"] / goal.max_kwh)
        energy += f", {left:.0f} % below the limit"
        if not math.isnan(row["energy_upper_kwh"]):
            energy += f" (with 95 % confidence at most {_kwh(row['energy_upper_kwh'])})"
    return [f"{accuracy}.", f"{energy}."]


def _rivals(
    evidence: Evidence, rows: list[Row], goal: Goal, ranked: list[int], resampler: Resampler
) -> tuple[list[str], list[str]]:
    """What is known of the others that reach the goal: sentences for margin and for doubt."""
    (best, *others), names = ranked, evidence.labels
    if not others:
        return ["No other configuration is shown to reach the goal."], []
    found = {i: _against(evidence, best, i, goal, resampler) for i in others}
    known = {i: row for i, row in found.items() if row is not None}
    untested = [names[i] for i in others if i not in known]
    adjusted = dict(zip(known, holm([p for p, _ in known.values()]), strict=True))
    open_ = [i for i in known if not adjusted[i] < ALPHA]
    margin, unsure = [], []
    if (i := others[0]) in known:
        margin.append(
            f"Against the next, {names[i]}: {known[i][1]} (p {p_words(float(adjusted[i]))})."
        )
    if open_:
        what = "less energy" if goal.by_energy else "a better pass@1"
        listed = "; ".join(f"{names[i]} ({known[i][1]})" for i in open_[:_NAMED])
        unsure.append(f"Not shown to have {what} than: {listed}{_more(open_)}.")
        cheapest_kwh, i = min((float(rows[i]["energy_kwh"]), i) for i in open_)
        if not goal.by_energy and cheapest_kwh < rows[best]["energy_kwh"]:
            unsure.append(f"Of those, {names[i]} takes least energy: {_kwh(cheapest_kwh)}.")
    if untested:
        listed = ", ".join(untested[:_NAMED])
        unsure.append(f"Without figures of tasks not tested against: {listed}{_more(untested)}.")
    return margin, unsure


def _more(names: Sequence[object]) -> str:
    return f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""


def _against(
    evidence: Evidence, best: int, other: int, goal: Goal, resampler: Resampler
) -> tuple[float, str] | None:
    """p-value and words of the difference; None where no task can be compared."""
    pair = evidence.compare(best, other)
    if goal.by_energy:
        if not pair.labels.size:
            return None
        own, rival = map(np.log, pair.energy_j)
        ratio = paired_log_ratio(own, rival, pair.labels, resampler=resampler)
        return ratio.p_value, change_words(asdict(ratio))
    if not pair.passed[0].size:
        return None
    accuracy = paired_accuracy(*pair.passed)
    return accuracy.p_value, f"pass@1 {difference_words(asdict(accuracy))}"


def _doubts(evidence: Evidence, best: int) -> list[str]:
    """Configurations that should give the same text as the chosen one, and do not."""
    own = evidence.table.iloc[best]
    low, high = own["pass_at_1_ci_low"], own["pass_at_1_ci_high"]
    far = (evidence.table["pass_at_1"] < low) | (evidence.table["pass_at_1"] > high)
    # Batch and engine change greedy text by rounding alone.
    held = [n for n in evidence.settings if n.partition(".")[0] not in ("batch", "engine")]
    texts = evidence.table[held].map(str)
    alike = (texts == texts.iloc[best]).all(axis=1)
    if own["generation"] != "greedy" or not (far & alike).any():
        return []
    neighbours = "; ".join(
        f"{evidence.labels[i]}, pass@1 {evidence.table['pass_at_1'].iloc[i]:.3f}"
        for i in np.flatnonzero(far & alike)
    )
    return [
        "Doubtful: a change of batch or engine alone hardly changes greedy text, and yet pass@1 "
        f"is far from {own['pass_at_1']:.3f} (95 % interval {low:.3f} to {high:.3f}) for "
        f"{neighbours}. One of these figures may be wrong."
    ]


def _near_misses(rows: list[Row], goal: Goal, best: int) -> list[str]:
    """Configurations that would be taken if what the data only suggest were sure."""
    if goal.min_pass_at_1 is None:
        return []
    cheaper = [row for row in rows if row["energy_kwh"] < rows[best]["energy_kwh"]]
    near = [r for r in cheaper if not r["qualifies"] and r["pass_at_1"] >= goal.min_pass_at_1]
    return [
        f"{row['configuration']} takes less energy ({_kwh(row['energy_kwh'])}) and has pass@1 "
        f"{row['pass_at_1']:.3f}, but it is not sure to reach the goal (p "
        f"{p_words(row['goal_p_value_holm'])})."
        for row in sorted(near, key=lambda row: row["energy_kwh"])[:_NAMED]
    ]


def _nearest(rows: list[Row], goal: Goal) -> str:
    """Why no configuration is recommended."""
    known = [r for r in rows if not (math.isnan(r["energy_kwh"]) or math.isnan(r["pass_at_1"]))]
    if not known:
        return (
            "No configuration has both energy and pass@1 (which means nothing with random weights)."
        )
    if not goal.by_energy:
        row = min(known, key=lambda row: row["energy_kwh"])
        return (
            f"No configuration is shown to stay within the limit. The least energy is that of "
            f"{row['configuration']}: {_kwh(row['energy_kwh'])}."
        )
    row = max(known, key=lambda row: row["pass_at_1"])
    lower = row["pass_at_1_lower"]
    sure = "" if math.isnan(lower) else f", with 95 % confidence at least {lower:.3f}"
    return (
        f"No configuration is shown to reach the goal. The best pass@1 is that of "
        f"{row['configuration']}: {row['pass_at_1']:.3f}{sure}, with {_kwh(row['energy_kwh'])}."
    )


def _limits(evidence: Evidence, rows: list[Row], goal: Goal, best: int) -> list[str]:
    row = evidence.table.iloc[best]
    sentences = []
    if row["runs"] == 1:
        sentences.append(
            "One run: how much its energy varies between runs is not known (repeat=1,2,3 tells)."
        )
    elif math.isnan(rows[best]["energy_upper_kwh"]):
        sentences.append(
            "Its runs took the same energy to the last digit: that tells nothing of variance."
        )
    if goal.min_pass_at_1 is None:
        sentences.append("The best of several looks better than it is: expect a little less.")
    if not evidence.rows[best].size:
        sentences.append("Its figures are of the whole run alone; pass@1 is as rounded there.")
    if row["energy_source"] == "estimate":
        sentences.append("Its energy is an estimate, not a measurement.")
    return sentences


def _kwh(value: float) -> str:
    return f"{number(value)} kWh" if value >= 1e-3 else f"{number(value * J_PER_KWH)} J"
