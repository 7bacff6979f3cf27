"""Judging a run whose samples are in the store: after it generated, on any machine that reaches
the store."""

import dataclasses
import json
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra.core.hydra_config import HydraConfig

from codejoule.common.packed import Packed
from codejoule.common.progress import doing
from codejoule.config import ConfigError, UserError, program, write_whole
from codejoule.config.relevance import flat, in_use, is_relevant
from codejoule.config.schema import EvaluatorName, ExperimentConfig, OnFinished
from codejoule.config.typed import to_plain
from codejoule.domain import (
    EnergySource,
    JudgedSample,
    Status,
    Suite,
    TaskRecord,
)
from codejoule.domain.metrics import judged_metrics
from codejoule.evaluation import (
    GroundTruth,
    RecordedVerdict,
    Sample,
    Submission,
    each_sample_in,
    read_eval_results,
    setting_identity,
    with_python,
)
from codejoule.experiment.artifacts import IDENTITY, write_json, write_judged, write_task_table
from codejoule.experiment.evaluation_stage import (
    Bench,
    check_canonical,
    judge_missing,
    known_ground_truth,
)
from codejoule.experiment.identity import configuration, environment, fingerprint
from codejoule.experiment.plan import judging_facts
from codejoule.experiment.records import Judgement, read_judgement, with_verdicts
from codejoule.experiment.results import footprint, headline, judging_tags
from codejoule.measurement import Hardware, detect_hardware
from codejoule.suites import load_suite
from codejoule.tracking import (
    FINGERPRINT,
    GENERATED_AS,
    JUDGED,
    STAGE,
    Journal,
    Lease,
    Store,
    StoredRun,
    as_text,
    guarded,
    read_tasks_parquet,
    spread,
    write_tasks_parquet,
)
from codejoule.tracking.entries import Judged

