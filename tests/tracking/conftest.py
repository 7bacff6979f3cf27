"""A fresh store per test without running MLflow's migrations for each."""

import shutil
from pathlib import Path

import pytest

from codejoule.config.schema import TrackingConfig
from codejoule.tracking import Store, prepare_store


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Path:
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_database, tmp_path / "mlruns" / "mlflow.db")
    return tmp_path


@pytest.fixture
def store(project: Path) -> Store:
    return prepare_store(TrackingConfig(), project_root=project)
