"""Reading access to a tracking store, quiet, with its failures told as errors of ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

# Not from the package's face: analysis must not depend on what composes configurations.
from codejoule.config.errors import UserError
from codejoule.config.mlflow_client import mlflow_client, store_problem

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
    if uri.startswith("sqlite:///") and not database.exists():
        # MLflow would make an empty database there.
        raise UserError(f"there are no runs yet: {database} does not exist. {MAKE_RUNS}")
    added = [name for name in _BRIEF if name not in os.environ]
    os.environ.update({name: _BRIEF[name] for name in added})
    try:
        client = mlflow_client(uri)
        from mlflow.exceptions import MlflowException

        try:
            yield client
        except (MlflowException, OSError) as error:
            raise UserError(
                f"cannot use the tracking store {uri}: {store_problem(uri, error)}"
            ) from error
    finally:
        for name in added:
            os.environ.pop(name, None)
