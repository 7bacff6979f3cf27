"""A store that is ready before the first job starts."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlparse

from codejoule.common.mlflow_client import BRIEF, OPENING, is_server, outage, patience
from codejoule.config import ConfigError, UserError, first_line
from codejoule.config.schema import TrackingConfig, TrackingName
from codejoule.tracking.client import OutageError, explained, keep_reserve, open_client
from codejoule.tracking.outbox import Outbox
from codejoule.tracking.process import Processes
from codejoule.tracking.served import Place, ServedClient
from codejoule.tracking.store import Store
from codejoule.tracking.views import TAG, view_tag

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient


def prepare_store(config: TrackingConfig) -> Store:
    """Open the configured store, making its database and experiment where they are missing. Safe
    when many processes do so at once. A server that does not answer within seconds is stood in for
    by its outbox. Raises `UserError` for a folder that cannot be written, a deleted experiment, a
    store of another MLflow version and a server that refuses; `ConfigError` for a folder name that
    no SQLite address can hold."""
    folder = config.folder
    if config.name is TrackingName.server:
        assert config.uri is not None, "the schema checks tracking.uri"
        address = quote(config.uri.rstrip("/"), safe="")
        processes = Processes(folder.absolute() / "processes" / address)
        served = open_served(folder.absolute(), config.uri, config.experiment)
        uri = (served.server or served.local).uri
        return Store(
            served, uri=uri, experiment=config.experiment, experiment_id=served.experiment_id,
            processes=processes,
        )  # fmt: skip
    folder = folder.resolve()
    place = _on_disk(folder, config.experiment)
    return Store(
        place.client, uri=place.uri, experiment=config.experiment,
        experiment_id=place.experiment_id, processes=Processes(folder / "processes" / "local"),
    )  # fmt: skip


def open_served(folder: Path, uri: str, experiment: str) -> ServedClient:
    """A client of the server at `uri`, with its outbox below the tracking `folder`. Raises as
    `prepare_store`."""
    if not is_server(uri):
        raise ConfigError(
            f"tracking.uri={uri}: not the address of a server; it looks like http://host:5000 "
            "(tracking=local needs none)"
        )
    outbox = Outbox(folder, uri)
    server, why = None, ""
    try:
        with patience(BRIEF if outbox.known_down else OPENING):
            client = open_client(uri)
            found = _experiment(client, uri, experiment, artifact_location=None)
        server = Place(client=client, uri=uri, experiment_id=found.experiment_id)
        outbox.note_up()
    except OutageError as error:
        why = outage(error) or ""
        outbox.note_down()
    except UserError as error:
        raise UserError(
            f"tracking.uri={uri}: the tracking server cannot be used: "
            f"{first_line(error.__cause__ or error)[:200]}. Check the address and "
            "your login, or use tracking=local"
        ) from error
    return ServedClient(
        outbox, server=server, why=why, experiment=experiment,
        open_local=partial(_on_disk, outbox.folder, experiment),
    )  # fmt: skip


def _on_disk(folder: Path, experiment: str) -> Place:
    if any(character in str(folder) for character in "%?#"):
        raise ConfigError(
            f"tracking.dir={folder}: MLflow cannot open a store below a folder with %, ? or # "
            "in its name; choose another folder"
        )
    uri = f"sqlite:///{folder}/mlflow.db"
    artifacts = (folder / "artifacts").as_uri()
    with _alone(folder):
        if not (folder / "mlflow.db").exists():
            _create_database(folder)
        client = open_client(uri)
        found = _experiment(client, uri, experiment, artifact_location=artifacts)
        keep_reserve(folder)
    place = urlparse(found.artifact_location)
    local = place.scheme in ("", "file")
    if local and not Path(unquote(place.path)).is_relative_to(folder):
        raise UserError(
            f"tracking store {uri}: experiment {experiment!r} keeps its artifacts in "
            f"{found.artifact_location}, outside this folder (was the store moved or copied?); "
            "move it back, or choose another name with tracking.experiment=..."
        )
    return Place(client=client, uri=uri, experiment_id=found.experiment_id)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the store's lock: MLflow's migrations fail when two processes run them at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise UserError(
            f"tracking.dir={folder}: cannot write there ({error.strerror}); make it writable or "
            "choose another folder with tracking.dir=..."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _create_database(folder: Path) -> None:
    """Make the database beside its place and move it there whole. A migration that is killed
    half-way leaves a database that MLflow 3.17 can neither open nor repair."""
    half = folder / "mlflow.db.new"
    half.unlink(missing_ok=True)
    open_client(f"sqlite:///{half}")
    half.rename(folder / "mlflow.db")


def _experiment(
    client: "MlflowClient", uri: str, name: str, *, artifact_location: str | None
) -> "Experiment":
    from mlflow.exceptions import MlflowException

    with explained(uri, f"open experiment {name!r}"):
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                client.create_experiment(name, artifact_location=artifact_location)
            except MlflowException as error:
                # On a server another machine may have been faster, because our lock does not reach
                # it.
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = client.get_experiment_by_name(name)
        if found.lifecycle_stage == "active" and TAG not in found.tags:
            client.set_experiment_tag(found.experiment_id, TAG, view_tag())
    if found.lifecycle_stage != "active":
        raise UserError(
            f"tracking.experiment={name}: this experiment was deleted in {uri}; restore it "
            f"(mlflow experiments restore --experiment-id {found.experiment_id}) or choose "
            "another name"
        )
    return found
