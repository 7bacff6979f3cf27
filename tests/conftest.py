"""What every room's tests share."""

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mlflow_server import Server

# Two test processes share two cores; for models as small as these, threads only wait for one
# another. Read when torch and numpy's libraries are imported, here and in processes from here.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in a script's background without interrupts, and all jobs from here too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Jobs of another test process, or of somebody else on this machine, are nobody these jobs meet.
_meeting_place = tempfile.TemporaryDirectory()
atexit.register(_meeting_place.cleanup)
os.environ["CODEJOULE_LOCK_DIR"] = _meeting_place.name


_frozen_modules = 0


def pytest_runtest_logfinish() -> None:
    """Take what was imported out of the garbage collector's sight.

    gptqmodel and our engines collect garbage with each model, and then look through torch,
    transformers and MLflow too: a third of a second, and a third of all time in some rooms.
    """
    global _frozen_modules
    if len(sys.modules) > _frozen_modules + 300:
        gc.collect()
        gc.freeze()
        _frozen_modules = len(sys.modules)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow's to copy: its migrations take a second each time."""
    from codejoule.config.schema import TrackingConfig
    from codejoule.tracking import prepare_store

    folder = tmp_path_factory.mktemp("database")
    # An experiment keeps the path of its artifacts: this one is nobody's.
    prepare_store(TrackingConfig(experiment="unused", dir=f"{folder}/mlruns"))
    return folder / "mlruns" / "mlflow.db"


@pytest.fixture(scope="session")
def with_database(empty_database: Path) -> Callable[[Path], Path]:
    """Puts an empty database where a project in the given folder has its own; the folder."""

    def project(folder: Path) -> Path:
        (folder / "mlruns").mkdir()
        shutil.copy(empty_database, folder / "mlruns")
        return folder

    return project


@pytest.fixture
def mlflow_server(tmp_path: Path, empty_database: Path) -> Iterator[Server]:
    """A server with an empty store, which is not started yet."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_database, folder)
    made = Server(folder)
    yield made
    made.kill()
