"""What this room uses of MLflow without its promise. `VERSIONS` says for which versions that was
tried; `tests/tracking/test_compat.py` fails by name where another one has changed it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from codejoule.config import UserError

VERSIONS = {"mlflow": "3.17"}


def record_move(database: Path, old: str, new: str) -> None:
    """Tell a store in a file that its artifacts, below `old` until now, are below `new`. MLflow has
    no call for it. Columns: ``experiments.artifact_location`` and ``runs.artifact_uri``, which
    begins with it."""
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
                (new, old),
            )
            connection.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
                "WHERE substr(artifact_uri, 1, ?) = ?",
                (new, len(old) + 1, len(old) + 1, f"{old}/"),
            )
    except sqlite3.Error as error:
        raise UserError(
            f"{database}: the store was moved, and where its artifacts are now cannot be recorded "
            f"in it: {error}"
        ) from error
