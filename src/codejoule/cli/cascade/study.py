"""The members of policies: configurations of a store, and what each does with each task."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from codejoule.analysis import (
    Evidence,
    Group,
    LoadedRuns,
    comparable_groups,
    differing,
    gather,
    read_tasks,
)
from codejoule.analysis.families import short_names
from codejoule.analysis.store import artifacts
from codejoule.cli.cascade.parts import Judge, Parts
from codejoule.cli.evaluate.stored import for_judging
from codejoule.common.progress import doing
from codejoule.config import UserError
from codejoule.config.schema import ExperimentConfig, Split, TrackingConfig
from codejoule.config.typed import from_plain
from codejoule.domain import Suite, Task
from codejoule.evaluation import read_sample_file
from codejoule.statistics import (
    REPEATS,
    RunVariance,
    moderated_variance,
    reference_variance,
)
from codejoule.statistics.policies import Members
from codejoule.suites import load_suite
from codejoule.tracking import read_tasks_parquet

if TYPE_CHECKING:
    import pandas as pd

MOST = 8
"""Configurations that policies are made of at most: of 8 there are 400 cascades."""
FEWEST_CLUSTERS = 8
"""With fewer separately metered groups of tasks, resampling says nothing about uncertainty."""
SWEEP = "cascade-"
"""Beginning of the tag ``codejoule.sweep`` of the runs that a policy was carried out with."""
SHOWN = 1
"""Tests of each task that are shown where neither the runs nor the user say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Configurations that answered the same tasks."""

    group: Group
    """Their runs, which can be compared."""
    names: tuple[str, ...]
    """Short name of each configuration."""
    configs: tuple[Mapping[str, Any], ...]
    """The configuration that each was run with."""
    members: Members
    """What each does with each task."""
    task_ids: tuple[str, ...]
    """The tasks."""
    features: Mapping[str, NDArray[np.int64]]
    """What tells groups of tasks apart before anything is generated, by name."""
    labels: NDArray[np.int64]
    """Cluster of each task: those that shared an accounting window in some run."""
    variance: RunVariance
    """How much the energy of runs differs."""
    runs: int
    """Runs of the configuration that has fewest."""
    shown: int
    """Tests of each task that are shown."""
    whole: int
    """Tasks whose tests do not come apart: no program of theirs is refused."""
    unmetered: int
    """Programs whose judging by the shown tests was too short to be metered; they count with the
    mean of the others."""


def comparable(loaded: LoadedRuns, *, mix: Collection[str]) -> Group:
    """The runs of `loaded` as one group; raises `UserError` where they are of several kinds, or
    their pass@1 means nothing. Runs that a policy was carried out with are no members."""
    frame = loaded.frame
    if "tags.codejoule.sweep" in frame:
        own = frame["tags.codejoule.sweep"].fillna("").astype(str).str.startswith(SWEEP)
        frame = frame[~own].reset_index(drop=True)
    if frame.empty:
        left_out = f" (left out: {'; '.join(loaded.left_out)})" if loaded.left_out else ""
        raise UserError(
            f"experiment {loaded.experiment!r} in {loaded.uri} has no finished runs to make "
            f"policies of{left_out}; run two or more configurations on the same tasks first"
        )
    groups = comparable_groups(frame, mix=mix)
    if len(groups) > 1:
        raise UserError(
            "a policy needs runs that can be compared with one another, and these differ in "
            f"{differing(groups)}; narrow them with --where or --sweep, or allow it with --mix"
        )
    (group,) = groups
    if group.random or group.published:
        what = "random weights" if group.random else "published figures"
        raise UserError(
            f"these runs are of {what}, whose programs cannot be judged; choose others with --where"
        )
    return group


def study(
    loaded: LoadedRuns, tracking: TrackingConfig, *, shown: int | None, mix: Collection[str]
) -> Study:
    """Read the runs of `loaded`, and judge their programs by the shown and the hidden tests as far
    as that is not known. `shown` is the number of shown tests where the runs do not say it. Raises
    `UserError` for runs that no policy can be made of."""
    group = comparable(loaded, mix=mix)
    doing("reading the figures of tasks")
    figures, _ = read_tasks(group.frame, uri=loaded.uri)
    evidence = gather(group.frame, figures, mix=mix, variances=loaded.variances)
    count = len(evidence.labels)
    if not 2 <= count <= MOST:
        raise UserError(
            f"policies are made of 2 to {MOST} configurations, and these runs are of {count}: "
            f"{', '.join(evidence.labels)}; choose with --where or --sweep"
        )
    if not evidence.complete.all():
        raise UserError(
            "the energy of some tasks is not known in every run; choose runs that metered every "
            "task (tasks.parquet, energy_j)"
        )
    everyone = range(count)
    labels = evidence.clusters(everyone, np.ones(len(figures.task_ids), dtype=bool))
    judged, configs, suite = _judged(evidence, group.frame, loaded.uri, tracking, shown)
    members, unmetered = _members(evidence, judged)
    table, asked = evidence.table, from_plain(for_judging(configs[0])).suite
    return Study(
        group=group,
        names=_names(evidence),
        configs=configs,
        members=members,
        task_ids=figures.task_ids,
        features=_features(suite, figures.task_ids, asked.split),
        labels=labels,
        variance=_variance(evidence),
        runs=int(table["runs"].min()),
        shown=asked.shown_tests or shown or SHOWN,
        whole=sum(not task.shown_test for task in suite.tasks),
        unmetered=unmetered,
    )


def _variance(evidence: Evidence) -> RunVariance:
    """How much the energy of runs differs: by repeats in the store, moderated by what was measured
    elsewhere, because two runs in a row that agree say little of the next day's."""
    found = evidence.variance(*range(len(evidence.labels)))
    assert found is not None, "published figures are refused before"
    if found.source != REPEATS:
        return found
    references = [reference_variance(engine, source) for engine, source, _ in evidence.apparatus]
    return moderated_variance(found, max(references, key=lambda own: own.sd_log))


