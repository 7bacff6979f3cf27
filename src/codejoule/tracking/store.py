"""Sweeps and runs in one MLflow experiment."""

import getpass
import json
import logging
import math
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from codejoule.config import UserError
from codejoule.domain import Suite, TaskRecord
from codejoule.tracking.client import (
    PARAM_LENGTH,
    PARAMS_PER_BATCH,
    TAG_LENGTH,
    as_text,
    cut,
    explained,
    give_reserve,
)
from codejoule.tracking.lease.claims import TAKEN
from codejoule.tracking.outbox import Outbox
from codejoule.tracking.process import Processes
from codejoule.tracking.served import (
    ERROR,
    FINGERPRINT,
    GENERATED,
    GENERATED_AS,
    PARENT,
    STAGE,
    TRACES_AS,
    Place,
    ServedClient,
)
from codejoule.tracking.traces import TaskTrace, judge_traces, log_traces

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run
    from mlflow.tracking import MlflowClient

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ended, in MLflow's words."""

_log = logging.getLogger(__name__)

_KIND = "codejoule.kind"
_HOST = "codejoule.host"
_BEGUN = "codejoule.begun"
CONFIGURATION = "codejoule.configuration"
"""Tag with the hash of what a run's configuration asks for."""
_NOTE = "mlflow.note.content"
_DIGEST_LENGTH = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """What the store says of a run."""

    run_id: str
    """Its id."""
    name: str
    """Its name."""
    status: str
    """MLflow's word for its state, e.g. ``FINISHED``."""
    tags: Mapping[str, str]
    """Its tags."""
    params: Mapping[str, str]
    """Its configuration, as far as it says something."""
    metrics: Mapping[str, float]
    """The latest value of each of its metrics."""

    @property
    def fingerprint(self) -> str | None:
        """What it is known again by."""
        return self.tags.get(FINGERPRINT)

    @classmethod
    def of(cls, run: "Run") -> Self:
        """As MLflow's client has it."""
        return cls(
            run_id=run.info.run_id,
            name=run.info.run_name,
            status=run.info.status,
            tags=dict(run.data.tags),
            params=dict(run.data.params),
            metrics=dict(run.data.metrics),
        )


class TrackedRun:
    """A run in the store. Its errors are `UserError`: the store is gone, full or read-only."""

    def __init__(
        self, client: "MlflowClient | ServedClient", *, uri: str, experiment_id: str,
        processes: Processes, run_id: str,
    ) -> None:  # fmt: skip
        self.run_id = run_id
        self._experiment_id = experiment_id
        self._client = client
        self._uri = uri
        self._processes = processes

    def log(
        self,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
        artifacts: Sequence[Path] = (),
        dataset: Suite | None = None,
    ) -> None:
        """Record what is known of the run. A metric that is NaN is undefined and left out; None and
        infinity raise ValueError, because absent must never become a number. `artifacts` are
        files, and keep their names. `params` must be new: MLflow's cannot change."""
        from mlflow.entities import Metric, Param, RunTag

        values = defined_metrics(metrics or {})
        with explained(self._uri, f"record run {self.run_id}"):
            now_ms = time.time_ns() // 1_000_000
            self._client.log_batch(
                self.run_id,
                metrics=[Metric(name, value, now_ms, 0) for name, value in values.items()],
                tags=[RunTag(name, cut(value, TAG_LENGTH)) for name, value in (tags or {}).items()],
                params=[
                    Param(name, cut(as_text(value), PARAM_LENGTH))
                    for name, value in (params or {}).items()
                ],
                synchronous=True,
            )
            if dataset is not None:
                self._client.log_inputs(self.run_id, [_dataset_input(dataset)])
            for path in artifacts:
                self._client.log_artifact(self.run_id, str(path))

    def log_traces(self, traces: Sequence[TaskTrace], *, model: str) -> None:
        """Record the traces of tasks that `model` answered."""

        known_as = self._traces_as()

        def record(place: Place) -> None:
            log_traces(
                traces, uri=place.uri, experiment_id=place.experiment_id, run_id=place.run_id,
                known_as=known_as, model=model,
            )  # fmt: skip

        self._anywhere(record)

    def judge_traces(self, records: Sequence[TaskRecord]) -> None:
        """Add the verdicts of these samples to their traces."""

        known_as = self._traces_as()

        def record(place: Place) -> None:
            judge_traces(records, uri=place.uri, run_id=place.run_id, known_as=known_as)

        self._anywhere(record)

    def _traces_as(self) -> str:
        """The id that the run's traces are named after."""
        with explained(self._uri, f"read run {self.run_id}"):
            tags = self._client.get_run(self.run_id).data.tags
        return str(tags.get(TRACES_AS, self.run_id))

    def _anywhere(self, record: Callable[[Place], None]) -> None:
        """Do what MLflow's client has no function for, where the run is recorded."""
        if isinstance(self._client, ServedClient):
            self._client.anywhere(self.run_id, record)
            return
        record(
            Place(
                client=self._client, uri=self._uri, experiment_id=self._experiment_id,
                run_id=self.run_id,
            )
        )  # fmt: skip

    def finish(self, status: RunStatus) -> None:
        """End the run, if need be in room that was kept for this."""
        try:
            self._finish(status)
        except UserError:
            if not give_reserve(self._uri):
                raise
            self._finish(status)

    def _finish(self, status: RunStatus) -> None:
        with explained(self._uri, f"end run {self.run_id}"):
            self._client.set_terminated(self.run_id, status)
        self._processes.remove(self.run_id)


