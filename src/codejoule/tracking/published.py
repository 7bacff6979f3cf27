"""Figures that others printed, as runs of their own kind."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codejoule.tracking.store import Store

NOT_PREDICTED = "codejoule.not_predicted"
"""Tag that says why the estimator says nothing of a figure."""
_PUBLISHED = {
    "codejoule.published": "true",
    "codejoule.energy_source": "published",
    "codejoule.energy_scope": "gpu",
}
"""What keeps these runs apart from measured ones wherever runs are compared."""
_ELSEWHERE = {"codejoule.host": "published"}
"""Such a run was not made where its import is: the process that a RUNNING run needs is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """One printed figure, as a run has it."""

    identity: str
    """Text that is equal where the figure is the same one: it is never recorded twice."""
    name: str
    """Name of the run."""
    source: str
    """Where it is printed."""
    params: Mapping[str, object]
    """What was measured, under the names of the configuration."""
    metrics: Mapping[str, float]
    """What it took, under the names of runs' metrics."""
    tags: Mapping[str, str]
    """What else is known."""
    predictions: Mapping[str, float] = field(default_factory=dict)
    """``predicted_*``: what the estimator says of it, brought up to date by every import."""
    prediction_tags: Mapping[str, str] = field(default_factory=dict)
    """Words on that, as up to date."""

    @property
    def fingerprint(self) -> str:
        """Its ``codejoule.fingerprint``."""
        return hashlib.sha256(self.identity.encode()).hexdigest()

    @property
    def recorded_tags(self) -> dict[str, str]:
        """Every tag that it is recorded with."""
        return {
            **_PUBLISHED,
            "codejoule.fingerprint": self.fingerprint,
            "codejoule.source": self.source,
            **self.tags,
            **self.prediction_tags,
        }


def record_published(
    store: Store, runs: Sequence[PublishedRun], *, sweep: str, command: str
) -> tuple[int, int]:
    """Add those of `runs` that the store does not have, below one parent named `sweep`; how many
    were added, and how many were there. Predictions of those are brought up to date."""
    store.close_stale()
    there = {run.fingerprint: store.find_finished(run.fingerprint) for run in runs}
    for run in runs:
        run_id = there[run.fingerprint]
        if run_id is not None and run.predictions:
            _predict_again(store, run_id, run)
    missing = [run for run in runs if there[run.fingerprint] is None]
    if not missing:
        return 0, len(runs)
    tags = {"codejoule.published": "true", "codejoule.source": missing[0].source}
    parent = store.start_sweep(sweep, [command], tags)
    for run in missing:
        tracked = store.start_run(
            name=run.name,
            parent_run_id=parent,
            tags=run.recorded_tags,
            params=run.params,
        )
        tracked.log(metrics={**run.metrics, **run.predictions}, tags=_ELSEWHERE)
        tracked.finish("FINISHED")
    store.end_sweep(parent, "FINISHED")
    return len(missing), len(runs) - len(missing)


def _predict_again(store: Store, run_id: str, run: PublishedRun) -> None:
    known = store.metrics(run_id)
    if any(known.get(name) != value for name, value in run.predictions.items()):
        store.describe_published(
            run_id, run.predictions, run.prediction_tags, without=NOT_PREDICTED
        )
