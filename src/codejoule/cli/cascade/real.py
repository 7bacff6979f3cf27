"""A policy carried out: each member generates what is its to answer, as an ordinary run."""

import copy
import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from codejoule.analysis import COMPARABLE, Group
from codejoule.cli.cascade.found import Found
from codejoule.cli.cascade.parts import Judge, Parts
from codejoule.cli.cascade.study import SWEEP
from codejoule.common.progress import say
from codejoule.config import UserError
from codejoule.config.schema import ExperimentConfig, OnFinished, Stage, TrackingConfig
from codejoule.config.typed import from_plain
from codejoule.domain import Status, TaskRecord
from codejoule.evaluation import read_sample_file
from codejoule.experiment.compile_caches import keep_compiled_code
from codejoule.experiment.run import RunFailedError, run_name
from codejoule.experiment.run import run as run_experiment
from codejoule.experiment.sweep import SweepRef, check_experiments
from codejoule.suites import load_suite
from codejoule.tracking import RunStatus, Store, prepare_store, read_tasks_parquet


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One member's part."""

    member: str
    """Its name."""
    run_id: str
    """Its run."""
    tasks: int
    """Tasks that it answered."""
    energy_j: float
    """Energy of generation [J]."""
    judging_j: float
    """Energy of judging by the shown tests [J]; 0 where nothing is judged by them, since no member
    follows."""
    validity: str
    """The run's tag ``codejoule.validity``: ``ok``, or doubts in its energy."""
    refused: int | None
    """Tasks whose program fails the shown tests; None where no member follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy showed when it was carried out."""

    run_id: str
    """The parent of its runs."""
    tasks: int
    """Tasks."""
    steps: tuple[Step, ...]
    """Its members' parts, in their order."""
    energy_j: float
    """Energy per task of generation and of judging by the shown tests [J]."""
    pass_at_1: float
    """By the hidden tests."""


def carry_out(
    found: Found, tracking: TrackingConfig, *, describe: Callable[[Found, Outcome], str]
) -> Outcome:
    """Run the policy that is asked for on its tasks, and record what it showed with what `describe`
    says of it. Raises `UserError` where that is not possible, and what a run fails with."""
    policy = found.policies[found.policy]
    experiments = {
        member: _prepared(found.study.configs[member], found.study.shown, tracking)
        for member in policy.members
    }
    check_experiments(list(experiments.values()))
    keep_compiled_code()
    name = found.names[found.policy]
    store = prepare_store(tracking)
    store.close_stale()
    sweep = f"{SWEEP}{datetime.now():%Y-%m-%d_%H-%M-%S}"
    parent = store.start_sweep(
        name, overrides=[], tags={"codejoule.sweep": sweep, "codejoule.policy": name}
    )
    ref = SweepRef(run_id=parent, name=sweep, jobs=None, tracking=tracking)
    status: RunStatus = "FAILED"
    try:
        outcome = _carry_out(found, experiments, store, ref)
        _record(found, outcome, store, note=describe(found, outcome))
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        store.end_sweep(parent, status)
    return outcome


def _carry_out(
    found: Found, experiments: Mapping[int, ExperimentConfig], store: Store, sweep: SweepRef
) -> Outcome:
    study, tasks = found.study, found.run_tasks
    steps: list[Step] = []
    passed: dict[str, bool] = {}
    for chain, own in found.policies[found.policy].chains(study.members, known=found.asked):
        left = [study.task_ids[i] for i in np.flatnonzero(own & tasks)]
        for member in chain:
            if not left:
                break
            say(f"{study.names[member]} answers {len(left)} tasks")
            suite = dataclasses.replace(experiments[member].suite, task_ids=left)
            experiment = dataclasses.replace(experiments[member], suite=suite)
            run_id = _run(experiment, sweep)
            validity = require_alike(study.group, store, run_id)
            answers = _answers(experiment, run_id, store, sweep, judges=member != chain[-1])
            passed |= answers.passed
            left = answers.refused
            steps.append(answers.step(study.names[member], validity))
    total_j = sum(step.energy_j + step.judging_j for step in steps)
    return Outcome(
        run_id=sweep.run_id,
        tasks=len(passed),
        steps=tuple(steps),
        energy_j=total_j / len(passed),
        pass_at_1=sum(passed.values()) / len(passed),
    )


