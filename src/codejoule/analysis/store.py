"""Reading access to a tracking store, quiet, with its failures told as errors of ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.common.mlflow_client import is_server, mlflow_client, store_problem

# Not from the package's face: analysis must not depend on what composes configurations.
from codejoule.config.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# MLflow's own defaults try a dead server for four minutes.
_BRIEF = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}

MAKE_RUNS = "Make some with `make demo` or `python src/main.py`"
"""What to do where there is nothing to analyse."""


@contextmanager
def reading(uri: str) -> Iterator["MlflowClient"]:
    """Open a tracking store for reading.

    Parameters
    ----------
    uri : str
        ``sqlite:///...`` or the address of a tracking server.

    Yields
    ------
    mlflow.tracking.MlflowClient
        A client of that store alone.

    Raises
    ------
    UserError
        If there is no such store, or if it fails while it is read.
    """
    database = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") and not is_server(uri):
        raise UserError(
            f"{uri}: not the address of a tracking store; it looks like sqlite:///PATH/mlflow.db "
            "or http://host:5000"
        )
    if uri.startswith("sqlite:///") and not database.is_file():
        # MLflow would make an empty database there.
        what = "is a folder" if database.exists() else "does not exist"
        raise UserError(f"there are no runs yet: {database} {what}. {MAKE_RUNS}")
    added = [name for name in _BRIEF if name not in os.environ]
    os.environ.update({name: _BRIEF[name] for name in added})
    try:
        yield mlflow_client(uri)
    except Exception as error:
        from mlflow.exceptions import MlflowException

        if not isinstance(error, MlflowException | OSError):
            raise
        problem = store_problem(uri, error)
        raise UserError(f"cannot use the tracking store {uri}: {problem}") from error
    finally:
        for name in added:
            os.environ.pop(name, None)