_JUDGED_METRICS = (
    "pass_at_", "tasks_valid", "energy_evaluation_", "energy_total_", "energy_per_solved_",
    "carbon_", "energy_cost",
)  # fmt: skip
"""How the metrics begin that need verdicts or the energy of judging."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Generated:
    """What a run has left in the store."""

    run: StoredRun
    """Its tags, params and metrics."""
    identity: Mapping[str, Any]
    """What its fingerprint is the hash of."""
    config: Mapping[str, Any]
    """Its configuration."""
    records: Sequence[TaskRecord]
    """Its samples in the order of the requests."""
    samples: Path
    """The file of their programs."""
    verdicts: Sequence[JudgedSample]
    """The verdicts that there are."""

    @property
    def judged(self) -> bool:
        """Whether every sample has a verdict."""
        return len(self.verdicts) == len(self.records)


def judge_configured(
    store: Store, experiment: ExperimentConfig, *, folder_of: Callable[[str], Path]
) -> tuple[str, tuple[str, ...] | None]:
    """Judge every run of this configuration that has generated and has samples without a verdict;
    with ``on_finished=rerun`` all of them. The id of the latest, and its figures, which are None
    where all had been judged before. `folder_of` says where the journal of a name lies. Raises
    `UserError` where no such run has generated, and as `judge_run` does."""
    runs = store.find_configured(configuration(experiment))
    if not runs:
        _check_answers(store)
        raise UserError(
            f"stage=evaluate: no run of this configuration has generated in {store.uri}, "
            f"experiment {store.experiment}; make it with {_command()}"
        )
    again = experiment.on_finished is OnFinished.rerun
    todo = [run for run in runs if again or "pass_at_1" not in run.metrics]
    figures = None
    for run in reversed(todo):
        figures = judge_run(store, run.run_id, experiment, folder_of=folder_of, again=again)
    return (todo or runs)[0].run_id, figures


def _check_answers(store: Store) -> None:
    """Raises `UserError` where nobody can say what has generated."""
    if store.away:
        assert store.outbox is not None
        raise UserError(
            f"the tracking server {store.outbox.server} does not answer, which has the samples "
            "that are to be judged; start the same command again when it does"
        )


def _command() -> str:
    """The command that generates what this one is to judge."""
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else ["..."]
    kept = [text for text in given if text.partition("=")[0].lstrip("+") != "stage"]
    return shlex.join([program(), "run", *kept, "stage=generate"])


def judge_run(
    store: Store,
    run_id: str,
    experiment: ExperimentConfig,
    *,
    folder_of: Callable[[str], Path],
    again: bool = False,
) -> tuple[str, ...]:
    """Judge the samples of a finished run that have no verdict, from its artifacts, and record
    verdicts, pass@k and the energy of judging in it. `experiment` is the run's configuration,
    ``evaluator`` and ``meter`` being this machine's. Verdicts are kept on this machine as they
    come: a judging that was broken off is continued. With `again` all samples are judged. Its
    figures in words.

    Raises `UserError` for a run that is not there, has not generated, is judged already, or has
    other tasks than are found here; and where judging gives less than the run has already.
    """
    doing(f"reading run {run_id}")
    scratch = folder_of(f"judging-{run_id}")
    with Lease(scratch, lease_s=experiment.tracking.lease_s, wait=False) as lease:
        try:
            found = _read(store, run_id, scratch / "downloads")
            if found.judged and not again:
                raise UserError(
                    f"run {run_id} is judged already; judge all its samples again with --again "
                    "(stage=evaluate: on_finished=rerun)"
                )
            suite = _suite(experiment, found)
            evaluator = with_python(experiment.evaluator, suite.tasks)
            experiment = dataclasses.replace(experiment, evaluator=evaluator)
            bench = Bench(
                name=found.run.name,
                tasks=suite.tasks,
                evaluator=evaluator,
                meter=experiment.meter,
                timeout_s=evaluator.timeout_s or suite.timeout_s,
            )
            setting = setting_identity(evaluator, timeout_s=bench.timeout_s)
            # Verdicts of another setting are no part of these.
            folder = scratch / (f"again-{setting}" if again else setting)
            _check_settings(found, experiment)
            hardware = detect_hardware()
            with guarded(folder, lease.check):
                samples = _samples(found, bench, folder)
                judgement = _judge(found, samples, bench, folder, hardware, keep=not again)
            lease.check()
            record = _Record(found, samples, experiment, suite, bench, judgement, hardware)
            figures = record.log(store, folder / "artifacts")
        finally:
            shutil.rmtree(scratch / "downloads", ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
    return figures


def _read(store: Store, run_id: str, folder: Path) -> _Generated:
    outbox = store.outbox
    waiting = None if outbox is None else outbox.waiting(outbox.canonical(run_id))
    if outbox is not None and waiting is not None and not waiting.whole:
        raise UserError(
            f"run {run_id} is on the tracking server, but for a part that waits in {outbox.folder} "
            f"since it did not answer: {outbox.command} uploads it; then start the same command "
            "again"
        )
    run = store.read(run_id)
    if run is None or run.tags.get("codejoule.kind") != "run":
        _check_answers(store)
        raise UserError(
            f"run {run_id}: no run of codejoule's with this id in {store.uri}, experiment "
            f"{store.experiment}"
        )
    if run.status != "FINISHED":
        raise UserError(
            f"run {run_id} has not finished ({run.status}): its samples are in the store once it "
            "has; start the command that made it again"
        )
    if run.params.get("evaluator.name") == EvaluatorName.none.name:
        raise UserError(
            f"run {run_id} was made with evaluator=none, which is part of what it is known by: "
            "judge its samples.jsonl by themselves (codejoule evaluate --samples), or generate "
            "with stage=generate"
        )
    if run.params.get("generation.rounds", "1") != "1":
        raise UserError(
            f"run {run_id} has repair rounds (generation.rounds="
            f"{run.params['generation.rounds']}), each of which was judged before the next: judge "
            "the programs of its last rounds, its samples.jsonl, by themselves (codejoule evaluate "
            "--samples), or run it anew (on_finished=rerun)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    names = (IDENTITY, "config.yaml", "tasks.parquet", "samples.jsonl")
    facts, config, table, samples = (_fetch(store, run_id, name, folder) for name in names)
    records = read_tasks_parquet(table)
    pairs = zip_longest(records, each_sample_in(samples))
    if any(None in pair or pair[0].task_id != pair[1].task_id for pair in pairs):
        raise UserError(
            f"run {run_id}: its samples.jsonl and tasks.parquet do not list the same samples; "
            "generate it anew (on_finished=rerun)"
        )
    verdicts: list[JudgedSample] = []
    if any(record.verdict is not None for record in records):
        results = read_eval_results(_fetch(store, run_id, "eval_results.json", folder))
        verdicts = _verdicts(records, results)
    return _Generated(
        run=run,
        identity=json.loads(facts.read_text(encoding="utf-8")),
        config=yaml.safe_load(config.read_text(encoding="utf-8")),
        records=records,
        samples=samples,
        verdicts=verdicts,
    )


def _fetch(store: Store, run_id: str, name: str, folder: Path) -> Path:
    path = store.fetch_artifact(run_id, name, folder)
    if path is None:
        raise UserError(
            f"run {run_id} has no artifact {name}: an earlier version of codejoule made it, or it "
            "was deleted; judge its samples.jsonl by themselves (codejoule evaluate --samples)"
        )
    return path


def _verdicts(
    records: Sequence[TaskRecord], results: Sequence[RecordedVerdict]
) -> list[JudgedSample]:
    """The verdicts that a run has: times and energy from its table, the rest from its results."""
    recorded = {(one.task_id, one.sample): one for one in results}
    found = []
    for record in records:
        if record.verdict is None or record.evaluation_s is None:
            continue
        one = recorded[record.task_id, record.sample]
        found.append(
            JudgedSample(
                task_id=record.task_id,
                sample=record.sample,
                status=one.status,
                reason=one.reason or one.status.value,
                details=one.details,
                evaluation_s=record.evaluation_s,
                evaluation_cpu_s=record.evaluation_cpu_s or 0.0,
                base=None if record.verdict_plus is None else Status(record.verdict),
                energy_j=record.evaluation_energy_j,
            )
        )
    return found


def _suite(experiment: ExperimentConfig, found: _Generated) -> Suite:
    suite = load_suite(experiment.suite)
    if suite.checksum != found.identity["found"]["tasks"]:
        raise UserError(
            f"run {found.run.run_id} answered other tasks than {suite.source} has here "
            f"({len(suite.tasks)} tasks, SHA-256 {suite.checksum[:12]}): give the file that it was "
            "made with (suite.path, --suite)"
        )
    return suite


def _check_settings(found: _Generated, experiment: ExperimentConfig) -> None:
    """Refuse another value of a setting that the run has recorded as a param."""
    for key, value in _judging_params(experiment).items():
        recorded = found.run.params.get(key, value)
        if recorded != value:
            raise ConfigError(
                f"{key}={value}: run {found.run.run_id} was made with {recorded}, and MLflow's "
                "params cannot change; judge its samples.jsonl by themselves (codejoule evaluate "
                "--samples)"
            )


def _judging_params(experiment: ExperimentConfig) -> dict[str, str]:
    """The settings of judging as MLflow's params have them."""
    return {
        key: as_text(value)
        for key, value in in_use(flat(to_plain(experiment))).items()
        # A path may be another on each machine; the identity has what is there.
        if key.startswith("evaluator.") and is_relevant(key) and key != "evaluator.python"
    }


