"""A sweep: all its jobs checked first, one parent run around them."""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from codejoule.common.progress import say
from codejoule.config import ConfigError, write_whole
from codejoule.config.explain import explain
from codejoule.config.extras import require_job_libraries
from codejoule.config.schema import (
    EngineConfig,
    ExperimentConfig,
    Stage,
    TrackingConfig,
    Weights,
)
from codejoule.config.typed import to_experiment, to_plain
from codejoule.domain import from_json, to_json
from codejoule.experiment.plan import check_model
from codejoule.generation import engine_class
from codejoule.tracking import RunStatus, prepare_store

_FILE = "CODEJOULE_SWEEP_FILE"
# An environment variable reaches the jobs of every launcher (basic, joblib, submitit). The file
# is named by the parent run, because two sweeps may share a folder.


class State(Enum):
    """How a job ended."""

    finished = "finished"
    skipped = "skipped"
    failed = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one job ended, on disk so that the entry script can sum up any launcher's jobs."""

    name: str
    """The run's name, e.g. ``starter-gptq4-b8``."""
    state: State
    """Finished, skipped (had finished before) or failed."""
    sweep: str | None = None
    """Parent run of the sweep it belongs to; None for a job by itself."""
    run_id: str | None = None
    """MLflow run; None where the job failed before it had one."""
    error: str | None = None
    """What a failed job said."""
    figures: tuple[str, ...] = ()
    """What a finished job has measured, in words."""

    def save(self, folder: Path) -> None:
        """Write it into `folder`, which another sweep may use at the same time. Raises `UserError`
        where that is not possible."""
        write_whole(folder / _outcome_file(self.sweep), json.dumps(to_json(self), indent=2))

    @classmethod
    def load(cls, folder: Path, sweep: str) -> "Outcome | None":
        """What a job of that sweep left in its `folder`; None where it left no word."""
        file = folder / _outcome_file(sweep)
        if not file.exists():
            return None
        found: Outcome = from_json(cls, json.loads(file.read_text(encoding="utf-8")))
        return found


def _outcome_file(sweep: str | None) -> str:
    return "outcome.json" if sweep is None else f"outcome-{sweep}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the entry script tells of a sweep, or of a job by itself, that has ended."""

    run_id: str | None
    """The sweep's parent run; None for a job by itself."""
    jobs: int | None
    """Jobs that were planned; None where another sweeper decides as it goes."""
    tracking: TrackingConfig
    """Where its runs are."""
    outcomes: tuple[Outcome, ...]
    """Every job that ended."""
    answer: str | None = None
    """What a sweep with a goal has found, in a sentence."""

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The jobs that failed."""
        return tuple(o for o in self.outcomes if o.state is State.failed)

    @property
    def only_skipped(self) -> bool:
        """Whether every job had finished before: the sweep has no run of its own."""
        states = {outcome.state for outcome in self.outcomes}
        return states == {State.skipped} and not self.missing

    @property
    def missing(self) -> int:
        """Planned jobs that never ended (killed, or never started)."""
        return max(0, (self.jobs or 0) - len(self.outcomes))


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRef:
    """A sweep under way, as its jobs find it on disk."""

    run_id: str
    """Its parent run."""
    name: str
    """Its name, e.g. ``2026-11-23_10-15-00``."""
    jobs: int | None
    """Jobs that are planned; None where another sweeper decides as it goes."""
    tracking: TrackingConfig
    """Where its runs are."""
    skipped: int = 0
    """Jobs that had finished before, and were not launched."""


def check_jobs(
    compose: Callable[[Sequence[str]], DictConfig], jobs: Sequence[Sequence[str]]
) -> list[ExperimentConfig]:
    """Compose and check the configuration of every job. Raises `ConfigError` listing each fault
    once, so that a typo in the last of forty jobs is known before the first joule is spent."""
    faults: Counter[str] = Counter()
    experiments: list[ExperimentConfig] = []
    for job in jobs:
        try:
            experiments.append(to_experiment(compose(job)))
        except Exception as error:
            faults[_told(error, job)] += 1
    check_experiments(experiments, faults)
    return experiments


def check_experiments(
    experiments: Sequence[ExperimentConfig], faults: Mapping[str, int] | None = None
) -> None:
    """Check the configurations of the jobs of a sweep. `faults` counts those of jobs that could not
    be composed. Raises `ConfigError` that lists them all, and `UserError` where a library is
    missing."""
    if any(own.stage is not Stage.evaluate for own in experiments):
        require_job_libraries()
    found = Counter(faults or {})
    jobs = len(experiments) + found.total()
    able: list[EngineConfig] = []
    for own in experiments:
        if own.stage is Stage.evaluate:  # no model is loaded
            continue
        try:
            check_model(own)
            if own.engine not in able:
                engine_class(own.engine.name).check(own.engine)
                able.append(own.engine)
        except Exception as error:
            found[_told(error, ())] += 1
    lines = [
        text if jobs == 1 else f"{text} (in {count} of {jobs} jobs)"
        for text, count in found.items()
    ]
    lines += _same_names(experiments)
    if len({json.dumps(to_plain(own)["tracking"], sort_keys=True) for own in experiments}) > 1:
        lines.append(
            "tracking: cannot be swept over; all jobs of a sweep are recorded in one place (quote "
            "a comma that is part of a value: 'tracking.dir=\"/a,b\"')"
        )
    if lines:
        raise ConfigError("\n".join(lines))


def _told(error: Exception, job: Sequence[str]) -> str:
    """What to say of a job's fault; raises `error` where it is a bug of ours."""
    text = explain(error, job)
    if text is None:
        raise error
    return text


