"""Running the real main job in a folder of its own."""

import gzip
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from tests import warm

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sweep:
    """A finished sweep."""

    folder: Path
    done: subprocess.CompletedProcess[str]

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlruns/mlflow.db"


def runs_of(experiment: str, folder: Path) -> list[Run]:
    """Every run in the store below `folder`."""
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    (found,) = client.search_experiments(filter_string=f"name = '{experiment}'")
    return list(client.search_runs([found.experiment_id]))


def left_by(experiment: str, folder: Path, name: str) -> list[Path]:
    """That artifact of each finished run in the store below `folder`."""
    found = [
        Path(run.info.artifact_uri.removeprefix("file://")) / name
        for run in runs_of(experiment, folder)
        if run.info.status == "FINISHED" and run.data.tags["codejoule.kind"] == "run"
    ]
    assert all(path.exists() for path in found), found
    return found


def entries_of(folder: Path) -> list[dict[str, Any]]:
    """The whole entries of the only journal below `folder`: beside the store, or, once its run has
    finished, in it. None before there is a journal."""
    for file in folder.glob("mlruns/journals/*/*/journal.jsonl"):
        with suppress(FileNotFoundError):  # the run has just finished
            lines = file.read_text(encoding="utf-8").split("\n")[:-1]
            return [json.loads(line) for line in lines]
    for file in folder.glob("mlruns/artifacts/*/artifacts/journal.jsonl.gz"):
        with gzip.open(file, "rt", encoding="utf-8") as text:
            return [json.loads(line) for line in text]
    return []


def run_main(
    folder: Path, *overrides: str, last: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """``python src/main.py`` with its store, outputs and sweeps below `folder`; `last` is an
    override that must come after these."""
    command = [*main(folder, *overrides), *([last] if last else [])]
    return warm.run(command, env=clean_env() | env)


def run_main_cold(folder: Path, *overrides: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The same, imports and all, as a user starts it."""
    return subprocess.run(
        [sys.executable, *main(folder, *overrides)],
        env=clean_env() | env,
        capture_output=True,
        text=True,
        check=False,
    )


def start_main(folder: Path, *overrides: str, new_session: bool = False, **env: str) -> warm.Job:
    """`run_main` without waiting for its end."""
    return warm.start(main(folder, *overrides), env=clean_env() | env, new_session=new_session)


def main(folder: Path, *overrides: str) -> list[str]:
    return [
        str(ROOT / "src" / "main.py"),
        *overrides,
        "meter=cpu_estimate",
        f"tracking.dir={folder}/mlruns",
        f"hydra.run.dir={folder}/outputs/${{now:%H-%M-%S-%f}}",
        f"hydra.sweep.dir={folder}/multirun/${{now:%H-%M-%S-%f}}",
    ]


def clean_env() -> dict[str, str]:
    """This environment without what would send the run elsewhere."""
    unwanted = ("MLFLOW_TRACKING_URI", "CODEJOULE_SWEEP_FILE", "HYDRA_FULL_ERROR")
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return kept | {"CUDA_VISIBLE_DEVICES": ""}


def children_running(pid: int, what: str) -> list[int]:
    """The children of a process whose command line has `what` in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_text()
        except (OSError, IndexError):
            continue
        if parent == pid and what in command:
            found.append(int(entry.name))
    return found
