"""MLflow's client, quiet, with its failures told as errors of ours, and texts that fit into it."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from codejoule.common.imports import importing
from codejoule.common.mlflow_client import mlflow_client, store_problem
from codejoule.config import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_BRIEF = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


def open_client(uri: str) -> "MlflowClient":
    """A client of one store. Raises `UserError` where the store cannot be opened."""
    with importing(), explained(uri, "open the store"):
        return mlflow_client(uri)


@contextmanager
def explained(uri: str, doing: str) -> Iterator[None]:
    """Turn a failing store (server gone, access denied, disk full) into a `UserError`. A value that
    MLflow refuses is a bug of ours and passes through."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise UserError(_failure(uri, doing, error)) from error
    except Exception as error:
        from mlflow.exceptions import MlflowException

        if not isinstance(error, MlflowException):
            raise
        deleted = "must be in the 'active' state" in str(error)
        if error.error_code == "INVALID_PARAMETER_VALUE" and not deleted:
            raise
        raise UserError(_failure(uri, doing, error)) from error


def _failure(uri: str, doing: str, error: Exception) -> str:
    if "mlflow db upgrade" in str(error):
        return (
            f"tracking store {uri} was written by an older MLflow: back it up, then run "
            f"`mlflow db upgrade {uri}`"
        )
    return (
        f"tracking store {uri}: cannot {doing}: {store_problem(uri, error)}. What the run has "
        "finished is in its journal: put the store right and start the same command again"
    )


@contextmanager
def brief_requests() -> Iterator[None]:
    """Let a server that does not answer fail within seconds. MLflow's own defaults try for minutes,
    which is right at the end of a run and wrong before its start. Whatever the user has set
    stays."""
    added = [name for name in _BRIEF if name not in os.environ]
    os.environ.update({name: _BRIEF[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


PARAMS_PER_BATCH = 100
"""Params (and tags) that MLflow takes at once."""
PARAM_LENGTH = 6000
"""Longest value of a param [characters]."""
TAG_LENGTH = 8000
"""Longest value of a tag [characters]."""


def as_text(value: object) -> str:
    """A configuration value as YAML shows it: ``null``, ``true``, ``1``, ``greedy``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def cut(text: str, limit: int) -> str:
    """`text` within `limit` characters; what was cut stays distinguishable by its hash."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    note = f"... ({len(text)} characters, sha256 {digest})"
    return text[: limit - len(note)] + note
