"""One job of Hydra's, and its run, start to finish: plan, generation, verdicts, results, each
recorded in MLflow."""

import dataclasses
import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from codejoule.common.display import Display, displayed
from codejoule.common.progress import doing, say, watcher
from codejoule.config import UserError, write_whole
from codejoule.config.explain import explain
from codejoule.config.extras import require_job_libraries
from codejoule.config.relevance import flat, in_use
from codejoule.config.schema import (
    BUNDLED_SUITES,
    EngineConfig,
    EvaluatorName,
    ExperimentConfig,
    OnFinished,
    ProgressMode,
    Stage,
    TrackingConfig,
    TrackingName,
)
from codejoule.config.typed import to_experiment, to_plain
from codejoule.domain import SCHEMA_VERSION
from codejoule.domain.text import duration
from codejoule.experiment import stopping
from codejoule.experiment.assignment import on_free_devices
from codejoule.experiment.compile_caches import keep_compiled_code
from codejoule.experiment.evaluation_stage import evaluate
from codejoule.experiment.finetune_results import KIND, log_finetuning
from codejoule.experiment.generation_stage import has_generated
from codejoule.experiment.identity import git_commit
from codejoule.experiment.isolation import generate_isolated
from codejoule.experiment.job_log import log_file, output_in
from codejoule.experiment.judging import judge_configured, judge_run
from codejoule.experiment.kept_journal import (
    RUN_ID,
    recorded_run,
    release_journal,
    unpack_journal,
)
from codejoule.experiment.other_gpu import (
    begun_elsewhere,
    forget_gpu,
    note_gpu,
    refuse_other_gpu,
)
from codejoule.experiment.plan import Plan, check_model, make_plan
from codejoule.experiment.results import headline, log_results
from codejoule.experiment.schedule import schedule_here
from codejoule.experiment.sweep import (
    Outcome,
    State,
    Summary,
    SweepRef,
    current_sweep,
)
from codejoule.tracking import (
    CONFIGURATION,
    FINGERPRINT,
    Journal,
    Lease,
    RunStatus,
    Store,
    TrackedRun,
    detach,
    guarded,
    is_owned,
    prepare_store,
)
from codejoule.tracking.entries import Batch, Judged

_log = logging.getLogger(__name__)
_EXTENDS = "extends"


