"""Reading access to a tracking store, without its chatter, and with its failures as `UserError`."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from codejoule.common.mlflow_client import (
    READING,
    is_server,
    mlflow_client,
    patience,
    store_problem,
)

# Not from the package's face: analysis must not depend on what composes configurations.
from codejoule.config.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

_SQLITE = "sqlite:///"

MAKE_RUNS = "Make some with `codejoule run`"
"""What to do where there is nothing to analyse."""

FindArtifact = Callable[[str], Path | None]
"""From a run's id to one of its artifacts; None where it has none."""


@contextmanager
def reading(uri: str) -> Iterator["MlflowClient"]:
    """Open a tracking store, ``sqlite:///...`` or a server's address, for reading.

    Raises `UserError` if there is no such store, or if it fails while it is read.
    """
    database = Path(uri.removeprefix(_SQLITE))
    if not uri.startswith(_SQLITE) and not is_server(uri):
        raise UserError(
            f"{uri}: not the address of a tracking store; it looks like sqlite:///PATH/mlflow.db "
            "or http://host:5000"
        )
    if uri.startswith(_SQLITE) and not database.is_file():
        # MLflow would make an empty database there.
        what = "is a folder" if database.exists() else "does not exist"
        raise UserError(f"there are no runs yet: {database} {what}. {MAKE_RUNS}")
    try:
        with patience(READING):
            yield mlflow_client(uri)
    except Exception as error:
        from mlflow.exceptions import MlflowException

        if not isinstance(error, MlflowException | OSError):
            raise
        problem = store_problem(uri, error)
        raise UserError(f"cannot use the tracking store {uri}: {problem}") from error


@contextmanager
def artifacts(runs: "pd.DataFrame", name: str, *, uri: str) -> Iterator[FindArtifact]:
    """Find one artifact, e.g. ``tasks.parquet``, of any of `runs` (from `load_runs`).

    Files of a local store are used where they lie: a thousand downloads through MLflow take
    minutes. In a store that was moved or copied they lie beside its database, and not where it
    says. Others are downloaded and gone when the context ends. Raises `UserError` as `reading`.
    """
    places = dict(zip(runs["run_id"], runs["artifact_uri"], strict=True))
    with reading(uri) as client, tempfile.TemporaryDirectory() as scratch:

        def find(run_id: str) -> Path | None:
            if not _is_local(places[run_id]):
                return _download(client, run_id, name, Path(scratch) / run_id)
            path = _folder(uri, _path(places[run_id])) / name
            return path if path.is_file() else None

        yield find


def _download(client: "MlflowClient", run_id: str, name: str, folder: Path) -> Path | None:
    from mlflow.exceptions import MlflowException

    if (folder / name).exists():
        return folder / name
    folder.mkdir(exist_ok=True)
    try:
        if all(file.path != name for file in client.list_artifacts(run_id)):
            return None
        return Path(client.download_artifacts(run_id, name, str(folder)))
    except (MlflowException, OSError) as error:
        raise UserError(f"cannot read {name} of run {run_id}: {error}") from error


def relocated(store_uri: str, artifact_uris: Iterable[str]) -> Path | None:
    """Where a store that was moved or copied keeps the artifacts of its runs.

    `artifact_uris` are where the store says that they are. The folder beside the database has
    one folder per run; None where the store is right.
    """
    if not store_uri.startswith(_SQLITE):
        return None
    home = Path(store_uri.removeprefix(_SQLITE)).parent
    for recorded in (_path(uri) for uri in artifact_uris if _is_local(uri)):
        found = _folder(store_uri, recorded)
        if found != recorded:
            return found.parents[1]
        if not recorded.is_relative_to(home) and not recorded.parents[1].exists():
            return home / recorded.parents[1].name
    return None


def _is_local(artifact_uri: str) -> bool:
    return urlparse(artifact_uri).scheme in ("", "file")


def _path(artifact_uri: str) -> Path:
    return Path(unquote(urlparse(artifact_uri).path))


def _folder(store_uri: str, recorded: Path) -> Path:
    """The run's artifacts: at the same relative path near the database, else as recorded."""
    if store_uri.startswith(_SQLITE):
        home = Path(store_uri.removeprefix(_SQLITE)).parent
        # The last two parts are the run's id and "artifacts".
        for start in range(1, len(recorded.parts) - 1):
            moved = home.joinpath(*recorded.parts[start:])
            if moved.is_dir():
                return moved
    return recorded
