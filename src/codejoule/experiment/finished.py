"""Which jobs of a sweep have finished before."""

import logging
from collections import Counter
from collections.abc import Sequence

from codejoule.common.progress import doing
from codejoule.config.schema import ExperimentConfig, OnFinished, Stage
from codejoule.experiment.plan import make_plan
from codejoule.experiment.run import journal_folder, run_name
from codejoule.tracking import GENERATED, STAGE, Store, prepare_store

_log = logging.getLogger(__name__)


def finished_runs(experiments: Sequence[ExperimentConfig]) -> list[str | None]:
    """The MLflow run in which each of a sweep's jobs has finished before; None where it has not, or
    where only the job itself can tell, since its files are not here yet. A job that no finished run
    is named like is not planned: nothing is downloaded for it before its turn."""
    wanted = [own for own in experiments if _skips(own)]
    if not wanted:
        return [None] * len(experiments)
    store = prepare_store(experiments[0].tracking)
    known = _Known(store, Counter(map(run_name, wanted)))
    found: list[str | None] = []
    for number, own in enumerate(experiments):
        doing("looking for finished runs", f"{number} of {len(experiments)} jobs")
        found.append(known.run_of(own) if _skips(own) else None)
    return found


def _skips(experiment: ExperimentConfig) -> bool:
    """A job that judges alone looks for what has generated."""
    return experiment.on_finished is OnFinished.skip and experiment.stage is not Stage.evaluate


class _Known:
    """The finished runs of a store that a sweep's jobs may be, read in as few searches as will do:
    a search takes as long as reading some ten runs."""

    def __init__(self, store: Store, names: Counter[str]) -> None:
        """`names` are those of the jobs, each with the number of jobs that have it."""
        self._store = store
        self._names = names
        self._runs: dict[str, str] = {}
        self._named: dict[str, bool] = {}
        # Mostly the sweep was the last to run.
        self._read(names.total(), None)

    def _read(self, most: int, name: str | None) -> None:
        for run in self._store.latest_finished(most=most, name=name):
            self._named[run.name] = True
            if run.fingerprint is not None and run.tags.get(STAGE) != GENERATED:
                self._runs.setdefault(run.fingerprint, run.run_id)

    def run_of(self, experiment: ExperimentConfig) -> str | None:
        """The latest run that has finished this configuration."""
        name = run_name(experiment)
        if name not in self._named:
            self._named[name] = False
            self._read(self._names[name], name)
        if not self._named[name]:
            return None
        try:
            fingerprint = make_plan(experiment).fingerprint
        except Exception as error:
            # The job says so itself, and is recorded as failed.
            _log.info("%s cannot be planned yet: %s", name, error)
            return None
        if journal_folder(experiment.tracking, fingerprint).exists():
            return None  # the job takes it before it looks
        run_id = self._runs.get(fingerprint) or self._store.find_finished(fingerprint)
        if run_id is not None:
            _log.info("%s has finished before (run %s): skipped", name, run_id)
        return run_id
