"""Configurations together with what each of their runs says of each task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codejoule.analysis.comparison import setting_columns
from codejoule.analysis.families import (
    BASE,
    ComparisonSet,
    Family,
    configuration_labels,
    find_families,
)
from codejoule.statistics import clusters

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from codejoule.analysis.tasks import TaskFigures

_VARIANT = "params.model.variant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the tables of one group are made of. Configurations are numbered as their rows."""

    table: "pd.DataFrame"
    """From `comparison_table`."""
    labels: tuple[str, ...]
    """Short name of each configuration."""
    settings: tuple[str, ...]
    """Columns of `table` that are settings."""
    figures: "TaskFigures"
    """Figures of every task of every run."""
    rows: "tuple[NDArray[np.int64], ...]"
    """Rows of `figures` that are each configuration's runs; empty without figures of tasks."""
    families: tuple[Family, ...]
    """The questions that these configurations answer."""

    def sets(self) -> Iterator[tuple[str, ComparisonSet]]:
        """Every set of configurations that differ in one setting, with that setting's name."""
        for family in self.families:
            for own in family.sets:
                yield family.factor, own

    def pair(self, factor: str, own: ComparisonSet, i: int, j: int) -> dict[str, str]:
        """The columns that name the comparison of the levels in places `i` and `j`."""
        return {
            "factor": factor,
            "held": own.fixed,
            "configuration": self.labels[own.configurations[i]],
            "reference": self.labels[own.configurations[j]],
        }

    def complete(self, configurations: Sequence[int]) -> "NDArray[np.bool_]":
        """Tasks whose energy is known in every run of these configurations, shape (t,)."""
        rows = np.concatenate([self.rows[i] for i in configurations])
        if rows.size == 0 or any(self.rows[i].size == 0 for i in configurations):
            return np.zeros(len(self.figures.task_ids), dtype=bool)
        return np.asarray((self.figures.energy_j[rows] > 0).all(axis=0))

    def energy_j(self, i: int, tasks: "NDArray[np.bool_]") -> "NDArray[np.float64]":
        """Energy of generation of each run on each of `tasks` [J], shape (runs, tasks)."""
        return np.asarray(self.figures.energy_j[self.rows[i]][:, tasks])

    def logs(self, i: int, tasks: "NDArray[np.bool_]") -> "NDArray[np.float64]":
        """Logarithm of `energy_j`."""
        return np.asarray(np.log(self.energy_j(i, tasks)))

    def passed(self, i: int, tasks: "NDArray[np.bool_]") -> "NDArray[np.float64]":
        """Share of each task's samples, over all runs, that passed; NaN where not judged."""
        return np.asarray(self.figures.passed[self.rows[i]][:, tasks].mean(axis=0))

    def judged(self, configurations: Sequence[int]) -> "NDArray[np.bool_]":
        """Tasks that every run of these configurations has a verdict of, shape (t,)."""
        if any(self.rows[i].size == 0 for i in configurations):
            return np.zeros(len(self.figures.task_ids), dtype=bool)
        rows = np.concatenate([self.rows[i] for i in configurations])
        return np.asarray(~np.isnan(self.figures.passed[rows]).any(axis=0))

    def clusters(
        self, configurations: Sequence[int], tasks: "NDArray[np.bool_]"
    ) -> "NDArray[np.int64]":
        """Cluster of each of `tasks` by the windows of all these runs."""
        rows = np.concatenate([self.rows[i] for i in configurations])
        return clusters([self.figures.window[row][tasks] for row in rows])


def gather(runs: "pd.DataFrame", table: "pd.DataFrame", figures: "TaskFigures") -> Evidence:
    """Put configurations and figures of tasks together.

    Parameters
    ----------
    runs : pandas.DataFrame
        Runs of one group.
    table : pandas.DataFrame
        From `comparison_table`, of the same runs.
    figures : TaskFigures
        From `read_tasks`; may hold more runs.

    Returns
    -------
    Evidence
        Of these configurations.
    """
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
    )


def _variants(runs: "pd.DataFrame") -> list[str]:
    """Whether each run's model is a base or an instruct model; by its name where nothing says."""
    names = [str(name) for name in runs["params.model.name"]]
    known = runs[_VARIANT] if _VARIANT in runs.columns else [None] * len(runs)
    return [
        variant or ("base" if name.endswith(BASE) else "instruct")
        for variant, name in zip(known, names, strict=True)
    ]
