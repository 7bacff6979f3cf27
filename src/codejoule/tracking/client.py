"""MLflow's client, quiet, with its failures told as errors of ours."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from codejoule.config import UserError, importing

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_QUIET = {
    # Progress bars and links would break ours; telemetry needs a network nobody asked for.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

_BRIEF = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


def open_client(uri: str) -> "MlflowClient":
    """A client of one store; the environment and MLflow's own global store are not consulted.

    Raises `UserError` where the store cannot be opened.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # MLflow imports what a kind of store needs when it opens one.
    with importing():
        from mlflow.tracking import MlflowClient

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            logging.getLogger("mlflow").setLevel(logging.WARNING)
        with explained(uri, "open the store"):
            return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def explained(uri: str, doing: str) -> Iterator[None]:
    """Turn a failing store (server gone, access denied, disk full) into a `UserError`.

    A value that MLflow refuses is a bug of ours and passes through.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        deleted = "must be in the 'active' state" in str(error)
        if error.error_code == "INVALID_PARAMETER_VALUE" and not deleted:
            raise
        raise UserError(_failure(uri, doing, str(error))) from error
    except OSError as error:
        raise UserError(_failure(uri, doing, str(error))) from error


def _failure(uri: str, doing: str, cause: str) -> str:
    first_line = cause.strip().splitlines()[0] if cause.strip() else "no reason given"
    if "mlflow db upgrade" in cause:
        return (
            f"tracking store {uri} was written by an older MLflow: back it up, then run "
            f"`mlflow db upgrade {uri}`"
        )
    return (
        f"tracking store {uri}: cannot {doing}: {first_line}. What the run has finished is in its "
        "journal: put the store right and start the same command again"
    )


@contextmanager
def brief_requests() -> Iterator[None]:
    """Let a server that does not answer fail within seconds.

    MLflow's own defaults try for minutes, which is right at the end of a run and wrong
    before its start. Whatever the user has set stays.
    """
    added = [name for name in _BRIEF if name not in os.environ]
    os.environ.update({name: _BRIEF[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
