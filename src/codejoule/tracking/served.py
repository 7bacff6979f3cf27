"""MLflow's client of a server that may go away at any moment."""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from codejoule.common.mlflow_client import RECORDING, outage, patience
from codejoule.config import UserError
from codejoule.tracking.client import (
    PARAMS_PER_BATCH,
    OutageError,
    explained,
    give_reserve,
)
from codejoule.tracking.outbox import Finished, Note, Outbox, Waiting

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, Run, RunTag
    from mlflow.tracking import MlflowClient

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

PARENT = "mlflow.parentRunId"
UUID = "codejoule.uuid"
"""Tag of every run that is begun for a server: by it an upload finds what is there already."""
TRACES_AS = "codejoule.traces_as"
"""Tag of an uploaded run: the id that it had before, which its traces are named after."""
SERVER_RUN = "codejoule.server_run"
"""Tag of a run in the outbox that was begun on the server: its id there."""
FINGERPRINT = "codejoule.fingerprint"
GENERATED_AS = "codejoule.fingerprint_generated"
"""Tag with the fingerprint that a run was generated with, where it was judged otherwise."""
STAGE = "codejoule.stage"
"""Tag that says how far a finished run has gone: `GENERATED` or `JUDGED`."""
GENERATED = "generated"
"""Its samples are in the store, and no verdicts on them."""
JUDGED = "judged"
ERROR = "codejoule.error"
_ENDED = ("FINISHED", "FAILED", "KILLED")
_OF_A_RUN = frozenset(
    ("log_inputs", "set_tag", "log_metric", "log_param", "log_dict", "log_text",
     "log_artifacts")
)  # fmt: skip
"""MLflow's functions that are passed on as they are; a run's id is their first argument."""
_READING = frozenset(("list_artifacts", "download_artifacts", "get_metric_history"))
"""The same, of those that change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run is recorded."""

    client: "MlflowClient"
    """A client of that store."""
    uri: str
    """The store's address."""
    experiment_id: str
    """Its experiment there."""
    run_id: str = ""
    """The run's id there."""