def defined_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that have a value; ValueError for one that is None or infinite."""
    for name, value in metrics.items():
        if value is None or isinstance(value, bool) or math.isinf(value):
            raise ValueError(
                f"metric {name} is {value}: leave out what was not measured, it is not a number"
            )
    return {name: float(value) for name, value in metrics.items() if not math.isnan(value)}


def _dataset_input(suite: Suite) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if suite.source.startswith("hub:"):
        repository, _, commit = suite.source.removeprefix("hub:").partition("@")
        kind, source = "hugging_face", {"path": repository, "revision": commit}
    else:
        kind, source = "local", {"uri": suite.source}
    return DatasetInput(
        Dataset(
            name=suite.name,
            digest=suite.checksum[:_DIGEST_LENGTH],
            source_type=kind,
            source=json.dumps(source),
        ),
        [InputTag("mlflow.data.context", "evaluation")],
    )


class Store:
    """One experiment of a tracking store, made by `prepare_store`. Everything goes through a client
    of its own: MLflow's global store, experiment and active run are neither read nor set. A store
    that fails raises `UserError`."""

    def __init__(
        self, client: "MlflowClient | ServedClient", *, uri: str, experiment: str,
        experiment_id: str, processes: Processes,
    ) -> None:  # fmt: skip
        self.uri = uri
        self.experiment = experiment
        self.experiment_id = experiment_id
        self._client = client
        self._processes = processes

    def start_sweep(self, name: str, overrides: Sequence[str], tags: Mapping[str, str]) -> str:
        """Make the parent run of a sweep; its run id."""
        own = {_KIND: "sweep", "codejoule.sweep": name, "codejoule.overrides": " ".join(overrides)}
        return self._create(name, {**own, **tags})

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to a run."""
        self._tracked(run_id).log(tags=tags)

    def end_sweep(self, run_id: str, status: RunStatus, *, keep: bool = True) -> None:
        """End the parent run of a sweep; MLflow lists one that is not kept among the deleted."""
        self._tracked(run_id).finish(status)
        if not keep:
            with explained(self.uri, f"delete run {run_id}"):
                self._client.delete_run(run_id)

    def withdraw(self, run_id: str, *, keep: bool) -> None:
        """Take back a run of which nothing has been done; one that was there before is kept."""
        self.end_sweep(run_id, "KILLED", keep=keep)

    def take_over(self, run_id: str, owner: str) -> None:
        """Close the run of an owner who has lost it to `owner`: what it still writes there is
        nobody's."""
        run = self._tracked(run_id)
        run.log(tags={TAKEN: f"{owner} has taken the run over"})
        run.finish("KILLED")

    def describe_sweep(
        self, run_id: str, *, note: str, metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        """Give the parent run of a sweep its figures, and the note (Markdown) that MLflow shows as
        its description."""
        self._tracked(run_id).log(metrics=metrics, tags={**tags, _NOTE: note})

    def start_run(
        self,
        *,
        name: str,
        parent_run_id: str | None,
        tags: Mapping[str, str],
        params: Mapping[str, object],
        resume_run_id: str | None = None,
    ) -> TrackedRun:
        """Make a run, or take up one that was broken off. A resumed run moves below `parent_run_id`
        where that is given, and keeps the params that it has (MLflow's params cannot change). A run
        to resume that is no longer in the store is made anew, with a warning: `TrackedRun.run_id`
        says which it is."""
        own = {_KIND: "run"} | ({PARENT: parent_run_id} if parent_run_id else {})
        known: set[str] = set()
        broken_off = self._find(resume_run_id) if resume_run_id else None
        if broken_off is None:
            run_id = self._create(name, {**own, **tags})
        else:
            run_id, known = broken_off.info.run_id, set(broken_off.data.params)
            self._take_up(run_id, {**own, **tags}, known_tags=set(broken_off.data.tags))
            self._under_way(run_id)
        tracked = self._tracked(run_id)
        try:
            self._log_params(run_id, {k: v for k, v in params.items() if k not in known})
        except UserError:
            with suppress(UserError):  # no other process knows of this run yet
                tracked.finish("FAILED")
            raise
        return tracked

    def describe_published(
        self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str], *, without: str
    ) -> None:
        """Bring what is said of a finished run of published figures up to date; the tag `without`
        no longer holds."""
        self._tracked(run_id).log(metrics=metrics, tags=tags)
        with explained(self.uri, f"record run {run_id}"):
            if without in self._client.get_run(run_id).data.tags:
                self._client.delete_tag(run_id, without)

    def metrics(self, run_id: str) -> dict[str, float]:
        """The metrics of a run."""
        with explained(self.uri, f"read run {run_id}"):
            return dict(self._client.get_run(run_id).data.metrics)

    @property
    def outbox(self) -> Outbox | None:
        """Where runs wait for the server; None for a store on disk."""
        return self._client.outbox if isinstance(self._client, ServedClient) else None

    @property
    def away(self) -> bool:
        """Whether it is a server's, which does not answer."""
        return isinstance(self._client, ServedClient) and self._client.server is None

    def located(self, run_ids: Iterable[str]) -> dict[str, set[str]]:
        """The ids of runs in the stores that they are read from, by the stores' addresses. Runs of
        a server that cannot be reached are left out."""
        if not isinstance(self._client, ServedClient):
            return {self.uri: set(run_ids)}
        found: dict[str, set[str]] = {}
        for place in filter(None, map(self._client.place, run_ids)):
            found.setdefault(place.uri, set()).add(place.run_id)
        return found

    def read(self, run_id: str) -> StoredRun | None:
        """What the store says of a run of this experiment; None where it has none."""
        run = self._get(run_id)
        return (
            None
            if run is None or run.info.experiment_id != self.experiment_id
            else (StoredRun.of(run))
        )

    def track(self, run_id: str) -> TrackedRun:
        """A run that is there, to record more of it."""
        return self._tracked(run_id)

    def fetch_artifact(self, run_id: str, name: str, folder: Path) -> Path | None:
        """Copy one artifact of a run into `folder`; None where the run has none of that name."""
        with explained(self.uri, f"read {name} of run {run_id}"):
            if all(file.path != name for file in self._client.list_artifacts(run_id)):
                return None
            return Path(self._client.download_artifacts(run_id, name, str(folder)))

    def unlisted(self, run_id: str, files: Sequence[Path]) -> list[str]:
        """The names of those `files` that the store does not list among the artifacts of a run with
        the size that they have here."""
        with explained(self.uri, f"list the artifacts of run {run_id}"):
            listed = {file.path: file.file_size for file in self._client.list_artifacts(run_id)}
        return [file.name for file in files if listed.get(file.name) != file.stat().st_size]

    def find_finished(self, fingerprint: str) -> str | None:
        """Run id of the latest finished run with this fingerprint, now or when it generated, whose
        samples are not still to be judged."""
        for tag in (FINGERPRINT, GENERATED_AS):
            for run in self._ended(tag, fingerprint):
                if run.tags.get(STAGE) != GENERATED:
                    return run.run_id
        return self._known(fingerprint, generated=False)

    def _known(self, fingerprint: str, *, generated: bool) -> str | None:
        """What is known here of the runs of a server that is away."""
        if not isinstance(self._client, ServedClient):
            return None
        return self._client.finished(fingerprint, generated=generated)

    def find_generated(self, fingerprint: str) -> str | None:
        """Run id of the latest run with this fingerprint whose samples are still to be judged."""
        found = self._ended(FINGERPRINT, fingerprint)
        own = next((run.run_id for run in found if run.tags.get(STAGE) == GENERATED), None)
        return own or self._known(fingerprint, generated=True)

    def find_configured(self, configuration: str) -> list[StoredRun]:
        """Every run of that configuration that has generated, whether judged or not, the latest
        first."""
        return [run for run in self._ended(CONFIGURATION, configuration) if STAGE in run.tags]

    def _ended(self, tag: str, value: str) -> list[StoredRun]:
        """Finished runs with this tag, the latest first."""
        # Only jobs have such tags: runs, and those that train.
        query = f"tags.`{tag}` = '{value}' and attributes.status = 'FINISHED'"
        with explained(self.uri, "search for finished runs"):
            runs = self._client.search_runs(
                [self.experiment_id], query, order_by=["attributes.end_time DESC"]
            )
        return [StoredRun.of(run) for run in runs]

    def latest_finished(self, *, most: int, name: str | None = None) -> list[StoredRun]:
        """The latest finished runs, `most` of them, the last to end first; of those with this
        `name` alone, where one is given. One search, which takes milliseconds for each run."""
        named = "" if name is None else f" and attributes.run_name = '{name}'"
        query = f"tags.`{_KIND}` = 'run' and attributes.status = 'FINISHED'{named}"
        with explained(self.uri, "search for finished runs"):
            runs = self._client.search_runs(
                [self.experiment_id], query, max_results=most, order_by=["attributes.end_time DESC"]
            )
        return [StoredRun.of(run) for run in runs]

    def find_unfinished(self, run_id: str | None) -> str | None:
        """`run_id` if it is a run of this experiment that was broken off; else None."""
        run = self._find(run_id) if run_id else None
        if run is None or run.info.status == "FINISHED":
            return None
        return str(run.info.run_id)

    def close_stale(self) -> list[str]:
        """Mark as KILLED what says RUNNING although its process on this host has died. The run ids
        that were marked; they can still be resumed."""
        closed = []
        for noted in self._processes.died():
            run = self._begun(noted) if "-" in noted else self._get(noted)
            if run is not None and run.info.status == "RUNNING":
                run_id = str(run.info.run_id)
                with explained(self.uri, f"end run {run_id}"):
                    self._client.set_terminated(run_id, "KILLED")
                closed.append(run_id)
            self._processes.remove(noted)
        return closed

    def _under_way(self, run_id: str) -> None:
        """Note that this process is behind the run; one that cannot be noted is not under way."""
        try:
            self._processes.add(run_id)
        except UserError:
            with suppress(UserError):
                self._tracked(run_id).finish("FAILED")
            raise

    def _tracked(self, run_id: str) -> TrackedRun:
        return TrackedRun(
            self._client, uri=self.uri, experiment_id=self.experiment_id,
            processes=self._processes, run_id=run_id,
        )  # fmt: skip

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        """Make a run that this process is behind. One that is killed before it has noted so is
        found by a tag, which it has noted before."""
        begun = f"{self.experiment_id}-{secrets.token_hex(8)}"
        self._processes.add(begun)
        own = {
            _BEGUN: begun,
            "mlflow.user": _user(),
            "mlflow.source.name": sys.argv[0],
            "mlflow.source.type": "LOCAL",
        }
        merged = {**own, _HOST: socket.gethostname(), **tags}
        with explained(self.uri, f"start run {name!r}"):
            run = self._client.create_run(
                self.experiment_id,
                run_name=name,
                tags={key: cut(value, TAG_LENGTH) for key, value in merged.items()},
            )
        run_id = str(run.info.run_id)
        self._under_way(run_id)
        self._processes.remove(begun)
        return run_id

    def _begun(self, begun: str) -> "Run | None":
        """The run with this tag."""
        experiment_id, _, _ = begun.partition("-")
        with explained(self.uri, "search for a run that was begun"):
            found = self._client.search_runs([experiment_id], f"tags.`{_BEGUN}` = '{begun}'")
        return next(iter(found), None)

    def _get(self, run_id: str) -> "Run | None":
        """A run that is in the store and not deleted."""
        from mlflow.exceptions import MlflowException

        with explained(self.uri, f"find run {run_id}"):
            try:
                run = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None
        return run if run.info.lifecycle_stage == "active" else None

    def _find(self, run_id: str) -> "Run | None":
        """The same run, if it is of this experiment; a run of another one is logged."""
        run = self._get(run_id)
        if run is not None and run.info.experiment_id == self.experiment_id:
            return run
        _log.warning("run %s is no longer in %s: it is recorded as a new run", run_id, self.uri)
        return None

    def _take_up(self, run_id: str, tags: Mapping[str, str], *, known_tags: set[str]) -> None:
        from mlflow.entities import RunTag

        merged = {_HOST: socket.gethostname(), **tags}
        with explained(self.uri, f"resume run {run_id}"):
            self._client.log_batch(
                run_id,
                tags=[RunTag(key, cut(value, TAG_LENGTH)) for key, value in merged.items()],
                synchronous=True,
            )
            if ERROR in known_tags:
                self._client.delete_tag(run_id, ERROR)
            self._client.update_run(run_id, status="RUNNING")

    def _log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        all_params = [Param(key, cut(as_text(v), PARAM_LENGTH)) for key, v in params.items()]
        with explained(self.uri, f"record the configuration of run {run_id}"):
            for start in range(0, len(all_params), PARAMS_PER_BATCH):
                batch = all_params[start : start + PARAMS_PER_BATCH]
                self._client.log_batch(run_id, params=batch, synchronous=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a uid that no passwd file knows.
        return "unknown"
