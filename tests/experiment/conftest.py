"""One real sweep of the bundled model, shared by the tests that look at what it left."""

import pytest

from tests.experiment.job import Sweep, run_main


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """quant=none,gptq4 x batch=b1,b8 on twelve tasks, whose canonical solutions are judged."""
    folder = tmp_path_factory.mktemp("sweep")
    done = run_main(
        folder, "-m", "quant=none,gptq4", "batch=b1,b8", "suite.limit=12",
        "evaluator.ground_truth=true", XDG_CACHE_HOME=str(folder / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Sweep(folder=folder, done=done)