class ServedClient:
    """The part of ``MlflowClient`` that records runs, for one experiment of a server.

    As long as the server answers it is the server's. From the first request on that fails for an
    outage (`outage`), runs are recorded in the outbox: new ones, and whole, from what is remembered
    of them, those that were begun on the server. They keep the ids that they are known by. Every
    such run is told in a line. Errors that are no outage are raised as MLflow raises them; what the
    outbox itself cannot do is a `UserError`.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        server: Place | None,
        why: str = "",
        experiment: str,
        open_local: Callable[[], Place],
    ) -> None:
        """`server` is None where it is known to be away, and `why` says how that shows.
        `open_local` opens the outbox's store, making it where it is missing."""
        self.outbox = outbox
        self._server = server
        self._why = why
        self._experiment = experiment
        self._open_local = open_local
        self.experiment_id = (server or self.local).experiment_id
        """What the experiment is known by here, whichever store has a run."""
        self._done: dict[str, list[tuple[Callable[[Place], object], Path | None]]] = {}

    @property
    def server(self) -> Place | None:
        """The server; None once it was found not to answer."""
        return self._server

    @cached_property
    def local(self) -> Place:
        """The outbox's own store."""
        return self._open_local()

    @property
    def why(self) -> str:
        """How it shows that the server is away."""
        return self._why

    def place(self, run_id: str) -> Place | None:
        """Where a run is recorded; None for one of the server's that cannot be reached."""
        known_as = self.outbox.canonical(run_id)
        waiting = self.outbox.waiting(known_as)
        if waiting is not None:
            return replace(self.local, run_id=waiting.run_id)
        return None if self._server is None else replace(self._server, run_id=known_as)

    def anywhere(self, run_id: str, work: Callable[[Place], _T], *, file: Path | None = None) -> _T:
        """Record something of a run: by `work`, which is done once more, in the outbox, where the
        server goes away later. `file` is what it needs: it is not done again without it."""
        known_as = self.outbox.canonical(run_id)
        if self._server is not None and self.outbox.waiting(known_as) is None:
            try:
                with patience(RECORDING if file is None else RECORDING.for_file(file)):
                    found = work(replace(self._server, run_id=known_as))
            except Exception as error:
                self._lose(error)
            else:
                self._done.setdefault(known_as, []).append((work, file))
                return found
        with self.outbox.held(alone=False):
            known_as = self.outbox.canonical(known_as)  # it may have been uploaded just now
            place = self._kept(known_as)
            with explained(place.uri, f"record run {known_as}"):
                return work(place)

    def __getattr__(self, name: str) -> Any:
        if name in _READING:
            return partial(self._read, name)
        if name not in _OF_A_RUN:
            raise AttributeError(name)
        return partial(self._pass_on, name)

    def _read(self, name: str, run_id: str, *args: Any, **kwargs: Any) -> Any:
        place = self.place(run_id)
        if place is None:
            raise OutageError(
                f"the tracking server {self.outbox.server} does not answer ({self._why}), which "
                f"has run {run_id}; start the same command again when it does"
            )
        with patience(RECORDING):
            return getattr(place.client, name)(place.run_id, *args, **kwargs)

    def _pass_on(self, name: str, run_id: str, *args: Any, **kwargs: Any) -> Any:
        return self.anywhere(
            run_id, lambda place: getattr(place.client, name)(place.run_id, *args, **kwargs)
        )

    def log_batch(
        self,
        run_id: str,
        metrics: "Sequence[Metric]" = (),
        params: "Sequence[Param]" = (),
        tags: "Sequence[RunTag]" = (),
        synchronous: bool | None = None,
    ) -> None:
        """MLflow's, and a note of what a run is begun with."""
        self.anywhere(
            run_id,
            lambda place: place.client.log_batch(
                place.run_id, metrics, params, self._at_home(tags), synchronous=synchronous
            ),
        )
        known_as = self.outbox.canonical(run_id)
        if not params and not tags:
            return
        note = self.outbox.note(known_as)
        if note is not None:
            self.outbox.write_note(
                known_as,
                replace(
                    note,
                    params={**note.params, **{each.key: each.value for each in params}},
                    tags={**note.tags, **{each.key: each.value for each in tags}},
                ),
            )
        elif any(each.key == STAGE for each in tags):  # a finished run, which has been judged
            self._note_finished(known_as)

    def log_artifact(self, run_id: str, local_path: str) -> None:
        """MLflow's."""
        self.anywhere(
            run_id,
            lambda place: place.client.log_artifact(place.run_id, local_path),
            file=Path(local_path),
        )

    def delete_tag(self, run_id: str, key: str) -> None:
        """MLflow's; a tag that is not there is none that is missing."""
        from mlflow.exceptions import MlflowException

        def delete(place: Place) -> None:
            try:
                place.client.delete_tag(place.run_id, key)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise

        self.anywhere(run_id, delete)
        known_as = self.outbox.canonical(run_id)
        note = self.outbox.note(known_as)
        if note is not None:
            kept = {name: value for name, value in note.tags.items() if name != key}
            self.outbox.write_note(known_as, replace(note, tags=kept))

    def create_run(self, experiment_id: str, *, run_name: str, tags: Mapping[str, str]) -> "Run":
        """MLflow's, in this client's experiment."""
        start_ms = _now_ms()
        tags = {**tags, UUID: uuid.uuid4().hex}
        if PARENT in tags:
            tags[PARENT] = self.outbox.canonical(tags[PARENT])
        if self._server is not None:
            try:
                run = create_once(self._server, run_name, tags, start_ms)
            except Exception as error:
                self._lose(error)
            else:
                note = Note(
                    name=run_name, start_time_ms=start_ms, status="RUNNING", tags=tags, params={}
                )
                self.outbox.write_note(run.info.run_id, note)
                return run
        kept = self._create_local(run_name, tags, start_ms)
        self.outbox.add(
            Waiting(known_as=kept, run_id=kept, experiment=self._experiment, whole=True)
        )
        self._tell(run_name)
        return self.get_run(kept)

    def _create_local(self, name: str, tags: Mapping[str, str], start_ms: int) -> str:
        local = self.local
        with explained(local.uri, f"start run {name!r}"):
            run = local.client.create_run(
                local.experiment_id, start_time=start_ms, tags=tags, run_name=name
            )
        return str(run.info.run_id)

    def get_run(self, run_id: str) -> "Run":
        """MLflow's. While the server is away, a run of the server's is told from what this folder
        knows of it."""
        known_as = self.outbox.canonical(run_id)
        waiting = self.outbox.waiting(known_as)
        if waiting is not None:
            with explained(self.local.uri, f"find run {known_as}"):
                return self._known_as(self.local.client.get_run(waiting.run_id), known_as)
        if self._server is not None:
            try:
                with patience(RECORDING):
                    return self._server.client.get_run(known_as)
            except Exception as error:
                self._lose(error)
        return self._remembered(known_as)

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        *,
        max_results: int = 1000,
        order_by: Sequence[str] = (),
    ) -> "list[Run]":
        """MLflow's, in this client's experiment: the server's runs first, then the outbox's."""
        found: list[Run] = []
        asked = {"max_results": max_results, "order_by": list(order_by)}
        if self._server is not None:
            try:
                with patience(RECORDING):
                    there = self._server.client.search_runs(
                        [self._server.experiment_id], filter_string, **asked
                    )
                found = list(there)
            except Exception as error:
                self._lose(error)
        waiting = {run.run_id: run.known_as for run in self.outbox.all_waiting()}
        if waiting:
            local = self.local
            with explained(local.uri, "search for runs"):
                here = local.client.search_runs([local.experiment_id], filter_string, **asked)
            own = [run for run in here if run.info.run_id in waiting]
            found += [self._known_as(run, waiting[run.info.run_id]) for run in own]
        return found[:max_results]

    def finished(self, fingerprint: str, *, generated: bool) -> str | None:
        """While the server is away: the run with this fingerprint that had finished there before,
        or `generated` alone, as far as this folder knows."""
        if self._server is not None:
            return None
        known = self.outbox.finished(self._experiment, fingerprint)
        return None if known is None or known.generated is not generated else known.run_id

    def update_run(self, run_id: str, status: str) -> None:
        """MLflow's; a run of the server's that is taken up again is noted."""
        self.anywhere(run_id, lambda place: place.client.update_run(place.run_id, status=status))
        if self._server is None:
            return
        run = self.get_run(run_id)
        if self._server is not None and self.outbox.waiting(run.info.run_id) is None:
            self.outbox.write_note(run.info.run_id, noted(run))

    def set_terminated(self, run_id: str, status: str, end_time: int | None = None) -> None:
        """MLflow's."""
        end_ms = _now_ms() if end_time is None else end_time

        def end(place: Place) -> None:
            place.client.set_terminated(place.run_id, status, end_ms)

        try:
            self.anywhere(run_id, end)
        except UserError:
            if self._server is not None or not give_reserve(self.local.uri):
                raise
            self.anywhere(run_id, end)
        known_as = self.outbox.canonical(run_id)
        note = self.outbox.note(known_as)
        if note is None or self.outbox.waiting(known_as) is not None:
            return
        if status == "FINISHED":
            self.outbox.forget(known_as)
            self._note_finished(known_as)
        else:
            self.outbox.write_note(known_as, replace(note, status=status, end_time_ms=end_ms))

    def _note_finished(self, known_as: str) -> None:
        """Keep what must be known of a finished run of the server's while that is away."""
        if self._server is None:
            return
        run = self.get_run(known_as)
        if self._server is not None and run.info.status == "FINISHED":
            for tag in (FINGERPRINT, GENERATED_AS):
                if (fingerprint := run.data.tags.get(tag)) is not None:
                    self.outbox.finish(self._experiment, fingerprint, finished(run))

    def delete_run(self, run_id: str) -> None:
        """MLflow's."""
        self.anywhere(run_id, lambda place: place.client.delete_run(place.run_id))
        self.outbox.forget(self.outbox.canonical(run_id))

    def _lose(self, error: Exception) -> None:
        """The server is away from now on; raises `error` where it says something else."""
        why = outage(error)
        if why is None:
            raise error
        self._server, self._why = None, why
        self.outbox.note_down()

    def _kept(self, known_as: str) -> Place:
        """The run in the outbox; one that was begun on the server is put there as it is known."""
        waiting = self.outbox.waiting(known_as)
        if waiting is not None:
            return replace(self.local, run_id=waiting.run_id)
        note = self.outbox.note(known_as)
        name = known_as if note is None else note.name
        tags = {} if note is None else dict(note.tags)
        start_ms = _now_ms() if note is None else note.start_time_ms
        own = self._create_local(name, {**tags, SERVER_RUN: known_as}, start_ms)
        place = replace(self.local, run_id=own)
        with explained(place.uri, f"record run {known_as}"):
            self._repeat(known_as, note, place)
        waiting = self.outbox.add(
            Waiting(
                known_as=known_as,
                run_id=own,
                experiment=self._experiment,
                whole=note is not None,
            )
        )
        if waiting.run_id != own:
            place.client.delete_run(own)
        self._tell(name)
        return replace(place, run_id=waiting.run_id)

    def _repeat(self, known_as: str, note: Note | None, place: Place) -> None:
        """Record what the server has been told of the run before."""
        from mlflow.entities import Param

        if note is not None:
            params = [Param(key, value) for key, value in note.params.items()]
            for start in range(0, len(params), PARAMS_PER_BATCH):
                batch = params[start : start + PARAMS_PER_BATCH]
                place.client.log_batch(place.run_id, params=batch, synchronous=True)
            if note.status in _ENDED:
                place.client.set_terminated(place.run_id, note.status, note.end_time_ms)
        for work, file in self._done.get(known_as, ()):
            if file is None or file.exists():
                work(place)

    def _remembered(self, known_as: str) -> "Run":
        """What is known here of a run of a server that is away. One of which nothing is known was
        broken off: to continue it measures nothing twice."""
        finished = self.outbox.finished_as(self._experiment, known_as)
        if finished is not None:
            empty = Note(name=known_as, start_time_ms=0, status="FINISHED", tags={}, params={})
            return _run(empty, known_as, self.experiment_id, metrics=finished.metrics)
        unknown = Note(name=known_as, start_time_ms=0, status="KILLED", tags={}, params={})
        return _run(self.outbox.note(known_as) or unknown, known_as, self.experiment_id)

    def _known_as(self, run: "Run", known_as: str) -> "Run":
        from mlflow.entities import Run

        return Run(_info(run, known_as, self.experiment_id), run.data, run.inputs)

    def _at_home(self, tags: "Iterable[RunTag]") -> "list[RunTag]":
        """Tags that name a parent by the id which the server has for it, where it has one."""
        from mlflow.entities import RunTag

        return [
            RunTag(each.key, self.outbox.canonical(each.value)) if each.key == PARENT else each
            for each in tags
        ]

    def _tell(self, name: str) -> None:
        _log.warning(
            "%s is kept in %s, since the tracking server %s does not answer (%s); %s uploads it",
            name, self.outbox.folder, self.outbox.server, self._why, self.outbox.command,
        )  # fmt: skip