def _samples(found: _Generated, bench: Bench, folder: Path) -> Sequence[Sample]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = zip(found.records, each_sample_in(found.samples), strict=True)
    solutions = ((one.task_id, one.sample, row.program_after("")) for one, row in rows)
    return Submission({task.task_id: task for task in bench.tasks}, solutions, folder)


def _judge(
    found: _Generated,
    samples: Sequence[Sample],
    bench: Bench,
    folder: Path,
    hardware: Hardware,
    *,
    keep: bool,
) -> Judgement:
    """Judge what the journal in `folder` has no verdict of; with `keep` it begins with those that
    the run has."""
    tags = found.run.tags
    with Journal(folder) as journal:
        if keep and found.verdicts and not journal.entries(Judged):
            source = tags.get("codejoule.energy_source_evaluation")
            if source is None:
                raise UserError(
                    f"run {found.run.run_id}: how the energy of its verdicts was obtained is not "
                    "known; judge all of it again (--again)"
                )
            journal.append(
                Judged(
                    source=EnergySource(source),
                    verdicts=tuple(found.verdicts),
                    host=tags.get("codejoule.host_evaluation", tags.get("codejoule.host")),
                    cpu=tags.get("codejoule.cpu_evaluation"),
                )
            )
        judge_missing(samples, journal, bench, hardware=hardware)
        check_canonical(bench, hardware=hardware)
        return read_judgement(journal)


