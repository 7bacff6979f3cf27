"""The declaration of a statistic: the tasks that it takes, its columns and its sentences."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codejoule.statistics.between_runs import RunVariance
from codejoule.statistics.clusters import Resampler, cluster_means
from codejoule.statistics.result import ALPHA, holm

MARGIN = 0.02
"""Loss of pass@1 up to which "no loss" is said, unless another is stated."""

KEYS = {
    "run": ("configuration", "run_id"),
    "first run": ("configuration",),
    "configuration": ("configuration",),
    "set": ("factor", "held", "configurations", "levels", "tasks"),
    "contrasts": ("factor", "held", "configuration", "reference"),
    "pair": ("factor", "held", "configuration", "reference"),
}
"""Columns that name each kind of unit."""

RUNS_AS_GIVEN = (
    "Friedman's and Wilcoxon's tests take the runs as given. Only the ratio, with its p_value and "
    "verdict, and the mixed model contain the variance between runs."
)
_ADJUSTED = "p-values adjusted by Holm within the factor, all its comparisons together."

DRIFTS = 1.5
"""Durbin-Watson's statistic below which a series is called correlated."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What tests may choose."""

    margin: float = MARGIN
    """Loss of pass@1 up to which "no loss" is said."""
    resampler: Resampler = field(default_factory=lambda: Resampler(rng=np.random.default_rng(0)))
    """Source of the bootstrap's resamples."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunTasks:
    """Figures of the tasks of one run in the order of generation, or means over several runs."""

    energy_j: NDArray[np.float64]
    """Energy of generation [J], shape (tasks,); tasks without one are left out."""
    output_tokens: NDArray[np.float64]
    """Generated tokens."""
    domains: Mapping[str, NDArray[np.bool_]]
    """Which tasks belong to each domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTasks:
    """The same tasks under several configurations."""

    energy_j: tuple[NDArray[np.float64], ...]
    """Energy of generation [J] of each configuration, shapes (runs, tasks)."""
    labels: NDArray[np.int64]
    """Cluster of each task."""
    pairs: tuple[tuple[int, int], ...]
    """Which configurations are compared, each with its reference."""

    def mean_j(self) -> list[NDArray[np.float64]]:
        """Energy of each task under each configuration, mean over its runs."""
        return [energy_j.mean(axis=0) for energy_j in self.energy_j]

    def cluster_logs(self) -> list[NDArray[np.float64]]:
        """Mean log energy of each cluster of tasks, shapes (runs, clusters)."""
        return [cluster_means(np.log(energy_j), self.labels) for energy_j in self.energy_j]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTasks:
    """The same tasks under two configurations, the second of which is the reference."""

    energy_j: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Energy of generation [J], shapes (runs, tasks)."""
    labels: NDArray[np.int64]
    """Cluster of each task."""
    order: NDArray[np.float64]
    """Place of each task in the first run of the first configuration."""
    passed: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Share of samples that passed of each task that all runs were judged on."""
    run_energy_j: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Energy of generation of whole runs [J], shapes (runs,); empty where they are not of the
    same tasks."""
    variance: RunVariance | None
    """How much the energy of runs differs; None where that is not known."""
    counter_rel: float = 0.0
    """Relative standard uncertainty of a run's energy that comes from the meter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """One table of an analysis: the same function of every run, set or pair."""

    name: str
    """Name of the table and of its files."""
    title: str
    """What it shows, in words."""
    unit: Literal["run", "first run", "configuration", "set", "contrasts", "pair"]
    """What it is worked out for: a `RunTasks` (of a configuration: means over its runs), a
    `SetTasks` as a whole or all pairs of it, a `PairTasks`."""
    rows: Callable[[Any, Method], Iterable[Row]]
    """Works out the rows of one unit, none or more. A row of contrasts has its ``pair``."""
    figures: tuple[str, ...]
    """Columns besides those that name the unit. Other values of a row are left out."""
    adjusted: tuple[str, ...] = ()
    """p-values that are adjusted by Holm within the factor, into a column ``..._holm``."""
    verdict: tuple[str, float, str, str] | None = None
    """Figure that is judged, its value without an effect, and the words for less and more."""
    shown: tuple[str, str] | None = None
    """A column that says whether a further adjusted p-value is significant, and that p-value."""
    notes: tuple[str, ...] = ()
    """What a reader of the table needs; ``{margin}`` and ``{lags}`` are filled in."""
    thesis: str = ""
    """Tables and figures of the thesis that it corresponds to."""
    needs_accuracy: bool = False
    """Whether it means nothing with random weights."""
    headline: Callable[[list[Row]], str] | None = None
    """Sentence on all comparisons of a factor."""
    sentence: Callable[[Row], str] | None = None
    """Sentence on one comparison."""
    caution: Callable[[list[Row]], str | None] | None = None
    """What a reader must know about the table as a whole; None where there is nothing."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the table."""
        columns = list(KEYS[self.unit])
        for name in self.figures:
            columns += [name, f"{name}_holm"] if name in self.adjusted else [name]
        return tuple(columns)

    def remarks(self, **facts: float) -> tuple[str, ...]:
        """The notes with `facts` filled in, and how p-values are adjusted."""
        notes = [note.format(**facts) for note in self.notes]
        return (*notes, _ADJUSTED) if self.adjusted else tuple(notes)

    def family(self, rows: list[Row]) -> list[Row]:
        """The rows of one factor, adjusted together, with their verdicts."""
        for name in self.adjusted:
            for row, p_value in zip(rows, holm([row[name] for row in rows]), strict=True):
                row[f"{name}_holm"] = float(p_value)
        if self.verdict is not None:
            figure, neutral, less, more = self.verdict
            for row in rows:
                p_value, word = row["p_value_holm"], less if row[figure] < neutral else more
                unresolved = "unknown" if np.isnan(p_value) else "not resolved"
                row["verdict"] = word if p_value < ALPHA else unresolved
        if self.shown is not None:
            for row in rows:
                row[self.shown[0]] = bool(row[f"{self.shown[1]}_holm"] < ALPHA)
        return rows


def pair_words(row: Mapping[Any, Any]) -> str:
    """The two configurations that a row is about."""
    return f"{row['configuration']} against {row['reference']}"