def create_once(place: Place, name: str, tags: Mapping[str, str], start_ms: int) -> "Run":
    """Make a run on a server; its `UUID` is among the tags. A request that fails may have made it
    all the same, so it is not simply sent again."""

    def create() -> "Run":
        with patience(replace(RECORDING, retries=0)):
            return place.client.create_run(
                place.experiment_id, start_time=start_ms, tags=dict(tags), run_name=name
            )

    try:
        return create()
    except Exception as error:
        if outage(error) is None:
            raise
    with patience(RECORDING):
        there = runs_of_uuid(place, tags[UUID])
    return there[0] if there else create()


def runs_of_uuid(place: Place, own: str) -> "list[Run]":
    """The runs that carry this `UUID`, the one to keep first: where a request was sent twice there
    may be two, and everybody must keep the same."""
    found = place.client.search_runs([place.experiment_id], f"tags.`{UUID}` = '{own}'")
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def finished(run: "Run") -> Finished:
    """What must be known of a finished run of the server's while that is away."""
    return Finished(
        run_id=run.info.run_id,
        metrics=dict(run.data.metrics),
        generated=run.data.tags.get(STAGE) == GENERATED,
    )


def noted(run: "Run") -> Note:
    """What a run of the server's is, to go on without it."""
    return Note(
        name=run.info.run_name,
        start_time_ms=run.info.start_time,
        end_time_ms=run.info.end_time,
        status=run.info.status,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
    )


def _run(
    note: Note, run_id: str, experiment_id: str, *, metrics: Mapping[str, float] | None = None
) -> "Run":
    from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

    info = RunInfo(
        run_id=run_id, experiment_id=experiment_id, user_id="", status=note.status,
        start_time=note.start_time_ms, end_time=None, lifecycle_stage="active",
        run_name=note.name,
    )  # fmt: skip
    data = RunData(
        metrics=[Metric(key, value, 0, 0) for key, value in (metrics or {}).items()],
        params=[Param(key, value) for key, value in note.params.items()],
        tags=[RunTag(key, value) for key, value in note.tags.items()],
    )
    return Run(info, data)


def _info(run: "Run", run_id: str, experiment_id: str) -> Any:
    from mlflow.entities import RunInfo

    own = run.info
    return RunInfo(
        run_id=run_id, experiment_id=experiment_id, user_id=own.user_id, status=own.status,
        start_time=own.start_time, end_time=own.end_time, lifecycle_stage=own.lifecycle_stage,
        artifact_uri=own.artifact_uri, run_name=own.run_name,
    )  # fmt: skip


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
