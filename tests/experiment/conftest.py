"""A store for each test, and one real sweep shared by those that look at what it left."""

import shutil
from pathlib import Path

import pytest

from tests.experiment.job import Sweep, run_main_cold


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Path:
    """A folder with a database, for jobs of this test."""
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_database, tmp_path / "mlruns")
    return tmp_path


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """quant=none,gptq4 x batch=b1,b8 on twelve tasks, whose canonical solutions are judged.

    In a fresh folder and a cold process: what a user's first sweep goes through.
    """
    folder = tmp_path_factory.mktemp("sweep")
    done = run_main_cold(
        folder, "-m", "quant=none,gptq4", "batch=b1,b8", "suite.limit=12",
        "evaluator.ground_truth=true", XDG_CACHE_HOME=str(folder / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Sweep(folder=folder, done=done)
