"""A fresh store per test without running MLflow's migrations for each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from codejoule.config.schema import TrackingConfig
from codejoule.tracking import Store, prepare_store


@pytest.fixture
def project(tmp_path: Path, with_database: Callable[[Path], Path]) -> Path:
    return with_database(tmp_path)


@pytest.fixture
def store(project: Path) -> Store:
    return prepare_store(TrackingConfig(dir=f"{project}/mlruns"))
