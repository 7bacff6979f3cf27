"""A sweep: all its jobs checked first, one parent run around them."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from codejoule.config import ConfigError, project_root, write_whole
from codejoule.config.explain import explain
from codejoule.config.schema import TrackingConfig
from codejoule.config.typed import to_experiment, to_plain, tracking_from_plain
from codejoule.experiment.check import check_rooms
from codejoule.experiment.outcome import Outcome, State, read_outcomes

if TYPE_CHECKING:
    from codejoule.tracking.run import RunStatus

_FILE = "CODEJOULE_SWEEP_FILE"
# An environment variable reaches the jobs of every launcher (basic, joblib, submitit). The file
# is named by the parent run, because two sweeps may share a folder.


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

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The jobs that failed."""
        return tuple(o for o in self.outcomes if o.state is State.failed)

    @property
    def missing(self) -> int:
        """Planned jobs that never ended (killed, or never started)."""
        return max(0, (self.jobs or 0) - len(self.outcomes))


def check_jobs(
    compose: Callable[[Sequence[str]], DictConfig], jobs: Sequence[Sequence[str]]
) -> None:
    """Compose and check the configuration of every job.

    Raises `ConfigError` listing each fault once, so that a typo in the last of forty jobs is
    known before the first joule is spent.
    """
    faults: dict[str, int] = {}
    stores = set()
    for job in jobs:
        try:
            experiment = to_experiment(compose(job))
            check_rooms(experiment)
            stores.add(json.dumps(to_plain(experiment)["tracking"], sort_keys=True))
        except Exception as error:
            text = explain(error, job)
            if text is None:
                raise
            faults[text] = faults.get(text, 0) + 1
    if len(stores) > 1:
        faults[
            "tracking: cannot be swept over; all jobs of a sweep are recorded in one place (quote "
            "a comma that is part of a value: 'tracking.dir=\"/a,b\"')"
        ] = 0
    if faults:
        lines = [
            text if len(jobs) == 1 or not count else f"{text} (in {count} of {len(jobs)} jobs)"
            for text, count in faults.items()
        ]
        raise ConfigError("\n".join(lines))


def open_sweep(config: DictConfig, *, jobs: int | None) -> None:
    """Make the store and the parent run; the sweep's folder says which it is."""
    from codejoule.tracking import prepare_store

    folder = Path(config.hydra.sweep.dir).absolute()
    experiment = to_experiment(config)
    store = prepare_store(experiment.tracking, project_root=project_root())
    store.close_stale()
    name = f"{folder.parent.name}_{folder.name}"
    run_id = store.start_sweep(
        name,
        overrides=list(config.hydra.overrides.task),
        tags={
            "codejoule.sweep.order": experiment.sweep.order.name,
            "codejoule.sweep.seed": str(experiment.sweep.seed),
        },
    )
    facts = {
        "run_id": run_id,
        "name": name,
        "jobs": jobs,
        "tracking": to_plain(experiment)["tracking"],
    }
    file = folder / f"sweep-{run_id}.json"
    write_whole(file, json.dumps(facts))
    os.environ[_FILE] = str(file)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRef:
    """The sweep that a job belongs to."""

    run_id: str
    """Its parent run."""
    name: str
    """Its name, e.g. ``2026-11-23_10-15-00``."""


def current_sweep() -> SweepRef | None:
    """The sweep that this job belongs to; None for a job by itself."""
    facts = _facts()
    return None if facts is None else SweepRef(run_id=facts["run_id"], name=facts["name"])


def sum_up() -> Summary | None:
    """Outcomes of the sweep that this process opened; None where it opened none."""
    facts = _facts()
    if facts is None:
        return None
    folder = Path(os.environ[_FILE]).parent
    return Summary(
        run_id=facts["run_id"],
        jobs=facts["jobs"],
        tracking=tracking_from_plain(facts["tracking"]),
        outcomes=tuple(read_outcomes(folder, sweep=facts["run_id"])),
    )


def close_sweep(summary: Summary, *, interrupted: bool) -> None:
    """End the parent run by its jobs' outcomes. Raises `UserError` where the store fails."""
    from codejoule.tracking import prepare_store

    assert summary.run_id is not None
    failed = summary.failed or summary.missing
    status: RunStatus = "KILLED" if interrupted else "FAILED" if failed else "FINISHED"
    store = prepare_store(summary.tracking, project_root=project_root())
    store.end_sweep(summary.run_id, status)


def _facts() -> dict[str, Any] | None:
    file = os.environ.get(_FILE)
    if file is None:
        return None
    facts = json.loads(Path(file).read_text(encoding="utf-8"))
    assert isinstance(facts, dict)
    return facts
