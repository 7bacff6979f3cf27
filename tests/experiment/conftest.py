"""A store for each test, and one real sweep shared by those that look at what it left."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experiment.job import Sweep, run_main_cold


@pytest.fixture
def store(tmp_path: Path, with_database: Callable[[Path], Path]) -> Path:
    """A folder with a database, for the jobs of one test."""
    return with_database(tmp_path)


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
