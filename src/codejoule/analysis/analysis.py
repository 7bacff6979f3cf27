"""Everything that an analysis says of a set of runs, as one structure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from codejoule.analysis.answer import Answer, answer
from codejoule.analysis.baseline import baseline_notes
from codejoule.analysis.comparison import Group, comparable_groups
from codejoule.analysis.evidence import Evidence, gather
from codejoule.analysis.findings import findings
from codejoule.analysis.finetuning import NAME as FINETUNING
from codejoule.analysis.finetuning import Trained, finetuning_table, training_notes
from codejoule.analysis.goal import Goal
from codejoule.analysis.runs import LoadedRuns
from codejoule.analysis.store import artifacts
from codejoule.analysis.table import Table
from codejoule.analysis.tables import make_tables
from codejoule.analysis.tasks import TaskFigures, read_tasks
from codejoule.analysis.variances import Apparatus
from codejoule.domain import SCHEMA_VERSION
from codejoule.statistics import MARGIN, Method, Resampler, RunVariance

if TYPE_CHECKING:
    import pandas as pd

_REASON = "tags.codejoule.not_predicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to analyse."""

    margin: float = MARGIN
    """Loss of pass@1 up to which "no loss" is said."""
    goal: Goal = field(default_factory=Goal)
    """What the chosen configuration has to reach."""
    mix: Collection[str] = ()
    """Facts in which runs of one table may differ, by the names of `COMPARABLE`."""
    seed: int = 0
    """Seed of the bootstraps: the same runs give the same figures."""
    statistics: Collection[str] | None = None
    """Only these tables, and no findings; everything where it is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAnalysis:
    """One group of comparable runs, analysed."""

    group: Group
    """The runs."""
    evidence: Evidence
    """Configurations and their figures of tasks."""
    tables: dict[str, Table]
    """By name; see docs/reference/analysis.md."""
    findings: tuple[str, ...]
    """What the tables say, in sentences."""
    answer: Answer
    """Answer to the goal."""
    notes: tuple[str, ...] = ()
    """What each quantized configuration saves, costs and changes against the unquantized one."""

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
            "answer": self.answer.as_json(),
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
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        facts["groups"] = [group.as_json() for group in self.groups]
        return {"schema_version": SCHEMA_VERSION} | facts


def analyse(loaded: LoadedRuns, options: Options | None = None) -> Analysis:
    """Analyse runs, each group of comparable ones by itself.

    Raises `UserError` if the store fails.
    """
    options = options or Options()
    if loaded.frame.empty:  # only adapters were trained
        return Analysis(
            experiment=loaded.experiment,
            uri=loaded.uri,
            runs=0,
            left_out=loaded.left_out,
            notes=training_notes(loaded.trained, ()),
            groups=(),
        )
    figures, unread = read_tasks(loaded.frame, uri=loaded.uri)
    groups = comparable_groups(loaded.frame, mix=options.mix)
    analysed = [
        analyse_group(group, figures, options, loaded.variances, loaded.trained) for group in groups
    ]
    tuned = [a.tables[FINETUNING] for a in analysed if FINETUNING in a.tables]
    with artifacts(loaded.frame, "samples.jsonl", uri=loaded.uri) as find:
        notes = [
            baseline_notes(
                a.group.frame,
                a.evidence,
                None if a.group.published else a.tables.get("accuracy_pairs"),
                find,
            )
            for a in analysed
        ]
    return Analysis(
        experiment=loaded.experiment,
        uri=loaded.uri,
        runs=len(loaded.frame),
        left_out=loaded.left_out,
        notes=(
            *training_notes(loaded.trained, tuned),
            *unread,
            *_apart(groups),
            *_not_predicted(loaded.frame),
        ),
        groups=tuple(replace(a, notes=own) for a, own in zip(analysed, notes, strict=True)),
    )


def analyse_group(
    group: Group,
    figures: TaskFigures,
    options: Options,
    variances: Mapping[Apparatus, RunVariance] | None = None,
    trained: Trained = (),
) -> GroupAnalysis:
    """Analyse one group; `figures` may hold further runs, `variances` are of the whole store, and
    `trained` are the runs that trained the adapters with which some may run.

    With random weights nothing that rests on pass@1 is said.
    """
    resampler = Resampler(rng=np.random.default_rng(options.seed))
    method = Method(margin=options.margin, resampler=resampler)
    evidence = gather(group.frame, figures, mix=options.mix, variances=variances)
    tables = make_tables(evidence, method, names=options.statistics, accuracy=not group.random)
    said = () if options.statistics is not None else findings(evidence, tables)
    found = answer(evidence, options.goal, resampler=resampler, margin=options.margin)
    tuned = finetuning_table(evidence, trained, resampler)
    if tuned is not None:
        tables[FINETUNING] = tuned
    if options.statistics is None:
        tables["candidates"] = found.candidates
    if group.random:
        tables = {name: table.without_accuracy() for name, table in tables.items()}
    return GroupAnalysis(group=group, evidence=evidence, tables=tables, findings=said, answer=found)


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


def _not_predicted(frame: "pd.DataFrame") -> list[str]:
    """Say of which published figures there is no prediction, and why."""
    if _REASON not in frame:
        return []
    counts = frame[_REASON].dropna().value_counts(sort=False)
    return [
        f"Nothing is predicted of {count} published {'figure' if count == 1 else 'figures'}: "
        f"{reason}."
        for reason, count in counts.items()
    ]
