"""A real MLflow server, with served artifacts, for tests: a process on an SQLite store."""

import os
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests import warm


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
        # Not at the top: the process runs this file, and has no such package.
        from tests import warm

        program = str(Path(__file__))
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


def serve(folder: Path, port: int) -> None:
    from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_JOB_EXECUTION
    from mlflow.server import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
    )

    os.environ |= {
        BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{folder}/mlflow.db",
        SERVE_ARTIFACTS_ENV_VAR: "true",
        ARTIFACTS_DESTINATION_ENV_VAR: (folder / "artifacts").as_uri(),
        ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION.name: "false",
    }
    import uvicorn
    from mlflow.server.fastapi_app import app

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
