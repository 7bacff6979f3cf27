"""From the outbox to the server: each run once, and all of it."""

import fcntl
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from codejoule.common.mlflow_client import READING, outage, patience, store_problem
from codejoule.common.progress import doing
from codejoule.config import UserError
from codejoule.config.schema import TrackingConfig, TrackingName
from codejoule.tracking.client import PARAMS_PER_BATCH
from codejoule.tracking.outbox import Outbox, Waiting
from codejoule.tracking.prepare import open_served, prepare_store
from codejoule.tracking.served import (
    ERROR,
    FINGERPRINT,
    PARENT,
    SERVER_RUN,
    TRACES_AS,
    UUID,
    Place,
    create_once,
    finished,
    noted,
    runs_of_uuid,
)
from codejoule.tracking.traces import copy_traces, traces_of

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric, Run

_KIND = "codejoule.kind"
_NAME = "mlflow.runName"
_AT_ONCE = 8
"""Requests that are on their way together."""
_TRIES = 3
"""How often a run is uploaded that changes meanwhile, or does not arrive as it was sent."""


@dataclass(slots=True, kw_only=True)
class Uploaded:
    """What an upload has done."""

    runs: int = 0
    """Jobs that the server has now confirmed."""
    sweeps: int = 0
    """Sweeps, the same."""
    files: int = 0
    """Artifacts that were sent for them."""
    file_bytes: int = 0
    """Their size [bytes]."""
    traces: int = 0
    """Traces that were sent for them."""
    under_way: list[str] = field(default_factory=list)
    """Names of runs that have not ended, and wait on."""
    failures: list[str] = field(default_factory=list)
    """What the server refused, a sentence each; they wait on."""


def upload(outbox: Outbox) -> Uploaded:
    """Send the server all that waits for it. What it has already is found by the tag `UUID` and is
    not sent again; a run is taken out of the outbox when the server's params, tags, metrics,
    datasets, traces and artifacts (their content) were found to be its own. It can be broken off
    and repeated at any moment, by several processes at once. Raises `UserError` where the server
    does not answer, or stops to."""
    done = Uploaded()
    with _alone(outbox):
        waiting = outbox.all_waiting()
        for experiment in dict.fromkeys(run.experiment for run in waiting):
            own = [run for run in waiting if run.experiment == experiment]
            _Upload(outbox, experiment, done).all(own)
    return done