class RunFailedError(RuntimeError):
    """A run that is recorded as FAILED; its cause is the chained exception."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"MLflow run {run_id} failed")
        self.run_id = run_id


def run_job(config: DictConfig) -> Summary | tuple[float, ...] | float | None:
    """Run one configuration. In a sweep a failure is logged and left in its outcome on disk, so
    that the other jobs still run under every launcher; the entry script sums up and exits non-zero.
    A job of a sweep that has not failed returns its ``sweep.objectives`` to a sweeper that is not
    ours and may optimise: one by itself, several as a tuple, None where one was not measured. A job
    by itself raises, or returns its summary."""
    hydra = HydraConfig.get()
    experiment = to_experiment(config, hydra)
    if experiment.stage is not Stage.evaluate:
        require_job_libraries()
    sweep = current_sweep()
    with _shown(experiment.progress), output_in(log_file()):
        title = _announce(run_name(experiment), hydra, sweep)
        outcome = _outcome(experiment, hydra, sweep, title)
    if (schedule := schedule_here()) is not None:
        schedule.end(hydra.job.num, worked=outcome.state is State.finished)
    outcome.save(Path(hydra.runtime.output_dir))
    if sweep is not None:
        stopping.check()
        ours = hydra.sweeper._target_.startswith("hydra_plugins.codejoule_sweeper.")
        return None if ours else _objectives(experiment, outcome)
    return Summary(run_id=None, jobs=1, tracking=experiment.tracking, outcomes=(outcome,))


def _shown(mode: ProgressMode) -> AbstractContextManager[object]:
    """The display there is, or one of its own for a job that another launcher has started, beside
    others: it gets no live line."""
    if watcher() is not None:
        return nullcontext()
    mode = ProgressMode.plain if mode is ProgressMode.auto else mode
    return displayed(mode, beside_others=True)


def _announce(name: str, hydra: Any, sweep: SweepRef | None) -> str:
    """Show which job begins, and how long the sweep still takes, as far as that is known. The job
    as it is called there."""
    title = name
    if sweep is not None:
        number = sweep.skipped + hydra.job.num + 1
        title = f"{number}{'' if sweep.jobs is None else f'/{sweep.jobs}'} {name}"
    display, schedule = watcher(), schedule_here()
    if sweep is not None and schedule is not None:
        schedule.begin(hydra.job.num)
    if isinstance(display, Display):
        display.heading(title)
        if schedule is not None:
            display.left = schedule.left
    return title


def _outcome(
    experiment: ExperimentConfig, hydra: Any, sweep: SweepRef | None, title: str
) -> Outcome:
    """Run it, and say in a line how it ended. Raises what a job by itself fails with."""
    keep_compiled_code()
    began_s = time.monotonic()
    try:
        if experiment.stage is not Stage.evaluate:
            check_model(experiment)
        outcome = run(experiment, sweep=sweep)
    except Exception as error:
        if sweep is None:
            raise
        cause = error.__cause__ if isinstance(error, RunFailedError) else error
        assert cause is not None
        text = explain(cause, hydra.overrides.task)
        name = run_name(experiment)
        if text is None:
            # Its traceback is in the log file.
            _log.exception("%s failed (%s)", name, log_file())
            text = f"{type(cause).__name__}: {cause}"
        else:
            # Why, the entry script tells with the other failures, and once.
            _log.error("%s failed", name)
        run_id = error.run_id if isinstance(error, RunFailedError) else None
        return Outcome(name=name, state=State.failed, sweep=sweep.run_id, run_id=run_id, error=text)
    if outcome.figures:
        figures = [*outcome.figures, duration(time.monotonic() - began_s)]
        say(f"{title}: {', '.join(figures)}")
    return outcome


def _objectives(experiment: ExperimentConfig, outcome: Outcome) -> tuple[float, ...] | float | None:
    names = experiment.sweep.objectives
    if outcome.state is State.failed or outcome.run_id is None or not names:
        return None
    store = prepare_store(experiment.tracking)
    metrics = store.metrics(outcome.run_id)
    if absent := [name for name in names if name not in metrics]:
        _log.warning("sweep.objectives: run %s has no %s", outcome.run_id, " and no ".join(absent))
        return None
    found = tuple(metrics[name] for name in names)
    return found if len(found) > 1 else found[0]


def run_name(experiment: ExperimentConfig) -> str:
    """Short name of a run, e.g. ``starter-gptq4-b8`` or ``qwen_7b-none-b8-bigcodebench-r2``."""
    if experiment.stage is Stage.finetune:
        data = Path(experiment.finetune.data or experiment.suite.name).stem
        parts = [experiment.model.name, "finetune", data, f"r{experiment.finetune.rank}"]
        return "-".join([*parts, *([f"repeat{n}"] if (n := experiment.repeat) > 1 else [])])
    parts = [experiment.model.name, experiment.quant.name, f"b{experiment.batch.size}"]
    parts += ["tuned"] if experiment.model.adapter is not None else []
    usual = (BUNDLED_SUITES[0], "greedy", EngineConfig().name.value)
    own = (experiment.suite.name, experiment.generation.name, experiment.engine.name.value)
    parts += [name for name, common in zip(own, usual, strict=True) if name != common]
    if experiment.generation.rounds > 1:
        parts.append(f"rounds{experiment.generation.rounds}")
    if experiment.repeat > 1:
        parts.append(f"r{experiment.repeat}")
    return "-".join(parts)


def run(experiment: ExperimentConfig, *, sweep: SweepRef | None) -> Outcome:
    """Run one configuration and record it. A finished configuration is skipped
    (``on_finished=skip``); a killed one continues where its journal ends. One that another process
    works on is waited for in a sweep, whose other jobs are still to come, and is an error
    otherwise. Raises `RunFailedError` from whatever went wrong, the run being recorded as FAILED
    (KILLED for an interrupt) with the reason as a tag."""
    name = run_name(experiment)
    doing("opening the store of runs")
    store = prepare_store(experiment.tracking)
    folder_of = partial(journal_folder, experiment.tracking)
    if experiment.stage is Stage.evaluate:
        run_id, figures = judge_configured(store, experiment, folder_of=folder_of)
        return _judged(name, run_id, figures, sweep)
    try:
        doing("looking for the model and the tasks")
        plan = make_plan(experiment)
    except Exception as error:
        tracked = _start(store, experiment, name=name, sweep=sweep)
        _fail(tracked, error, "FAILED", None, None)
        raise RunFailedError(tracked.run_id) from error
    folder = journal_folder(experiment.tracking, plan.fingerprint)
    if not folder.exists() and (before := _finished(plan, store, sweep)) is not None:
        return before
    with (
        Lease(folder, lease_s=experiment.tracking.lease_s, wait=sweep is not None) as lease,
        guarded(folder, lease.check),
    ):
        store.close_stale()
        if lease.silent is not None and (taken := store.find_unfinished(recorded_run(folder))):
            store.take_over(taken, str(lease.owner))
        if experiment.tracking.name is TrackingName.server and not store.away:
            lease.on_server(store.uri, store.experiment_id, plan.fingerprint)
        return _run(plan, folder, store, lease, sweep=sweep)


def _finished(plan: Plan, store: Store, sweep: SweepRef | None) -> Outcome | None:
    """What becomes of a configuration that has finished and is not run again."""
    finished = store.find_finished(plan.fingerprint)
    if finished is None or plan.experiment.on_finished is not OnFinished.skip:
        return None
    name, parent = run_name(plan.experiment), None if sweep is None else sweep.run_id
    _log.info("%s has finished before (run %s): skipped", name, finished)
    return Outcome(name=name, state=State.skipped, sweep=parent, run_id=finished)


def _run(
    plan: Plan, folder: Path, store: Store, lease: Lease, *, sweep: SweepRef | None
) -> Outcome:
    """The run, owned by no other process that is seen from here."""
    experiment, name = plan.experiment, run_name(plan.experiment)
    parent = None if sweep is None else sweep.run_id
    lease.wait_for_claims()
    if (before := _finished(plan, store, sweep)) is not None:
        assert before.run_id is not None
        release_journal(store, before.run_id, folder)  # of one that was killed after its last word
        return before
    generated = store.find_generated(plan.fingerprint)
    if generated is not None and experiment.on_finished is OnFinished.skip:
        if experiment.stage is Stage.generate:
            _log.info("%s has generated before (run %s): skipped", name, generated)
            return Outcome(name=name, state=State.skipped, sweep=parent, run_id=generated)
        folder_of = partial(journal_folder, experiment.tracking)
        figures = judge_run(store, generated, plan.experiment, folder_of=folder_of)
        return _judged(name, generated, figures, sweep)
    # Only a run that was broken off is continued: the journal of one that has finished, or
    # that was deleted from the store, is no new measurement.
    resume = store.find_unfinished(recorded_run(folder))
    if resume is None and (begun := begun_elsewhere(plan, folder)) is not None:
        other, gpu = begun
        broken_off = store.find_unfinished(recorded_run(other))
        if broken_off is not None and not is_owned(other, lease_s=experiment.tracking.lease_s):
            refuse_other_gpu(plan, gpu, broken_off)
    note_gpu(plan, folder)
    tags = {
        FINGERPRINT: plan.fingerprint,
        CONFIGURATION: plan.configuration,
        **lease.tags,
    }
    if resume is None:
        shutil.rmtree(folder, ignore_errors=True)
        _take_over(plan, folder, store)
        if lease.deposed:
            tags["codejoule.replaces"] = lease.deposed[-1].run_id
            _log.warning(
                "%s of %s gives no sign of life any more; its journal is not in %s, so the run "
                "is begun anew", name, lease.deposed[-1], experiment.tracking.folder,
            )  # fmt: skip
    elif lease.silent is not None:
        # Who is silent may wake up: neither its journal nor its run in MLflow is this one's.
        detach(folder)
        tags["codejoule.continues"], resume = resume, None
    if (extended := folder / _EXTENDS).exists():
        tags["codejoule.extends"] = extended.read_text(encoding="utf-8")
    tracked = _start(store, experiment, name=name, sweep=sweep, tags=tags, resume=resume)
    try:
        claimed = lease.claim(tracked.run_id)
    except BaseException:
        store.withdraw(tracked.run_id, keep=resume is not None)
        raise
    if not claimed:
        store.withdraw(tracked.run_id, keep=resume is not None)
        return _run(plan, folder, store, lease, sweep=sweep)
    figures = _execute(plan, folder, tracked, lease)
    forget_gpu(plan, folder)
    release_journal(store, tracked.run_id, folder)
    return Outcome(
        name=name, state=State.finished, sweep=parent, run_id=tracked.run_id, figures=figures
    )


def _judged(
    name: str, run_id: str, figures: tuple[str, ...] | None, sweep: SweepRef | None
) -> Outcome:
    """A run that an earlier job has generated stays below that job's sweep."""
    if figures is None:
        _log.info("%s has been judged before (run %s): skipped", name, run_id)
    return Outcome(
        name=name,
        state=State.skipped if figures is None else State.finished,
        sweep=None if sweep is None else sweep.run_id,
        run_id=run_id,
        figures=figures or (),
    )


