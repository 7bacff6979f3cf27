"""MLflow's client without its chatter, with its failures as `UserError`, and with texts cut to
fit."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.common.imports import importing
from codejoule.common.mlflow_client import is_server, mlflow_client, outage, store_problem
from codejoule.config import UserError, write_whole

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


class OutageError(UserError):
    """A server that cannot be reached."""


def open_client(uri: str) -> "MlflowClient":
    """A client of one store. Raises `UserError` where the store cannot be opened."""
    with importing(), explained(uri, "open the store"):
        return mlflow_client(uri)


@contextmanager
def explained(uri: str, doing: str) -> Iterator[None]:
    """Turn a failing store (access denied, disk full) into a `UserError`, and a server that cannot
    be reached into an `OutageError`. A value that MLflow refuses is a bug of ours and passes
    through."""
    try:
        yield
    except Exception as error:
        from mlflow.exceptions import MlflowException

        ours = (
            isinstance(error, MlflowException)
            and error.error_code == "INVALID_PARAMETER_VALUE"
            and "must be in the 'active' state" not in str(error)
        )
        if ours or not isinstance(error, MlflowException | OSError):
            raise
        if "mlflow db upgrade" in str(error):
            raise UserError(
                f"tracking store {uri} was written by an older MLflow: back it up, then run "
                f"`mlflow db upgrade {uri}`"
            ) from error
        kind = OutageError if is_server(uri) and outage(error) is not None else UserError
        raise kind(
            f"tracking store {uri}: cannot {doing}: {store_problem(uri, error)}. What the run has "
            "finished is in its journal: put the store right and start the same command again"
        ) from error


PARAMS_PER_BATCH = 100
"""How many params (and tags) MLflow takes at once."""
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


_RESERVE = ".reserve"
_RESERVE_BYTES = 2**16
"""More than SQLite takes to change one row."""


def keep_reserve(folder: Path) -> None:
    """Reserve room in a store's folder, so that the end of a run can be recorded when the disk is
    full. Does nothing where it is reserved already, or where there is none."""
    if not (folder / _RESERVE).exists():
        with suppress(UserError):
            # Random, since some file systems store zeros in no room at all.
            write_whole(folder / _RESERVE, os.urandom(_RESERVE_BYTES))


def give_reserve(uri: str) -> bool:
    """Release the room, once; whether there was any in the store at `uri`."""
    reserve = Path(uri.removeprefix("sqlite:///")).with_name(_RESERVE)
    if not uri.startswith("sqlite:///") or not reserve.exists():
        return False
    reserve.unlink()
    return True
