"""MLflow's client of one store, quiet, whatever the environment says of other stores."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
        # A lost server is told once, by us.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        # It logs the traceback of every error of a database; we tell that error once.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except ValueError as error:
        raise UserError(
            f"MLflow cannot open {uri} ({error}); correct or unset the MLFLOW_ variable of the "
            "environment that says so"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long MLflow tries a server. Its own defaults (3.17) take four minutes for each call of a
    server that is gone."""

    retries: int
    """How often a request is sent again; the second time after 2 s, the third after 4 s more."""
    timeout_s: int
    """How long one request waits for a connection, and for an answer."""

    def for_file(self, path: Path) -> "Patience":
        """With time for a server to store a file, at 4 MiB/s."""
        size_bytes = path.stat().st_size if path.exists() else 0
        return replace(self, timeout_s=self.timeout_s + size_bytes // 2**22)


BRIEF = Patience(retries=0, timeout_s=2)
"""For a server that did not answer a while ago."""
OPENING = Patience(retries=1, timeout_s=5)
"""For the first request."""
RECORDING = Patience(retries=2, timeout_s=10)
"""While a run is recorded: one that the server does not take is kept, and uploaded later."""
READING = Patience(retries=2, timeout_s=30)
"""For what nothing replaces."""


_ours: set[str] = set()
"""Variables of the environment that `patience` has set."""


@contextmanager
def patience(how: Patience) -> Iterator[None]:
    """How long MLflow tries a server inside. Whatever the user has set stays."""
    names = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(how.retries),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(how.timeout_s),
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        # A proxy before the server may name an hour.
        "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    }
    before = {name: os.environ.get(name) for name in names}
    added = {name for name, value in before.items() if value is None or name in _ours}
    os.environ.update({name: names[name] for name in added})
    new = added - _ours
    _ours.update(new)
    try:
        yield
    finally:
        _ours.difference_update(new)
        for name in added:
            value = before[name]
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_GONE = (502, 503, 504)
"""What a proxy says of a server that is not there, and MLflow's server of a lost database."""


def outage(error: BaseException) -> str | None:
    """Why a server cannot be reached, where `error`, or what led to it, says that: no connection,
    no answer in time, or the status 502, 503 or 504. None for all else that goes wrong, such as a
    refused login or request."""
    from mlflow.exceptions import MlflowException
    from requests import exceptions

    each: BaseException | None = error
    while each is not None:
        if isinstance(each, exceptions.SSLError):
            return None
        if isinstance(each, exceptions.Timeout):
            return "no answer in time"
        if isinstance(each, exceptions.RetryError):
            # urllib3 has counted the answers, and names the status of the last.
            status = re.search(r"too many (\d+) error responses", str(each))
            return f"status {status[1]}" if status and int(status[1]) in _GONE else None
        if isinstance(each, exceptions.HTTPError):
            code = None if each.response is None else each.response.status_code
            return f"status {code}" if code in _GONE else None
        if isinstance(each, exceptions.ConnectionError | exceptions.ChunkedEncodingError):
            return _connection_problem(str(each))
        if isinstance(each, MlflowException) and each.get_http_status_code() in _GONE:
            return f"status {each.get_http_status_code()}"
        each = each.__cause__ or each.__context__
    return None


def _connection_problem(text: str) -> str:
    if "refused" in text:
        return "connection refused"
    return "no such host" if "resolve" in text else "connection lost"


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