def _names(evidence: Evidence) -> tuple[str, ...]:
    """Short names, without the facts that were mixed on purpose where they are not needed."""
    settings = [name for name in evidence.settings if not name.startswith("mixed.")]
    names = short_names(evidence.table, settings)
    if len(set(names)) < len(names):
        names = short_names(evidence.table, evidence.settings)
    return tuple(names)


def _judged(
    evidence: Evidence,
    frame: "pd.DataFrame",
    uri: str,
    tracking: TrackingConfig,
    shown: int | None,
) -> tuple[dict[str, dict[str, Parts]], tuple[dict[str, Any], ...], Suite]:
    """What the parts of the tests say of each run's programs, by run and task; the configuration
    of each member; and the suite."""
    judged: dict[str, dict[str, Parts]] = {}
    members = []
    digest = str(frame["dataset_digest"].iloc[0])
    with (
        artifacts(frame, "config.yaml", uri=uri) as configs,
        artifacts(frame, "tasks.parquet", uri=uri) as tables,
        artifacts(frame, "samples.jsonl", uri=uri) as samples,
    ):
        for label, run_ids in zip(evidence.labels, evidence.table["run_ids"], strict=True):
            for run_id in run_ids:
                config, table, programs = (find(run_id) for find in (configs, tables, samples))
                if config is None or table is None or programs is None:
                    raise UserError(
                        f"run {run_id} lacks config.yaml, tasks.parquet or samples.jsonl, without "
                        "which its programs cannot be judged by shown tests; leave it out with "
                        "--where"
                    )
                plain = yaml.safe_load(config.read_text(encoding="utf-8"))
                if run_id == run_ids[0]:
                    members.append(plain)
                asked = from_plain(for_judging(plain))
                suite = _suite(run_id, asked, shown, digest)
                doing("judging by shown and hidden tests", label)
                judge = Judge(experiment=asked, suite=suite, tracking=tracking)
                judged[run_id] = judge.parts(
                    run_id, read_tasks_parquet(table), read_sample_file(programs),
                    split=asked.suite.shown_tests is not None,
                )  # fmt: skip
    return judged, tuple(members), suite


def _suite(run_id: str, asked: ExperimentConfig, shown: int | None, digest: str) -> Suite:
    """The run's tasks, their tests in two parts."""
    own = asked.suite.shown_tests
    if own is not None and shown not in (None, own):
        raise UserError(
            f"--shown {shown}: run {run_id} was made with suite.shown_tests={own}, and its verdict "
            "is by the other tests; leave --shown out"
        )
    suite = load_suite(asked.suite)
    if not suite.checksum.startswith(digest):
        raise UserError(
            f"run {run_id} answered other tasks than {suite.source} has here; put the file that it "
            "was made with there"
        )
    if own is not None:
        return suite
    parted = load_suite(dataclasses.replace(asked.suite, shown_tests=shown or SHOWN))
    pairs = zip(suite.tasks, parted.tasks, strict=True)
    if any(prompt(a, asked.suite.split) != prompt(b, asked.suite.split) for a, b in pairs):
        raise UserError(
            f"run {run_id}: the prompts of suite {suite.name} hold tests, so its models have seen "
            f"the hidden ones; run them with suite.shown_tests={shown or SHOWN}"
        )
    return parted


def _members(evidence: Evidence, judged: Mapping[str, Mapping[str, Parts]]) -> tuple[Members, int]:
    """Means over the runs of each configuration, and how many programs' judging was not metered."""
    rows: dict[str, list[NDArray[np.float64]]] = {}
    unmetered = 0
    for own_j, run_ids in zip(evidence.energy_j, evidence.table["run_ids"], strict=True):
        found = [[judged[run_id][task] for task in evidence.figures.task_ids] for run_id in run_ids]
        samples = np.array([[part.samples for part in run] for run in found])
        own = {"energy_j": own_j / samples}
        for name in ("judging_j", "accepted", "solved", "accepted_solved"):
            own[name] = np.array([[getattr(part, name) for part in run] for run in found])
        unknown = np.isnan(own["judging_j"])
        if unknown.all():
            raise UserError(
                f"run {run_ids[0]}: the energy of judging by the shown tests is not known (the "
                "CPU's counter did not tick); run codejoule cascade on a machine whose counter "
                "works (codejoule doctor)"
            )
        unmetered += int(samples[unknown].sum())
        own["judging_j"][unknown] = own["judging_j"][~unknown].mean()
        for name, values in own.items():
            rows.setdefault(name, []).append(values.mean(axis=0))
    return Members(**{name: np.array(values) for name, values in rows.items()}), unmetered


def _features(suite: Suite, task_ids: Sequence[str], split: Split) -> dict[str, NDArray[np.int64]]:
    """Groups of tasks by their domains, and by the quarters of the length of their prompts."""
    tasks = {task.task_id: task for task in suite.tasks}
    ordered = [tasks[task_id] for task_id in task_ids]
    lengths = np.array([len(prompt(task, split)) for task in ordered])
    _, domains = np.unique(["+".join(sorted(t.domains)) for t in ordered], return_inverse=True)
    quarters = np.digitize(lengths, np.quantile(lengths, [0.25, 0.5, 0.75]))
    return {
        "domain": np.asarray(domains, dtype=np.int64),
        "prompt length": np.asarray(quarters, dtype=np.int64),
    }


def prompt(task: Task, split: Split) -> str:
    """What the task says of itself to a model."""
    return task.complete_prompt if split is Split.complete else task.instruct_prompt