def _take_over(plan: Plan, folder: Path, store: Store) -> None:
    """Begin with what the run of fewer tasks that ``suite.extends`` names has finished."""
    experiment, tasks = plan.experiment, plan.experiment.suite.extends
    if tasks is None:
        return
    suite = dataclasses.replace(experiment.suite, limit=tasks, extends=None)
    smaller = make_plan(dataclasses.replace(experiment, suite=suite))
    run_id = store.find_finished(smaller.fingerprint)
    whole = zip(smaller.batches, plan.batches, strict=False)
    if not all(list(batch) == list(longer[: len(batch)]) for batch, longer in whole):
        why = "its batches are others (batch.order=suite keeps them)"
    elif run_id is None:
        why = "the store has no finished run of them"
    elif unpack_journal(store, run_id, folder) is None:
        why = f"run {run_id} has no journal among its artifacts"
    else:
        write_whole(folder / _EXTENDS, run_id)
        return
    _log.warning(
        "suite.extends=%d: nothing of that run can be taken over, since %s; all is generated anew",
        tasks,
        why,
    )


def journal_folder(tracking: TrackingConfig, fingerprint: str) -> Path:
    """Where the journal of the run with this fingerprint lies: one per store and experiment."""
    place = quote(tracking.experiment, safe="")
    if tracking.name is TrackingName.server:
        place = f"{place}@{quote(tracking.uri or '', safe='')}"
    return tracking.folder.absolute() / "journals" / place / fingerprint