@contextmanager
def _alone(outbox: Outbox) -> Iterator[None]:
    with (outbox.folder / ".upload").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            doing(f"waiting for another process that uploads from {outbox.folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """All of a run, as it is to be on the server."""

    name: str
    status: str
    end_time_ms: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: "Sequence[Metric]"
    inputs: "Sequence[DatasetInput]"
    files: Mapping[str, int]
    """Sizes of the artifacts [bytes], by their paths."""

    @property
    def ended(self) -> bool:
        return self.status in ("FINISHED", "FAILED", "KILLED")

    def same(self, other: "_Content") -> bool:
        """Whether nothing has been recorded since."""
        mine, theirs = (
            (each.status, each.tags, each.files, list(map(_point, each.metrics)))
            for each in (self, other)
        )
        return mine == theirs


class _Upload:
    """The upload of one experiment's runs."""

    def __init__(self, outbox: Outbox, experiment: str, done: Uploaded) -> None:
        # What a dead process has left behind has ended.
        tracking = TrackingConfig(
            name=TrackingName.server, uri=outbox.server, dir=str(outbox.tracking),
            experiment=experiment,
        )  # fmt: skip
        prepare_store(tracking).close_stale()
        served = open_served(outbox.tracking, outbox.server, experiment)
        if served.server is None:
            raise UserError(
                f"the tracking server {outbox.server} does not answer ({served.why}); nothing is "
                f"lost: {outbox.told()} when it is back"
            )
        self._outbox = outbox
        self._experiment = experiment
        self._done = done
        self._server = served.server
        self._local = served.local
        self._targets: dict[str, str] = {}

    def all(self, waiting: Sequence[Waiting]) -> None:
        """Upload them, parents first. Raises `UserError` where the server is lost."""
        runs = [(each, self._local.client.get_run(each.run_id)) for each in waiting]
        runs.sort(key=lambda run: (run[1].data.tags.get(_KIND) != "sweep", run[1].info.start_time))
        for number, (each, run) in enumerate(runs, start=1):
            doing("uploading runs", f"{number} of {len(runs)}: {run.info.run_name}")
            try:
                with patience(READING):
                    self._one(each, run)
            except Exception as error:
                from mlflow.exceptions import MlflowException

                if outage(error) is not None:
                    raise UserError(
                        f"the tracking server {self._outbox.server} stopped to answer "
                        f"({outage(error)}) at run {number} of {len(runs)}; what it has confirmed "
                        f"stays, and {self._outbox.command} goes on"
                    ) from error
                if not isinstance(error, MlflowException | OSError | UserError):
                    raise
                why = store_problem(self._outbox.server, error)
                self._done.failures.append(f"{run.info.run_name} ({each.run_id}): {why}")

    def _one(self, waiting: Waiting, run: "Run") -> None:
        sweep = run.data.tags.get(_KIND) == "sweep"
        if run.info.lifecycle_stage == "deleted":
            self._delete(waiting, run)
            return
        if waiting.whole and not self._content(waiting).ended:
            self._done.under_way.append(run.info.run_name)
            if not sweep:
                return
        target = self._target(waiting, run)
        self._targets[waiting.known_as] = target
        for _ in range(_TRIES):
            content = self._content(waiting)
            self._send(content, waiting, target)
            if self._same(content, waiting, target) and self._taken(content, waiting, target):
                break
        else:
            raise UserError(
                "the server's run is not the one that was sent, or it changes all the time; "
                f"compare it with run {target} there"
            )

    def _content(self, waiting: Waiting) -> _Content:
        client, run_id = self._local.client, waiting.run_id
        run = client.get_run(run_id)
        tags = {key: value for key, value in run.data.tags.items() if key != SERVER_RUN}
        if not waiting.whole:
            tags.pop(_NAME, None)
        if (parent := tags.get(PARENT)) is not None:
            tags[PARENT] = self._targets.get(parent, self._outbox.canonical(parent))
        metrics = [m for name in run.data.metrics for m in client.get_metric_history(run_id, name)]
        folder = self._files(waiting)
        paths = sorted(path for path in folder.glob("**/*") if path.is_file())
        return _Content(
            name=run.info.run_name,
            status=run.info.status,
            end_time_ms=run.info.end_time,
            tags=tags,
            params=run.data.params,
            metrics=metrics,
            inputs=run.inputs.dataset_inputs,
            files={str(path.relative_to(folder)): path.stat().st_size for path in paths},
        )

    def _files(self, waiting: Waiting) -> Path:
        return self._outbox.folder / "artifacts" / waiting.run_id / "artifacts"

    def _target(self, waiting: Waiting, run: "Run") -> str:
        """The server's run: the one that it was begun as, or that an earlier upload has made, or a
        new one."""
        if waiting.known_as != waiting.run_id and self._is_there(waiting.known_as):
            return waiting.known_as
        own = run.data.tags.get(UUID)
        if own is None:
            raise UserError(
                f"the server no longer has run {waiting.known_as}, of which only a part is here; "
                f"restore it there (mlflow runs restore --run-id {waiting.known_as})"
            )
        if not runs_of_uuid(self._server, own):
            tags = self._content(waiting).tags
            create_once(self._server, run.info.run_name, tags, run.info.start_time)
        # Whoever uploads the same elsewhere at this moment finds the same first one.
        first, *others = runs_of_uuid(self._server, own)
        for other in others:
            self._server.client.delete_run(other.info.run_id)
        return str(first.info.run_id)

    def _is_there(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            run = self._server.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return bool(run.info.lifecycle_stage == "active")

    def _delete(self, waiting: Waiting, run: "Run") -> None:
        """A run that was deleted here: a sweep in which nothing had to be done."""
        own = run.data.tags.get(UUID)
        there = [] if own is None else runs_of_uuid(self._server, own)
        for each in there:
            self._server.client.delete_run(each.info.run_id)
        self._outbox.uploaded(waiting, waiting.known_as)

    def _send(self, content: _Content, waiting: Waiting, target: str) -> None:
        """Send what the server's run lacks."""
        from mlflow.entities import Param, RunTag

        client, there = self._server.client, self._server.client.get_run(target)
        params = [Param(*item) for item in content.params.items() - there.data.params.items()]
        for start in range(0, len(params), PARAMS_PER_BATCH):
            client.log_batch(
                target, params=params[start : start + PARAMS_PER_BATCH], synchronous=True
            )
        known = set(self._history(target, content, there))
        named = {} if target == waiting.known_as else {TRACES_AS: waiting.known_as}
        tags = (named | dict(content.tags)).items() - there.data.tags.items()
        client.log_batch(
            target,
            metrics=[metric for metric in content.metrics if _point(metric) not in known],
            tags=[RunTag(*item) for item in tags],
            synchronous=True,
        )
        have = {_dataset(each) for each in there.inputs.dataset_inputs}
        if inputs := [each for each in content.inputs if _dataset(each) not in have]:
            client.log_inputs(target, inputs)
        sizes = dict(_listed(self._server, target))
        for path, size in content.files.items():
            if sizes.get(path) != size:
                above = str(Path(path).parent)
                file = self._files(waiting) / path
                with patience(READING.for_file(file)):
                    client.log_artifact(target, str(file), None if above == "." else above)
                self._done.files += 1
                self._done.file_bytes += size
        self._send_traces(waiting, target)
        if waiting.whole and ERROR in there.data.tags and ERROR not in content.tags:
            client.delete_tag(target, ERROR)  # it was continued, and has got over it
        if content.ended and _end(there) != (content.status, content.end_time_ms):
            client.set_terminated(target, content.status, content.end_time_ms)

    def _history(
        self, target: str, content: _Content, there: "Run"
    ) -> Iterator[tuple[str, float, int, int]]:
        names = {metric.key for metric in content.metrics} & there.data.metrics.keys()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            histories = list(
                pool.map(partial(self._server.client.get_metric_history, target), names)
            )
        for history in histories:
            yield from map(_point, history)

    def _send_traces(self, waiting: Waiting, target: str) -> None:
        own = traces_of(self._local, waiting.run_id)
        have = {
            trace.info.trace_id: len(trace.data.spans)
            for trace in (traces_of(self._server, target) if own else ())
        }
        missing = [
            trace for trace in own if have.get(trace.info.trace_id, -1) < len(trace.data.spans)
        ]
        copy_traces(missing, self._server, target)
        self._done.traces += len(missing)

    def _same(self, content: _Content, waiting: Waiting, target: str) -> bool:
        """Whether the server has all of it; the content of every file is read back."""
        there = self._server.client.get_run(target)
        sizes = dict(_listed(self._server, target))
        own = {trace.info.trace_id for trace in traces_of(self._local, waiting.run_id)}
        traces = {
            trace.info.trace_id
            for trace in (traces_of(self._server, target) if own else ())
            if trace.data.spans
        }
        metrics = set(map(_point, content.metrics))
        return (
            content.params.items() <= there.data.params.items()
            and content.tags.items() <= there.data.tags.items()
            and metrics <= set(self._history(target, content, there))
            and {*map(_dataset, content.inputs)} <= {*map(_dataset, there.inputs.dataset_inputs)}
            and own <= traces
            and content.files.items() <= sizes.items()
            and self._same_files(content.files, waiting, target)
            and (not content.ended or _end(there) == (content.status, content.end_time_ms))
        )

    def _same_files(self, paths: Iterable[str], waiting: Waiting, target: str) -> bool:
        def same(path: str) -> bool:
            with tempfile.TemporaryDirectory() as folder:
                back = Path(self._server.client.download_artifacts(target, path, folder))
                return _digest(back) == _digest(self._files(waiting) / path)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return all(pool.map(same, paths))

    def _taken(self, content: _Content, waiting: Waiting, target: str) -> bool:
        """Take the run out of the outbox, unless it has changed since, or has not ended."""
        if waiting.known_as == waiting.run_id:
            self._adopt_children(waiting.known_as, target)
        if waiting.whole and not content.ended:
            return True
        with self._outbox.held(alone=True):
            if not self._content(waiting).same(content):
                return False
            self._outbox.uploaded(waiting, target)
        there = self._server.client.get_run(target)
        sweep = there.data.tags.get(_KIND) == "sweep"
        self._done.sweeps += sweep
        self._done.runs += not sweep
        fingerprint = content.tags.get(FINGERPRINT)
        if content.status == "FINISHED" and fingerprint is not None:
            self._outbox.finish(self._experiment, fingerprint, finished(there))
        if content.status == "FINISHED":
            self._outbox.forget(target)
        elif content.ended:
            self._outbox.write_note(target, noted(there))
        self._clear(waiting)
        return True

    def _adopt_children(self, known_as: str, target: str) -> None:
        """Jobs that found the server back name the parent by the id that it had here."""
        query = f"tags.`{PARENT}` = '{known_as}'"
        for child in self._server.client.search_runs([self._server.experiment_id], query):
            self._server.client.set_tag(child.info.run_id, PARENT, target)

    def _clear(self, waiting: Waiting) -> None:
        """Give back the room that it took."""
        traces = [trace.info.trace_id for trace in traces_of(self._local, waiting.run_id)]
        if traces:
            self._local.client.delete_traces(self._local.experiment_id, trace_ids=traces)
        self._local.client.delete_run(waiting.run_id)
        rmtree(self._files(waiting).parent, ignore_errors=True)


def _point(metric: "Metric") -> tuple[str, float, int, int]:
    return metric.key, metric.value, metric.timestamp, metric.step


def _dataset(given: "DatasetInput") -> tuple[str, str]:
    return given.dataset.name, given.dataset.digest


def _end(run: "Run") -> tuple[str, int | None]:
    return run.info.status, run.info.end_time


def _listed(place: Place, run_id: str, path: str | None = None) -> Iterator[tuple[str, int]]:
    """The artifacts of a run, and their sizes [bytes]."""
    for each in place.client.list_artifacts(run_id, path):
        if each.is_dir:
            yield from _listed(place, run_id, each.path)
        else:
            yield each.path, each.file_size


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
