"""One tracking store for the tests of this room."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tracking_folder(
    tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]
) -> Path:
    return with_database(tmp_path_factory.mktemp("tracking")) / "mlruns"
