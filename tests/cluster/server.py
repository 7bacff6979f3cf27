"""MLflow on PostgreSQL with logins, as ``codejoule server`` starts it."""

import shutil
import sys
import urllib.request
from pathlib import Path

from tests.cluster.services import Services, free_port


class Server:
    """The server, running from `start` to `stop`."""

    def __init__(self, folder: Path) -> None:
        self.services = Services(folder)
        self.uri = f"http://127.0.0.1:{free_port()}"
        self._data = folder / "data"

    @staticmethod
    def lacks() -> list[str]:
        """What this host lacks for it."""
        found = shutil.which("postgres") or list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        return [] if found else ["postgresql"]

    @property
    def env(self) -> dict[str, str]:
        """What logs in."""
        password = (self._data / "admin-password").read_text(encoding="utf-8").strip()
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": password,
        }

    def start(self) -> None:
        """Start PostgreSQL and MLflow."""
        port = self.uri.rpartition(":")[2]
        options = ["--dir", self._data, "--port", port, "--workers", "2"]
        self.services.start(
            "server",
            [
                sys.executable,
                "-m",
                "codejoule",
                "server",
                *options,
            ],
        )
        self.services.wait_for("the server", self._answers, within_s=180)

    def stop(self) -> None:
        """End both."""
        self.services.stop()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return True
        except OSError:
            return False
