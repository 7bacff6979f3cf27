"""One tracking store for the tests of this room: MLflow's migrations take seconds."""

from pathlib import Path

import pytest

from codejoule.config.schema import TrackingConfig
from codejoule.tracking import prepare_store


@pytest.fixture(scope="session")
def tracking_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracking")
    prepare_store(TrackingConfig(dir=str(folder), experiment="unused"), project_root=folder)
    return folder
