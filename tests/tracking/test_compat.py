"""MLflow's tables have the columns that tell where artifacts are."""

import sqlite3
from contextlib import closing

from codejoule.tracking import compat
from tests.compat import holds


def test_the_columns_of_a_moved_store_are_there(store, tmp_path):
    (database,) = tmp_path.rglob("mlflow.db")
    with holds(compat, "mlflow", "record_move"), closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT artifact_location FROM experiments")
        connection.execute("SELECT artifact_uri FROM runs")