def _prepared(config: Mapping[str, Any], shown: int, tracking: TrackingConfig) -> ExperimentConfig:
    """A member's configuration. It is run although it may have finished before."""
    own = from_plain(copy.deepcopy(dict(config)))
    if own.generation.n_samples > 1:
        raise UserError(
            f"--run: {run_name(own)} draws {own.generation.n_samples} samples of each task, and a "
            "policy gives out one program; run its members with generation.n_samples=1"
        )
    suite = dataclasses.replace(own.suite, limit=None, extends=None, shown_tests=shown)
    return dataclasses.replace(
        own, suite=suite, stage=Stage.all, on_finished=OnFinished.rerun, tracking=tracking
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """What one run answered."""

    run_id: str
    records: Sequence[TaskRecord]
    parts: Mapping[str, Parts] | None
    """By the shown tests; None where nothing is judged by them."""

    @property
    def passed(self) -> dict[str, bool]:
        return {r.task_id: r.verdict == Status.passed.value for r in self.records}

    @property
    def refused(self) -> list[str]:
        return [t for t, part in (self.parts or {}).items() if part.accepted < 1]

    def step(self, member: str, validity: str) -> Step:
        energies_j = [r.energy_j for r in self.records if r.energy_j is not None]
        if len(energies_j) < len(self.records) or any(r.verdict is None for r in self.records):
            raise UserError(
                f"run {self.run_id} has tasks without energy or verdict, so what the policy shows "
                "is not known; see its tags and its log for why, and carry the policy out again"
            )
        judging_j = [part.judging_j for part in (self.parts or {}).values()]
        return Step(
            member=member,
            run_id=self.run_id,
            tasks=len(self.records),
            energy_j=sum(energies_j),
            # One that was too short to be metered counts with the mean of the others.
            judging_j=float(np.nanmean(judging_j) * len(judging_j)) if judging_j else 0.0,
            validity=validity,
            refused=None if self.parts is None else len(self.refused),
        )


def _run(experiment: ExperimentConfig, sweep: SweepRef) -> str:
    try:
        run_id = run_experiment(experiment, sweep=sweep).run_id
    except RunFailedError as error:
        raise error.__cause__ or error from None
    assert run_id is not None
    return run_id


def require_alike(group: Group, store: Store, run_id: str) -> str:
    """The doubts in a run's energy, as its tag has them; `UserError` where it cannot be compared
    with that of the runs of `group`."""
    run = store.read(run_id)
    assert run is not None, "it has just finished"
    for name in ("energy source", "energy scope", "GPU"):
        before = group.facts.get(name, "none")
        now = run.tags.get(COMPARABLE[name].removeprefix("tags."), "none")
        if now != before and name not in group.mixed:
            raise UserError(
                f"run {run_id} differs in {name} from the runs that the policy was found from "
                f"({now}, and not {before}), so that its energy says nothing of the prediction; "
                "carry the policy out where those were made"
            )
    return run.tags.get("codejoule.validity", "ok")


def _answers(
    experiment: ExperimentConfig, run_id: str, store: Store, sweep: SweepRef, *, judges: bool
) -> _Answers:
    """What a run answered, its programs judged by the shown tests where another member follows."""
    with tempfile.TemporaryDirectory() as scratch:
        table, programs = (
            store.fetch_artifact(run_id, name, Path(scratch))
            for name in ("tasks.parquet", "samples.jsonl")
        )
        assert table is not None and programs is not None, "a finished run has both"
        records, rows = read_tasks_parquet(table), read_sample_file(programs)
        parts = None
        if judges:
            suite = load_suite(experiment.suite)
            judge = Judge(experiment=experiment, suite=suite, tracking=sweep.tracking)
            parts = judge.parts(run_id, records, rows, split=True)
    return _Answers(run_id=run_id, records=records, parts=parts)


def _record(found: Found, outcome: Outcome, store: Store, *, note: str) -> None:
    """Log the policy's figures in the parent run, and `note` as its description."""
    own = found.prediction
    metrics = {
        "tasks": outcome.tasks,
        "pass_at_1": outcome.pass_at_1,
        "energy_generation_j": sum(step.energy_j for step in outcome.steps),
        "energy_shown_tests_j": sum(step.judging_j for step in outcome.steps),
        "energy_policy_per_task_j": outcome.energy_j,
        "predicted_energy_policy_per_task_j": own.energy_j,
        "predicted_energy_policy_per_task_low_j": own.energy_low_j,
        "predicted_energy_policy_per_task_high_j": own.energy_high_j,
        "predicted_pass_at_1": own.pass_at_1,
        "predicted_pass_at_1_low": own.pass_at_1_low,
        "predicted_pass_at_1_high": own.pass_at_1_high,
    }
    facts = found.study.group.facts
    tags = {
        f"codejoule.{tag}": facts[name]
        for tag, name in (("energy_source", "energy source"), ("energy_scope", "energy scope"))
        if name in facts
    }
    store.describe_sweep(outcome.run_id, note=note, metrics=metrics, tags=tags)
