"""Configurations together with what each of their runs says of each task, as plain arrays."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis.comparison import COMPARABLE, comparison_table, setting_columns
from codejoule.analysis.families import (
    BASE,
    ComparisonSet,
    Family,
    configuration_labels,
    find_families,
)
from codejoule.analysis.tasks import TaskFigures
from codejoule.analysis.variances import Apparatus, apparatus, largest_variance, run_variances
from codejoule.statistics import PairTasks, RunTasks, RunVariance, SetTasks, clusters

if TYPE_CHECKING:
    import pandas as pd

_VARIANT = "params.model.variant"
_TASKS = ("suite", "split", "tasks")

Unit = tuple[dict[str, Any], Any]
"""What a statistic is worked out for: the columns that name it, and its figures of tasks."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the tables of one group are made of. Configurations are numbered as their rows.

    Which tasks are compared, their clusters and what to compare with what are worked out once,
    when they are first asked for.
    """

    table: "pd.DataFrame"
    """From `comparison_table`."""
    labels: tuple[str, ...]
    """Short name of each configuration."""
    settings: tuple[str, ...]
    """Columns of `table` that are settings."""
    figures: TaskFigures
    """Figures of every task of every run."""
    rows: tuple[NDArray[np.int64], ...]
    """Rows of `figures` that are each configuration's runs; empty without figures of tasks."""
    families: tuple[Family, ...]
    """The questions that these configurations answer."""
    runs: "pd.DataFrame"
    """The runs, as `load_runs` gives them."""
    variances: Mapping[Apparatus, RunVariance]
    """From `run_variances`: how much repeats of each apparatus differ."""

    def of_runs(self, metric: str) -> list[NDArray[np.float64]]:
        """A metric of the runs of each configuration; NaN where a run lacks it."""
        column = f"metrics.{metric}"
        known = column in self.runs
        values = (
            self.runs[column].to_numpy(dtype=float) if known else np.full(len(self.runs), np.nan)
        )
        of = dict(zip(self.runs["run_id"], values, strict=True))
        return [np.array([of[run_id] for run_id in ids]) for ids in self.table["run_ids"]]

    @cached_property
    def run_energy_j(self) -> list[NDArray[np.float64]]:
        """Energy of generation of each configuration's runs [J]."""
        return self.of_runs("energy_generation_j")

    def variance(self, *configurations: int) -> RunVariance | None:
        """How much the energy of these configurations' runs differs; None where that is not
        known."""
        return largest_variance([self.apparatus[i] for i in configurations], self.variances)

    @cached_property
    def counter_rel(self) -> list[float]:
        """Relative standard uncertainty of runs that comes from the meter; 0 where not recorded."""
        stated = self.of_runs("energy_generation_uncertainty_j")
        shares = [own / j for own, j in zip(stated, self.run_energy_j, strict=True)]
        return [0.0 if np.isnan(own).any() else float(own.max()) for own in shares]

    @cached_property
    def apparatus(self) -> list[Apparatus]:
        """What generated and metered each configuration's runs."""
        of = {run["run_id"]: apparatus(run) for run in self.runs.to_dict("records")}
        return [of[ids[0]] for ids in self.table["run_ids"]]

    @cached_property
    def same_tasks(self) -> bool:
        """Whether all runs answered the same tasks, so that energies of whole runs compare."""
        return all(self.runs[COMPARABLE[f]].nunique(dropna=False) == 1 for f in _TASKS)

    @cached_property
    def energy_j(self) -> list[NDArray[np.float64]]:
        """Energy of generation of each configuration [J], shapes (runs, tasks)."""
        # The layout is that of a selection of tasks, so that sums over all and over some round
        # alike.
        return [np.asfortranarray(self.figures.energy_j[rows]) for rows in self.rows]

    @cached_property
    def complete(self) -> NDArray[np.bool_]:
        """Tasks whose energy is known in every run, shape (configurations, tasks)."""
        return np.array([len(own) > 0 and (own > 0).all(axis=0) for own in self.energy_j])

    @cached_property
    def passed(self) -> NDArray[np.float64]:
        """Share of each task's samples, over all runs, that passed; NaN where not all are judged.

        Shape (configurations, tasks).
        """
        unknown = np.full(len(self.figures.task_ids), np.nan)
        own = [self.figures.passed[rows] for rows in self.rows]
        return np.array([rates.mean(axis=0) if len(rates) else unknown for rates in own])

    def clusters(
        self, configurations: Sequence[int], tasks: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Cluster of each of `tasks` by the windows of all these runs; empty without tasks."""
        if not tasks.any():
            return np.empty(0, dtype=np.int64)
        rows = np.concatenate([self.rows[i] for i in configurations])
        return clusters([self.figures.window[row][tasks] for row in rows])

    def compare(self, i: int, j: int) -> PairTasks:
        """Tasks that configurations `i` and `j` have in common, `j` as the reference."""
        tasks = self._complete([i, j])
        judged = ~np.isnan(self.passed[[i, j]]).any(axis=0)
        order = self.figures.order[self.rows[i][0]][tasks] if tasks.any() else np.empty(0)
        runs_j = self.run_energy_j
        return PairTasks(
            energy_j=(_part(self.energy_j[i], tasks), _part(self.energy_j[j], tasks)),
            labels=self.clusters([i, j], tasks),
            order=order,
            passed=(self.passed[i][judged], self.passed[j][judged]),
            run_energy_j=(runs_j[i], runs_j[j]) if self.same_tasks else (np.empty(0),) * 2,
            variance=self.variance(i, j),
            counter_rel=max(self.counter_rel[i], self.counter_rel[j]),
        )

    @cached_property
    def units(self) -> dict[str, list[list[Unit]]]:
        """What statistics are worked out for by the names of `KEYS`, in lists for each family."""
        runs = [
            [
                ({"configuration": label, "run_id": self.figures.run_ids[row]}, self._run(row))
                for row in rows
            ]
            for label, rows in zip(self.labels, self.rows, strict=True)
        ]
        sets = [[self._set(family.factor, own) for own in family.sets] for family in self.families]
        pairs = [
            [self._pair(family.factor, own, i, j) for own in family.sets for i, j in own.pairs()]
            for family in self.families
        ]
        means = [
            ({"configuration": label}, self._tasks(rows, np.flatnonzero(known)))
            for label, rows, known in zip(self.labels, self.rows, self.complete, strict=True)
            if known.any()
        ]
        return {
            "run": [[unit for own in runs for unit in own]],
            "first run": [[own[0] for own in runs if own]],
            "configuration": [means],
            "set": sets,
            "contrasts": sets,
            "pair": pairs,
        }

    def _run(self, row: int) -> RunTasks:
        known = np.flatnonzero(self.figures.energy_j[row] > 0)
        return self._tasks([row], known[np.argsort(self.figures.order[row][known])])

    def _tasks(
        self, rows: Sequence[int] | NDArray[np.int64], places: NDArray[np.int64]
    ) -> RunTasks:
        """Means over some runs of some tasks."""
        figures = self.figures
        return RunTasks(
            energy_j=figures.energy_j[rows].mean(axis=0)[places],
            output_tokens=figures.output_tokens[rows].mean(axis=0)[places],
            domains={name: member[places] for name, member in figures.domains.items()},
        )

    def _set(self, factor: str, own: ComparisonSet) -> Unit:
        tasks = self._complete(own.configurations)
        names = {
            "factor": factor, "held": own.fixed, "configurations": len(own.levels),
            "levels": ", ".join(own.levels), "tasks": int(tasks.sum()),
            "labels": [self.labels[c] for c in own.configurations],
        }  # fmt: skip
        return names, SetTasks(
            energy_j=tuple(_part(self.energy_j[c], tasks) for c in own.configurations),
            labels=self.clusters(own.configurations, tasks),
            pairs=tuple(own.pairs()),
        )

    def _pair(self, factor: str, own: ComparisonSet, i: int, j: int) -> Unit:
        a, b = own.configurations[i], own.configurations[j]
        names = {
            "factor": factor, "held": own.fixed, "configuration": self.labels[a],
            "reference": self.labels[b], "places": (a, b),
        }  # fmt: skip
        return names, self.compare(a, b)

    def _complete(self, configurations: Sequence[int]) -> NDArray[np.bool_]:
        return np.asarray(self.complete[list(configurations)].all(axis=0))


def gather(
    runs: "pd.DataFrame",
    figures: TaskFigures,
    *,
    mix: Collection[str] = (),
    variances: Mapping[Apparatus, RunVariance] | None = None,
) -> Evidence:
    """Put the configurations of a group's runs and their figures of tasks together.

    `figures` may hold further runs; `mix` names the facts of `COMPARABLE` in which runs differ;
    `variances` are of the store, and those of `runs` alone unless given.
    """
    table = comparison_table(runs, mix=mix)
    settings = setting_columns(table)
    of_run = dict(zip(runs["run_id"], _variants(runs), strict=True))
    variants = [of_run[ids[0]] for ids in table["run_ids"]]
    return Evidence(
        table=table,
        labels=tuple(configuration_labels(table, settings)),
        settings=tuple(settings),
        figures=figures,
        rows=tuple(figures.rows(ids) for ids in table["run_ids"]),
        families=find_families(table, settings, variants),
        runs=runs,
        variances=run_variances(runs) if variances is None else variances,
    )


def _part(figures: NDArray[np.float64], tasks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Figures of some tasks; without a copy where these are all."""
    return figures if tasks.all() else figures[:, tasks]


def _variants(runs: "pd.DataFrame") -> list[str]:
    """Whether each run's model is a base or an instruct model; by its name where nothing says."""
    names = [str(name) for name in runs["params.model.name"]]
    known = runs[_VARIANT] if _VARIANT in runs.columns else [None] * len(runs)
    return [
        variant or ("base" if name.endswith(BASE) else "instruct")
        for variant, name in zip(known, names, strict=True)
    ]