def _same_names(experiments: Sequence[ExperimentConfig]) -> list[str]:
    """What to say of models of different places that one name would be recorded for."""
    places: dict[str, dict[str, None]] = {}
    for model in (experiment.model for experiment in experiments):
        place = model.path if model.weights is Weights.local else model.id
        if place is not None and model.weights in (Weights.local, Weights.hub):
            places.setdefault(model.name, {})[place] = None
    return [
        f"model: {' and '.join(found)} would all be recorded as {name}; give each a name with a "
        f"file of its own (codejoule new model NAME --from {list(found)[-1]}), then model=NAME"
        for name, found in places.items()
        if len(found) > 1
    ]


def open_sweep(
    config: DictConfig, *, jobs: int | None, finished: Sequence[tuple[str, str]] = ()
) -> None:
    """Make the store and the parent run; the sweep's folder says which it is. `finished` are those
    of its jobs that have finished before, by name and MLflow run: they are not launched."""
    folder = Path(config.hydra.sweep.dir).absolute()
    experiment = to_experiment(config)
    store = prepare_store(experiment.tracking)
    if not store.away:  # else each run says where it is kept
        say(f"Runs are recorded in {store.uri}, experiment {store.experiment}.")
    store.close_stale()
    name = f"{folder.parent.name}_{folder.name}"
    overrides = list(config.hydra.overrides.task)
    run_id = store.start_sweep(
        " x ".join(swept(overrides, config.hydra.sweeper.get("params"))) or name,
        overrides=overrides,
        tags={
            "codejoule.sweep": name,
            "codejoule.sweep.order": experiment.sweep.order.name,
            "codejoule.sweep.seed": str(experiment.sweep.seed),
        },
    )
    sweep = SweepRef(
        run_id=run_id, name=name, jobs=jobs, tracking=experiment.tracking, skipped=len(finished)
    )
    for number, (job, earlier) in enumerate(finished):
        outcome = Outcome(name=job, state=State.skipped, sweep=run_id, run_id=earlier)
        outcome.save(folder / "finished_before" / str(number))
    file = folder / f"sweep-{run_id}.json"
    write_whole(file, json.dumps(to_json(sweep)))
    os.environ[_FILE] = str(file)


def swept(overrides: Sequence[str], params: Mapping[str, object] | None) -> list[str]:
    """The names of what a sweep varies: its preset's `params` first, and its command line's
    `overrides`, which replace them."""
    given = [f"{key}={value}" for key, value in (params or {}).items()]
    by_key = {}
    for override in OverridesParser.create().parse_overrides([*given, *overrides]):
        key = override.get_key_element().lstrip("+~")
        by_key[key] = override.is_sweep_override()
    return [key for key, several in by_key.items() if several]


def current_sweep() -> SweepRef | None:
    """The sweep that this job belongs to, or that this process opened; None where there is none."""
    file = sweep_file()
    if file is None:
        return None
    sweep: SweepRef = from_json(SweepRef, json.loads(file.read_text(encoding="utf-8")))
    return sweep


def sweep_file() -> Path | None:
    """The file that describes it, beside which its jobs leave word for each other."""
    file = os.environ.get(_FILE)
    return None if file is None else Path(file)


def answer_sweep(sentence: str) -> None:
    """Keep what the sweep under way has found: for its summary, and as a tag of its parent run."""
    sweep, file = current_sweep(), sweep_file()
    assert sweep is not None and file is not None
    write_whole(_answer_file(file), sentence)
    store = prepare_store(sweep.tracking)
    store.tag(sweep.run_id, {"codejoule.answer": sentence})


def _answer_file(sweep: Path) -> Path:
    return sweep.with_name(f"{sweep.stem}-answer.txt")


def sum_up() -> Summary | None:
    """Outcomes of the sweep that this process opened; None where it opened none."""
    sweep = current_sweep()
    if sweep is None:
        return None
    # In the order in which they ended.
    files = Path(os.environ[_FILE]).parent.glob(f"**/{_outcome_file(sweep.run_id)}")
    in_order = sorted(files, key=lambda file: file.stat().st_mtime_ns)
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in in_order]
    answer = _answer_file(Path(os.environ[_FILE]))
    return Summary(
        run_id=sweep.run_id,
        answer=answer.read_text(encoding="utf-8") if answer.exists() else None,
        jobs=sweep.jobs,
        tracking=sweep.tracking,
        outcomes=tuple(from_json(Outcome, row) for row in rows),
    )


def close_sweep(summary: Summary, *, interrupted: bool) -> None:
    """End the parent run by its jobs' outcomes, and delete that of a sweep in which every job had
    finished before. Raises `UserError` where the store fails."""
    assert summary.run_id is not None
    failed = summary.failed or summary.missing
    status: RunStatus = "KILLED" if interrupted else "FAILED" if failed else "FINISHED"
    store = prepare_store(summary.tracking)
    store.end_sweep(summary.run_id, status, keep=not summary.only_skipped)
