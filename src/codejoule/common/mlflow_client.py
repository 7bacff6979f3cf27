"""MLflow's client of one store, quiet, whatever the environment says of other stores."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from codejoule.config import UserError, full_disk

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_QUIET = {
    # Progress bars and links would break ours; telemetry needs a network nobody asked for.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# Exported for a server's database: in one of our own MLflow 3.17 would look for a workspace that
# nobody made, and read from another's replica.
_OF_SERVERS = ("MLFLOW_ENABLE_WORKSPACES", "MLFLOW_READ_REPLICA_BACKEND_STORE_URI")

_MAGIC = b"SQLite format 3\0"


def is_server(uri: str) -> bool:
    """Whether `uri` is the address of a tracking server."""
    try:
        parts = urlsplit(uri)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, half an IPv6 address
        return False


def mlflow_client(uri: str) -> "MlflowClient":
    """A client of the store at `uri` alone: MLflow's global store is neither read nor set. Raises
    `UserError` for a file that is no database and a variable that MLflow cannot read, and MLflow's
    own errors where the store cannot be opened."""
    if uri.startswith("sqlite:///"):
        _check_database(Path(uri.removeprefix("sqlite:///")))
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if uri.startswith("sqlite:"):
        for name in _OF_SERVERS:
            os.environ.pop(name, None)
    try:
        # MLflow imports what a kind of store needs when it opens one.
        from mlflow.tracking import MlflowClient

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            logging.getLogger("mlflow").setLevel(logging.WARNING)
        # It logs the traceback of every error of a database; we tell that error once.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except ValueError as error:
        raise UserError(
            f"MLflow cannot open {uri} ({error}); correct or unset the MLFLOW_ variable of the "
            "environment that says so"
        ) from error


@contextmanager
def patience(*, retries: int, timeout_s: int) -> Iterator[None]:
    """How long MLflow tries a server inside: its own defaults take minutes, which is right at the
    end of a run alone. Whatever the user has set stays."""
    names = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s),
    }
    added = names.keys() - os.environ.keys()
    os.environ.update({name: names[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _check_database(path: Path) -> None:
    """MLflow would try for minutes to open another file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) not in (_MAGIC, b""):
            raise UserError(f"{path}: no SQLite database; restore it, or move it away")


def store_problem(uri: str, error: Exception) -> str:
    """One sentence on why the store at `uri` failed."""
    text = str(error)
    local = uri.startswith("sqlite:///")
    full = full_disk(error, Path(uri.removeprefix("sqlite:///")))
    if full is not None:
        return full if local else f"the server's disk is full ({text.splitlines()[0]})"
    # SQLAlchemy puts its own advice and the statement around the database's words.
    lines = text.strip().splitlines() or ["no reason given"]
    return next((line for line in lines if re.match(r"\(\w+\.\w*Error\)", line)), lines[0])
