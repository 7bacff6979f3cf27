"""Everything that is said of a set of runs, as one structure."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from codejoule.analysis.comparison import comparison_table
from codejoule.analysis.configuration import Group, comparable_groups
from codejoule.analysis.disagreements import disagreement_table
from codejoule.analysis.efficiency import efficiency_table
from codejoule.analysis.evidence import Evidence, gather
from codejoule.analysis.findings import findings
from codejoule.analysis.paired_tables import paired_tables
from codejoule.analysis.recommend import Goal, Recommendation, recommend
from codejoule.analysis.runs import LoadedRuns
from codejoule.analysis.table import Table
from codejoule.analysis.tasks import TaskFigures, read_tasks
from codejoule.analysis.thesis_tables import thesis_tables
from codejoule.statistics import MARGIN, Resampler

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to analyse."""

    margin: float = MARGIN
    """Loss of pass@1 up to which "no loss" is said."""
    goal: Goal | None = None
    """What a recommendation is wanted for."""
    mix: Collection[str] = ()
    """Facts in which runs of one table may differ, by the names of `COMPARABLE`."""
    seed: int = 0
    """Seed of the bootstraps: the same runs give the same figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAnalysis:
    """One group of comparable runs, analysed."""

    group: Group
    """The runs."""
    evidence: Evidence
    """Configurations and their figures of tasks."""
    tables: dict[str, Table] = field(default_factory=dict)
    """By name; see docs/analysis.md."""
    findings: tuple[str, ...] = ()
    """What the tables say, in sentences."""
    recommendation: Recommendation | None = None
    """Answer to the goal; None where none was asked for."""

    def as_json(self) -> dict[str, Any]:
        """As what `json.dumps` takes."""
        return {
            "title": self.group.title,
            "facts": dict(self.group.facts),
            "estimate": self.group.estimate,
            "published": self.group.published,
            "configurations": list(self.evidence.labels),
            "settings": list(self.evidence.settings),
            "run_ids": [list(ids) for ids in self.evidence.table["run_ids"]],
            "findings": list(self.findings),
            "tables": {name: table.as_json() for name, table in self.tables.items()},
            "recommendation": (
                None if self.recommendation is None else self.recommendation.as_json()
            ),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """All groups, and what was left out."""

    experiment: str
    """Name of the experiment."""
    uri: str
    """Store that the runs were read from."""
    runs: int
    """Runs analysed."""
    left_out: tuple[str, ...]
    """A phrase for each kind of run that was left out."""
    notes: tuple[str, ...]
    """Which runs have no figures of tasks, and why there are several groups."""
    groups: tuple[GroupAnalysis, ...]
    """Groups of comparable runs."""

    def as_json(self) -> dict[str, Any]:
        """As what `json.dumps` takes."""
        return {
            "experiment": self.experiment,
            "uri": self.uri,
            "runs": self.runs,
            "left_out": list(self.left_out),
            "notes": list(self.notes),
            "groups": [group.as_json() for group in self.groups],
        }


def analyse(loaded: LoadedRuns, options: Options | None = None) -> Analysis:
    """Analyse runs, each group of comparable ones by itself.

    Parameters
    ----------
    loaded : LoadedRuns
        From `load_runs`.
    options : Options, optional
        How.

    Returns
    -------
    Analysis
        Tables, findings and, where asked for, a recommendation per group.

    Raises
    ------
    UserError
        If the store fails.
    """
    options = options or Options()
    figures, notes = read_tasks(loaded.frame, uri=loaded.uri)
    groups = comparable_groups(loaded.frame, mix=options.mix)
    return Analysis(
        experiment=loaded.experiment,
        uri=loaded.uri,
        runs=len(loaded.frame),
        left_out=loaded.left_out,
        notes=(*notes, *_apart(groups)),
        groups=tuple(analyse_group(group, figures, options) for group in groups),
    )


def analyse_group(
    group: Group, figures: TaskFigures, options: Options, table: "pd.DataFrame | None" = None
) -> GroupAnalysis:
    """Analyse one group.

    Parameters
    ----------
    group : Group
        From `comparable_groups`.
    figures : TaskFigures
        Of its runs, and perhaps others.
    options : Options
        How.
    table : pandas.DataFrame, optional
        `comparison_table` of the group, where it is known already.

    Returns
    -------
    GroupAnalysis
        The group's tables and what they say. Of random weights nothing is said that rests on
        pass@1, and no configuration is recommended.
    """
    if table is None:
        table = comparison_table(group.frame, mix=options.mix)
    evidence = gather(group.frame, table, figures)
    resampler = Resampler(rng=np.random.default_rng(options.seed))
    own = [
        *thesis_tables(evidence),
        *paired_tables(evidence, margin=options.margin, resampler=resampler),
        efficiency_table(evidence, resampler=resampler),
    ]
    tables = {t.name: t for t in own}
    tables["disagreements"] = disagreement_table(tables)
    advice = (
        None if options.goal is None else recommend(evidence, options.goal, resampler=resampler)
    )
    if advice is not None:
        tables["recommendation"] = advice.candidates
    if group.random:
        tables = _without_accuracy(tables)
    return GroupAnalysis(
        group=group,
        evidence=evidence,
        tables=tables,
        findings=findings(evidence, tables),
        recommendation=advice,
    )


def _without_accuracy(tables: dict[str, Table]) -> dict[str, Table]:
    """The tables of random weights: nothing in them rests on pass@1."""
    return {
        name: replace(
            table,
            frame=table.frame[
                [c for c in table.frame.columns if "pass_at" not in c and "solved" not in c]
            ],
        )
        for name, table in tables.items()
        if name not in ("accuracy_pairs", "efficiency")
    }


def _apart(groups: list[Group]) -> list[str]:
    """Say which facts keep the groups apart."""
    if len(groups) < 2:
        return []
    names = [
        name for name in dict.fromkeys(n for g in groups for n in g.facts)
        if len({g.facts.get(name, "unknown") for g in groups}) > 1
    ]  # fmt: skip
    return [
        f"The runs are of {len(groups)} kinds that are not compared with one another: they differ "
        f"in {', '.join(names)}. --mix puts kinds together."
    ]
