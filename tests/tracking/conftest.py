"""A fresh store per test without running MLflow's migrations for each."""

import os
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codejoule.config.schema import TrackingConfig
from codejoule.tracking import Store, prepare_store
from tests import warm


@pytest.fixture
def project(tmp_path: Path, with_database: Callable[[Path], Path]) -> Path:
    return with_database(tmp_path)


@pytest.fixture
def store(project: Path) -> Store:
    return prepare_store(TrackingConfig(dir=f"{project}/mlruns"))


class Server:
    """A real MLflow server, which can be killed and started again on its data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._job: warm.Job | None = None

    def start(self) -> None:
        program = str(Path(__file__).with_name("mlflow_server.py"))
        self._job = warm.start([program, str(self._folder), str(self.port)], env=dict(os.environ))
        end_s = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
            except OSError:
                if self._job.poll() is not None or time.monotonic() > end_s:
                    raise AssertionError(self._job.communicate()) from None
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        if self._job is not None:
            self._job.send_signal(signal.SIGKILL)
            self._job.wait()
            self._job = None


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[Server]:
    """A server with an empty store, which is not started yet."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_database, folder)
    made = Server(folder)
    yield made
    made.kill()
