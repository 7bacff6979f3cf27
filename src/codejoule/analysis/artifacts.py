"""A run's artifacts as local files."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from codejoule.config.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_SQLITE = "sqlite:///"


def artifact(
    client: "MlflowClient", *, run_id: str, artifact_uri: str, name: str, scratch: Path
) -> Path | None:
    """Find an artifact.

    Parameters
    ----------
    client : mlflow.tracking.MlflowClient
        Client of the store.
    run_id, artifact_uri : str
        The run, and where the store says its artifacts are.
    name : str
        The artifact, e.g. ``tasks.parquet``.
    scratch : pathlib.Path
        Folder for what has to be downloaded.

    Returns
    -------
    pathlib.Path or None
        The file; None where the run has none. Files of a local store are used where they lie:
        a thousand downloads through MLflow take minutes. In a store that was moved or copied
        they lie beside its database, and not where it says.

    Raises
    ------
    UserError
        If a remote store fails.
    """
    from mlflow.exceptions import MlflowException

    if _is_local(artifact_uri):
        path = _folder(client.tracking_uri, _path(artifact_uri)) / name
        return path if path.is_file() else None
    folder = scratch / run_id
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

    Parameters
    ----------
    store_uri : str
        The store.
    artifact_uris : iterable of str
        Where it says that those of its runs are.

    Returns
    -------
    pathlib.Path or None
        Folder with one folder per run, beside the database; None where the store is right.
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
    """The run's artifacts: at the same relative path beside the database, else as recorded."""
    if store_uri.startswith(_SQLITE):
        home = Path(store_uri.removeprefix(_SQLITE)).parent
        # The last two parts are the run's id and "artifacts".
        for start in range(1, len(recorded.parts) - 1):
            beside = home.joinpath(*recorded.parts[start:])
            if beside.is_dir():
                return beside
    return recorded