@dataclass(frozen=True, slots=True)
class _Record:
    """What is recorded of a run that has been judged."""

    found: _Generated
    samples: Sequence[Sample]
    experiment: ExperimentConfig
    suite: Suite
    bench: Bench
    judgement: Judgement
    hardware: Hardware

    def log(self, store: Store, folder: Path) -> tuple[str, ...]:
        """Record it, and make the artifacts in `folder`; the run's figures in words."""
        doing("recording the verdicts")
        run, verdicts = self.found.run, self.judgement.verdicts
        records = Packed(TaskRecord, with_verdicts(self.found.records, verdicts))
        truth = known_ground_truth(self.bench)
        metrics = self._metrics(records, truth)
        identity = self._identity()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_tasks_parquet(records, folder / "tasks.parquet")
        write_task_table(records, self.samples, folder)
        write_judged(self.experiment, self.suite, self.bench, folder, verdicts, self.samples, truth)
        if self.judgement.sandbox is not None:
            write_json(folder / "sandbox.json", self.judgement.sandbox.facts)
        write_json(folder / "environment_evaluation.json", environment(self.hardware))
        write_json(folder / IDENTITY, identity)
        config = {**self.found.config, "evaluator": to_plain(self.experiment)["evaluator"]}
        write_whole(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        now = store.read(run.run_id)
        if now is None or now.tags.get(STAGE) != run.tags.get(STAGE):
            raise UserError(
                f"run {run.run_id} was judged or deleted by another process meanwhile, so that "
                "these verdicts are not recorded"
            )
        tracked = store.track(run.run_id)
        new = {k: v for k, v in _judging_params(self.experiment).items() if k not in run.params}
        tracked.log(metrics=metrics, params=new, artifacts=sorted(folder.iterdir()))
        tracked.judge_traces(spread(records, self.experiment.tracking.traces))
        # Last: a run that says so has everything.
        tracked.log(tags=self._tags(identity))
        source = EnergySource(run.tags["codejoule.energy_source"])
        return headline({**run.metrics, **metrics}, source)

    def _metrics(
        self, records: Sequence[TaskRecord], truth: GroundTruth | None
    ) -> dict[str, float]:
        run = self.found.run
        metrics = judged_metrics(
            records,
            energy_generation_j=run.metrics.get("energy_generation_j"),
            energy_evaluation_j=self.judgement.verdicts.energy_j,
            valid_tasks=None if truth is None else truth.valid,
            rng=np.random.default_rng(0),
        )
        metrics |= footprint(self.experiment, metrics.get("energy_total_kwh"))
        known = {name for name in run.metrics if name.startswith(_JUDGED_METRICS)}
        if lost := sorted(known - metrics.keys()):
            unjudged = sum(record.verdict is None for record in records)
            why = (
                f"{unjudged} samples could not be judged here"
                if unjudged
                else "the energy of judging is not known"
                if self.judgement.source is None
                else "the canonical solutions were not judged here (evaluator.ground_truth=true, "
                "--ground-truth)"
            )
            raise UserError(
                f"run {run.run_id} keeps the verdicts that it has, since MLflow's metrics cannot "
                f"be withdrawn: it has {', '.join(lost)}, which these verdicts do not give: {why}"
            )
        return metrics

    def _identity(self) -> dict[str, Any]:
        """What the run is known by, with what this machine made of the evaluator's settings."""
        before = self.found.identity
        here = json.loads(json.dumps(judging_facts(self.bench.evaluator, self.suite)))
        own = {
            key: value
            for key, value in flat(to_plain(self.experiment)).items()
            if key.startswith("evaluator.") and is_relevant(key) and key not in here
        }
        return {
            **before,
            "asked": {**before["asked"], **own},
            "found": {**before["found"], **here},
        }

    def _tags(self, identity: Mapping[str, Any]) -> dict[str, str]:
        run = self.found.run
        tags = judging_tags(self.judgement) | {STAGE: JUDGED}
        if (now := fingerprint(identity)) != run.tags[FINGERPRINT]:
            # It is found by both: nothing is generated twice.
            tags |= {GENERATED_AS: run.tags.get(GENERATED_AS, run.tags[FINGERPRINT])}
            tags |= {FINGERPRINT: now}
        if jobs := sorted(frozenset().union(*self.judgement.concurrent)):
            # No doubt about the run's energy of generation, which was measured before.
            tags["codejoule.concurrent_evaluation"] = "; ".join(jobs)
        return tags