def _start(
    store: Store,
    experiment: ExperimentConfig,
    *,
    name: str,
    sweep: SweepRef | None,
    tags: Mapping[str, str] | None = None,
    resume: str | None = None,
) -> TrackedRun:
    own = {
        "codejoule.schema_version": str(SCHEMA_VERSION),
        "codejoule.weights": experiment.model.weights.value,
    }
    if experiment.stage is Stage.finetune:
        own |= KIND
    if sweep is not None:
        own["codejoule.sweep"] = sweep.name
    commit = git_commit()
    if commit is not None:
        own["mlflow.source.git.commit"] = commit
    return store.start_run(
        name=name,
        parent_run_id=None if sweep is None else sweep.run_id,
        tags=own | dict(tags or {}),
        params=_params(experiment),
        resume_run_id=resume,
    )


def _params(experiment: ExperimentConfig) -> dict[str, object]:
    whole = flat(to_plain(experiment))
    params = in_use(whole)
    if experiment.stage is Stage.finetune:
        groups = ("model", "quant", "meter", "suite", "repeat")
        params = {k: v for k, v in params.items() if k.partition(".")[0] in groups}
        return params | {
            k: v for k, v in whole.items() if k.startswith("finetune.") and v is not None
        }
    if experiment.stage is Stage.generate:
        # Of this machine, which does not judge.
        params.pop("evaluator.python", None)
    return params


