"""A run's artifacts as local files."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from codejoule.config.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


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
        a thousand downloads through MLflow take minutes.

    Raises
    ------
    UserError
        If a remote store fails.
    """
    from mlflow.exceptions import MlflowException

    parsed = urlparse(artifact_uri)
    if parsed.scheme in ("", "file"):
        path = Path(unquote(parsed.path)) / name
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
