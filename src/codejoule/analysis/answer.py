"""The answer of a group of runs: one sentence, what better pass@1 costs, and what is doubtful."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codejoule.analysis.baseline import baselines, run_doubts
from codejoule.analysis.comparison import front_energy
from codejoule.analysis.evidence import Evidence
from codejoule.analysis.goal import Cost, Goal, candidates, cost
from codejoule.analysis.table import Table
from codejoule.analysis.tables import FEWEST_CLUSTERS
from codejoule.domain import UNMEASURED
from codejoule.domain.metrics import J_PER_KWH, KWH_FROM_J
from codejoule.domain.text import number, p_words
from codejoule.statistics import (
    ALPHA,
    ASSUMED,
    MARGIN,
    PairedAccuracy,
    Resampler,
    Row,
    RunRatio,
    RunVariance,
    compare_runs,
    has_spread,
    holm,
    paired_accuracy,
    pareto_front,
    percent_words,
    pooled_run_variance,
    resample,
)

_NAMED = 3
"""How many configurations a line names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The configuration to take for a goal, in the words that every view opens with."""

    goal: str
    """The goal, in words."""
    sentence: str
    """Says what to take, what it costs and what was shown, or that nothing reaches the goal."""
    ladder: tuple[str, ...] = ()
    """A line for each better pass@1 that more energy buys; empty where there is none."""
    doubts: tuple[str, ...]
    """A line for each thing that is not known or may be wrong."""
    configuration: str | None = None
    """Label of the configuration to take; None where none is shown to reach the goal."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Of the configuration: ``cost_j`` (see `per`), ``pass_at_1``; and of its cost over that of
    `reference`: ``ratio``, ``ratio_low`` and ``ratio_high`` on these tasks, ``tasks_low`` and
    ``tasks_high`` on tasks like these. Intervals hold with 95 % although the configuration was
    chosen: they widen with the number of those that come close. What is not known is absent."""
    per: str
    """What ``cost_j`` is the energy of: ``correct program``, ``task`` or ``run``."""
    reference: str | None = None
    """Label of the configuration that ``ratio`` is against."""
    candidates: Table
    """Every configuration against the goal."""

    def as_json(self) -> dict[str, Any]:
        """As what `json.dumps` takes."""
        return {
            "goal": self.goal,
            "sentence": self.sentence,
            "ladder": list(self.ladder),
            "doubts": list(self.doubts),
            "configuration": self.configuration,
            "figures": dict(self.figures),
            "per": self.per,
            "reference": self.reference,
            "candidates": self.candidates.as_json(),
        }


def answer(
    evidence: Evidence, goal: Goal, *, resampler: Resampler, margin: float = MARGIN
) -> Answer:
    """Choose a configuration, and say what is known of the choice.

    Of equal energy the better pass@1 is taken, of equal pass@1 the lower energy. A difference is
    claimed only where its interval excludes a ratio of 1, at 1 - 0.05 over the number of
    configurations that are not shown to take more (at 0.05 over the number of all). That no more
    than the margin of pass@1 is lost is claimed only where the p-value of that, times the number
    of other configurations, is significant.

    References
    ----------
    Y. Benjamini and D. Yekutieli, "False discovery rate-adjusted multiple confidence intervals for
    selected parameters", JASA 100 (2005), 71-81.
    """
    own = cost(evidence, goal)
    table = candidates(evidence, goal, own, margin=margin)
    rows = table.rows()
    ranked = [i for i, row in enumerate(rows) if row["qualifies"]]
    ranked.sort(key=lambda i: goal.rank(rows[i]))
    if not ranked:
        said = _nearest(rows, goal, evidence)
        return Answer(goal=own.goal, sentence=said, doubts=(), per=own.per, candidates=table)
    choice = _Choice(evidence, goal, own, rows, ranked, resampler, margin)
    return Answer(
        goal=own.goal,
        sentence=choice.sentence(),
        ladder=tuple(choice.ladder()),
        doubts=tuple(choice.doubts()),
        configuration=evidence.labels[choice.best],
        figures=choice.figures(),
        per=own.per,
        reference=None if choice.reference is None else evidence.labels[choice.reference],
        candidates=table,
    )


class _Choice:
    """The configuration that was chosen, against the others."""

    def __init__(
        self, evidence: Evidence, goal: Goal, own: Cost, rows: list[Row], ranked: list[int],
        resampler: Resampler, margin: float,
    ) -> None:  # fmt: skip
        self.evidence, self.goal, self.cost, self.rows = evidence, goal, own, rows
        self.margin = margin
        self.best, self.others = ranked[0], ranked[1:]
        self.row, self.names = rows[self.best], evidence.labels
        self.by_energy = goal.min_pass_at_1 is not None or goal.max_kwh is None
        self.mark = "~" if evidence.table["energy_source"].iloc[self.best] == "estimate" else ""
        self.unquantized = baselines(evidence).get(self.best)
        known = [i for i, row in enumerate(rows) if not math.isnan(row["cost_j"])]
        others = [i for i in known if i != self.best]
        self.reference = self._reference(others)
        tested = dict.fromkeys([i for i in (*self.others, self.reference) if i is not None])
        self.alpha_tasks = ALPHA / max(1, len(tested))
        ratios = {i: self._ratio(i, ALPHA) for i in tested}
        self.ratios = {i: ratio for i, ratio in ratios.items() if ratio is not None}
        adjusted = holm([ratio.p_value for ratio in self.ratios.values()])
        self.p_values = dict(zip(self.ratios, map(float, adjusted), strict=True))
        # The least of several close figures is the least partly by luck. An interval of a selected
        # comparison holds if its error is divided by their number.
        close = sum(not ratio.p_value < self.alpha_tasks for ratio in self.ratios.values())
        selected = ALPHA / max(1, close) if self.by_energy else ALPHA
        self.on_others = None
        if self.reference is not None and (ratio := self._ratio(self.reference, selected)):
            self.ratios[self.reference] = ratio
            self.on_others = self._on_other_tasks(self.reference, resampler)

    def _reference(self, others: list[int]) -> int | None:
        """The unquantized one of the same settings, else the next that qualifies, else the best."""
        if self.unquantized in others:
            return self.unquantized
        if self.others:
            return self.others[0]
        return min(others, key=lambda i: self.rows[i]["cost_j"], default=None)

    def variance(self, other: int) -> RunVariance | None:
        """Variance of the cost between runs; with sampled text, what is correct varies, too."""
        both = (self.best, other)
        of_energy = self.evidence.variance(*both)
        if of_energy is None:
            return None
        kinds = [self.evidence.apparatus[i] for i in both]
        alike = [j for i, j in enumerate(self.cost.runs_j) if self.evidence.apparatus[i] in kinds]
        of_cost = pooled_run_variance(j for j in alike if not np.isnan(j).any())
        greedy = (self.evidence.table["generation"].iloc[list(both)] == "greedy").all()
        if self.cost.per == "correct program" and not greedy:
            return of_cost
        found = [variance for variance in (of_energy, of_cost) if variance is not None]
        return max(found, key=lambda variance: variance.sd_log)

    def _ratio(self, other: int, alpha: float) -> RunRatio | None:
        """Cost over that of another on these tasks; its interval is NaN where it is not known."""
        own_j, other_j = self.cost.runs_j[self.best], self.cost.runs_j[other]
        if not self.evidence.same_tasks or not (own_j > 0).all() or not (other_j > 0).all():
            return None
        variance = self.variance(other)
        if variance is None:
            ratio = float(own_j.mean() / other_j.mean())
            return RunRatio(ratio=ratio, low=math.nan, high=math.nan, p_value=math.nan)
        meter = max(self.evidence.counter_rel[i] for i in (self.best, other))
        return compare_runs(
            own_j, other_j, variance=variance, counter_rel=meter, confidence=1 - alpha
        )

    def _on_other_tasks(self, other: int, resampler: Resampler) -> tuple[float, float] | None:
        """The interval of the ratio on tasks like these; None where it is not known."""
        from scipy import stats

        evidence, both = self.evidence, [self.best, other]
        if not evidence.figures.task_ids:  # published figures are of whole runs alone
            return None
        tasks = np.asarray(evidence.complete[both].all(axis=0))
        if self.cost.per == "correct program":
            tasks &= ~np.isnan(evidence.passed[both]).any(axis=0)
        labels = evidence.clusters(both, tasks)
        if not labels.size or labels.max() + 1 < FEWEST_CLUSTERS:
            return None
        figures, total = evidence.figures, front_energy(evidence.table) == "energy_total_j"
        total = total and self.cost.per != "task"
        energy_j = figures.energy_j + figures.evaluation_j if total else figures.energy_j
        # Only tasks are resampled: a few runs say less about their variance than what is known of
        # it.
        own_j = [energy_j[evidence.rows[i]][:, tasks].mean(axis=0)[None] for i in both]
        if any(np.isnan(own).any() for own in own_j):
            return None
        drawn = resample(own_j, evidence.passed[both][:, tasks], labels, resampler=resampler)
        logs = np.log(drawn.energy_j[:, 0] / drawn.energy_j[:, 1])
        if self.cost.per == "correct program":
            with np.errstate(divide="ignore", invalid="ignore"):
                logs += np.log(drawn.pass_at_1[:, 1] / drawn.pass_at_1[:, 0])
        if not has_spread(logs):
            return None
        ratio = self.ratios[other]
        low, high = np.percentile(logs, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
        theta = math.log(ratio.ratio)
        between = math.log(ratio.high / ratio.ratio)
        if math.isnan(between):
            return None
        # Percentiles are those of a variance that is known, and of a single comparison.
        quantile = stats.t.ppf(1 - self.alpha_tasks / 2, labels.max())
        wider = quantile / stats.norm.ppf(1 - ALPHA / 2)
        below = math.hypot(wider * (theta - low), between)
        above = math.hypot(wider * (high - theta), between)
        return math.exp(theta - below), math.exp(theta + above)

    def figures(self) -> dict[str, float]:
        found = {"cost_j": self.row["cost_j"], "pass_at_1": self.row["pass_at_1"]}
        if self.reference in self.ratios:
            ratio = self.ratios[self.reference]
            found |= {"ratio": ratio.ratio, "ratio_low": ratio.low, "ratio_high": ratio.high}
        if self.on_others is not None:
            found["tasks_low"], found["tasks_high"] = self.on_others
        return {name: float(value) for name, value in found.items() if not math.isnan(value)}

    def sentence(self) -> str:
        name = self.names[self.best]
        alone = len(self.rows) == 1
        start = name if alone else f"Take {name}"
        energy = f"{self.mark}{_energy(self.row['cost_j'])} per {self.cost.per}"
        parts = [f"{start}: {energy}{self._against_reference()}"]
        if not math.isnan(self.row["pass_at_1"]):
            parts.append(self._accuracy())
        return f"{'; '.join(parts)}."

    def _against_reference(self) -> str:
        if self.reference is None or self.reference not in self.ratios:
            return ""
        ratio = self.ratios[self.reference]
        other = (
            "unquantized" if self.reference == self.unquantized else
            f"{'the next, ' if self.reference in self.others else ''}{self.names[self.reference]}"
        )  # fmt: skip
        change, _, interval = percent_words(ratio.ratio, ratio.low, ratio.high).partition(" [")
        if math.isnan(ratio.p_value):
            return f", in these runs {change} than {other}"
        if ratio.resolved:
            return f", {change} than {other} [{interval}"
        return f", not shown to differ from {other} ({change} [{interval})"

    def _accuracy(self) -> str:
        said = f"pass@1 {self.row['pass_at_1']:.2f}"
        if self.goal.min_pass_at_1 is not None:
            return f"{said}, with 95 % confidence at least {self.row['pass_at_1_lower']:.2f}"
        if len(self.rows) == 1:
            return said
        known = [i for i, row in enumerate(self.rows) if not math.isnan(row["pass_at_1"])]
        top = max(known, key=lambda i: (self.rows[i]["pass_at_1"], i == self.best))
        to_unquantized = self.unquantized in known and self.reference == self.unquantized
        other = self.reference if to_unquantized and self.reference is not None else top
        if other == self.best:
            return f"{said}, the highest here"
        against = "" if to_unquantized else f" against {self.names[other]}"
        found = self._accuracy_against(other)
        if found is None:
            return f"{said}, not compared{against} task by task"
        if found.p_value_no_loss * (len(self.rows) - 1) < ALPHA:
            return f"{said}, a loss of more than {found.margin:g}{against} is excluded"
        if found.ci_high < 0:
            than = "unquantized" if to_unquantized else self.names[other]
            return f"{said}, {-found.difference:.2f} lower than {than}"
        return f"{said}, a loss of up to {max(0.0, -found.ci_low):.2f}{against} is not excluded"

    def _accuracy_against(self, other: int) -> PairedAccuracy | None:
        passed = self.evidence.compare(self.best, other).passed
        return paired_accuracy(*passed, margin=self.margin) if passed[0].size else None

    def ladder(self) -> list[str]:
        """The front above the chosen one, least energy first."""
        rows = self.rows
        if math.isnan(self.row["pass_at_1"]):
            return []
        on = pareto_front([r["cost_j"] for r in rows], [r["pass_at_1"] for r in rows])
        above = [i for i in np.flatnonzero(on) if rows[i]["pass_at_1"] > self.row["pass_at_1"]]
        return [self._step(int(i)) for i in sorted(above, key=lambda i: rows[i]["cost_j"])]

    def _step(self, i: int) -> str:
        row = self.rows[i]
        gain, times = row["pass_at_1"] - self.row["pass_at_1"], row["cost_j"] / self.row["cost_j"]
        found = self._accuracy_against(i)
        known = found is not None and found.p_value * (len(self.rows) - 1) < ALPHA
        sure = "" if known else " (not resolved)"
        return (
            f"For {gain:+.2f} pass@1{sure} pay {times:.2g} times: {self.names[i]}, "
            f"{self.mark}{_energy(row['cost_j'])} per {self.cost.per}, "
            f"pass@1 {row['pass_at_1']:.2f}."
        )

    def doubts(self) -> list[str]:
        table = self.evidence.table
        said = []
        if self.cost.per == "task":
            said.append(
                "No correct programs are known (none was judged, or weights are random): energy "
                "is per task."
            )
        said += [*self._validity(), *self._between_runs(), *self._other_tasks(), *self._rivals()]
        said += [*_neighbours(self.evidence, self.best), *self._near_misses()]
        if not self.by_energy:
            said.append("The best of several looks better than it is: expect a little less.")
        if not self.evidence.rows[self.best].size:
            said.append("Only figures of the whole run are published; pass@1 is as rounded there.")
        if table["runs"].iloc[self.best] > 1 and math.isnan(self.row["energy_upper_kwh"]):
            said.append(
                "Its runs took the same energy to the last digit, which says nothing of variance."
            )
        return said

    def _validity(self) -> list[str]:
        """What the tags of the runs of these two say against their energy."""
        runs = self.evidence.runs
        names: dict[str, list[str]] = {}
        for i in dict.fromkeys(i for i in (self.best, self.reference) if i is not None):
            own = runs[runs["run_id"].isin(self.evidence.table["run_ids"].iloc[i])]
            for doubt, words in run_doubts(own).items():
                # The source of energy is the same in the whole group.
                of = names.setdefault(words[0].upper() + words[1:], [])
                of += [] if doubt in UNMEASURED else [self.names[i]]
        return [f"{words} ({', '.join(of)})." if of else f"{words}." for words, of in names.items()]

    def _between_runs(self) -> list[str]:
        if self.reference is None:
            return []
        variance = self.variance(self.reference)
        if variance is None:
            return ["How much energy varies from run to run is not known (repeat=1,2,3 tells)."]
        if variance.source == ASSUMED:
            return [
                "How much energy varies from run to run was not measured here: "
                f"{100 * variance.sd_log:.2g} % is assumed (repeat=1,2,3 tells)."
            ]
        return []

    def _other_tasks(self) -> list[str]:
        if self.reference not in self.ratios or self.evidence.table["runs"].iloc[self.best] == 0:
            return []
        if self.on_others is None:
            return [f"Whether this holds on other tasks like these is not known{self._why()}."]
        low, high = self.on_others
        ratio = self.ratios[self.reference].ratio
        words = percent_words(ratio, low, high)
        if low <= 1 <= high:
            return [f"On other tasks like these the difference is not resolved ({words})."]
        return []

    def _why(self) -> str:
        """What it would take to know whether the answer holds on other tasks."""
        assert self.reference is not None
        both = [self.best, self.reference]
        tasks = np.asarray(self.evidence.complete[both].all(axis=0))
        labels = self.evidence.clusters(both, tasks)
        if not labels.size:
            return " (no energy of single tasks)"
        groups = int(labels.max()) + 1
        if groups >= FEWEST_CLUSTERS:
            return ""
        enough = math.ceil(FEWEST_CLUSTERS / groups) * labels.size
        count = f"{groups} group{'s' if groups > 1 else ''}"
        return f": {labels.size} tasks were metered in {count} ({enough} tasks would tell)"

    def _rivals(self) -> list[str]:
        """Those that reach the goal and are not shown to be worse."""
        if self.by_energy:
            tested = {i: self.p_values[i] for i in self.others if i in self.p_values}
            what = f"take more energy per {self.cost.per}"
        else:
            found = {i: self._accuracy_against(i) for i in self.others}
            known = {i: own.p_value for i, own in found.items() if own is not None}
            tested = dict(zip(known, map(float, holm(list(known.values()))), strict=True))
            what = "have lower pass@1"
        open_ = [i for i in self.others if not tested.get(i, math.nan) < ALPHA]
        open_ = [i for i in open_ if not (self.by_energy and i == self.reference)]
        if not open_:
            return []
        listed = ", ".join(self.names[i] for i in open_[:_NAMED])
        return [f"Not shown to {what}: {listed}{_more(open_)}."]

    def _near_misses(self) -> list[str]:
        """Configurations that would be taken if what the data suggest were certain."""
        least = self.goal.min_pass_at_1
        if least is None:
            return []
        cheaper = [row for row in self.rows if row["cost_j"] < self.row["cost_j"]]
        near = [r for r in cheaper if not r["qualifies"] and r["pass_at_1"] >= least]
        return [
            f"{row['configuration']} takes less energy ({_energy(row['cost_j'])}) and has pass@1 "
            f"{row['pass_at_1']:.3f}, but it is not sure to reach the goal (p "
            f"{p_words(row['goal_p_value_holm'])})."
            for row in sorted(near, key=lambda row: row["cost_j"])[:_NAMED]
        ]


def _more(names: Sequence[object]) -> str:
    return f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""


def _neighbours(evidence: Evidence, best: int) -> list[str]:
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


def _nearest(rows: list[Row], goal: Goal, evidence: Evidence) -> str:
    """Why no configuration is taken."""
    known = [r for r in rows if not (math.isnan(r["cost_j"]) or math.isnan(r["pass_at_1"]))]
    if not known:
        if not goal.given:
            return _least_per_token(evidence)
        return (
            "No configuration has both energy and pass@1 (which means nothing with random weights)."
        )
    if goal.min_pass_at_1 is None:
        row = min(known, key=lambda row: row["cost_j"])
        return (
            f"No configuration is shown to stay within the limit. The least energy is that of "
            f"{row['configuration']}: {_energy(row['cost_j'])}."
        )
    row = max(known, key=lambda row: row["pass_at_1"])
    lower = row["pass_at_1_lower"]
    sure = "" if math.isnan(lower) else f", with 95 % confidence at least {lower:.3f}"
    return (
        f"No configuration is shown to reach the goal. The best pass@1 is that of "
        f"{row['configuration']}: {row['pass_at_1']:.3f}{sure}, with {_energy(row['cost_j'])}."
    )


def _least_per_token(evidence: Evidence) -> str:
    """What can be said where no configuration has energy and a correct program."""
    per_token_j = evidence.table["energy_per_output_token_j"].to_numpy(dtype=float)
    if np.isnan(per_token_j).all():
        return "Nothing to take: no configuration has energy and a correct program."
    least = int(np.nanargmin(per_token_j))
    return (
        f"No correct program is known. The least energy per token is that of "
        f"{evidence.labels[least]}: {_energy(per_token_j[least])}."
    )


def _energy(energy_j: float) -> str:
    if energy_j >= KWH_FROM_J:
        return f"{number(energy_j / J_PER_KWH)} kWh"
    return f"{number(energy_j)} J"