def _execute(plan: Plan, folder: Path, tracked: TrackedRun, lease: Lease) -> tuple[str, ...]:
    name = run_name(plan.experiment)
    artifacts = folder / "artifacts"
    try:
        write_whole(folder / RUN_ID, tracked.run_id)
        if not has_generated(plan, folder):
            # Before the model's process starts: one more on a GPU would disturb who meters it.
            with on_free_devices(plan, name) as plan:
                generate_isolated(plan, folder, lease.path)
        trains = plan.training is not None
        judges = plan.experiment.evaluator.name is not EvaluatorName.none and not trains
        if judges and plan.experiment.stage is Stage.all:
            evaluate(plan, folder, name=name)
        doing("recording the run")
        with stopping.finishing():
            lease.check()
            if trains:
                figures = log_finetuning(plan, folder, artifacts, tracked)
            else:
                figures = headline(*log_results(plan, folder, artifacts, tracked))
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(_kept(plan, folder))
        _fail(tracked, interrupt, "KILLED", artifacts, lease)
        raise
    except Exception as error:
        _fail(tracked, error, "FAILED", artifacts, lease)
        raise RunFailedError(tracked.run_id) from error
    with stopping.finishing():
        tracked.finish("FINISHED")
    return figures


def _kept(plan: Plan, folder: Path) -> str:
    """What a run that was stopped leaves to continue from, in words."""
    if plan.training is not None:
        return f"{run_name(plan.experiment)} begins its training anew"
    total = plan.requests
    with suppress(UserError), Journal(folder) as journal:
        done = sum(len(entry.completions) for entry in journal.entries(Batch))
        repaired = sum(
            len(entry.completions)
            for number in range(2, plan.experiment.generation.rounds + 1)
            for entry in journal.of_round(number).entries(Batch)
        )
        repairs = f", {repaired} repaired programs" if repaired else ""
        judged = sum(len(entry.verdicts) for entry in journal.entries(Judged))
        told = f", and the verdicts on {judged} of them" if judged else ""
        return f"{run_name(plan.experiment)} keeps {done} of {total} samples{repairs}{told}"
    return f"{run_name(plan.experiment)} keeps what is in {folder}"


def _fail(
    tracked: TrackedRun,
    error: BaseException,
    status: RunStatus,
    artifacts: Path | None,
    lease: Lease | None,
) -> None:
    """Record the end of a run that did not finish, unless it is another's; a store that fails now
    hides no error. `artifacts` are made again when the run is continued: where the disk is full,
    they make room for the few bytes that are recorded here."""
    if lease is not None and lease.lost:
        return
    if artifacts is not None:
        shutil.rmtree(artifacts, ignore_errors=True)
    try:
        tracked.finish(status)
        tracked.log(tags={"codejoule.error": f"{type(error).__name__}: {error}"[:5000]})
    except UserError as lost:
        _log.error("%s", lost)
