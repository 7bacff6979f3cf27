"""Sweeps of the bundled model that the tests start, and what they leave in the store."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import mlflow
import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.experiment.job import clean_env

DEMO = ("quant=none,gptq8,gptq4", "batch=b1,b8", "suite.limit=12")
"""The sweep of ``make demo``, on fewer tasks."""
LONG = ("quant=none,gptq8", "batch=b4", "suite=starter_large", "suite.limit=80")
"""Jobs that take long enough to be killed meanwhile."""
_ENDS_S = 400.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class Found:
    """What a job has found, as hashes."""

    samples: str
    verdicts: str


Results = Mapping[str, Found]
"""By the names of the runs."""


class Started:
    """A sweep that runs."""

    def __init__(self, folder: Path, process: "subprocess.Popen[str]", said: IO[str]) -> None:
        self.folder = folder
        self.process = process
        self._said = said

    def ended(self, within_s: float = _ENDS_S) -> "subprocess.CompletedProcess[str]":
        """Wait for its end; standard output has all that it said."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"not within {within_s:.0f} s:\n{self.said()}") from None
        return subprocess.CompletedProcess(self.process.args, code, self.said(), "")

    def said(self) -> str:
        """What it has said until now."""
        self._said.seek(0)
        return self._said.read()

    def job_at_work(self, batches: int = 3) -> psutil.Process:
        """A process that runs a job of it and has at least so many batches done."""

        def found() -> psutil.Process | None:
            for process in psutil.process_iter():
                for journal in _journals_of(process):
                    if journal.is_relative_to(self.folder) and _batches(journal) >= batches:
                        return process
            return None

        return self.wait_for("a job at work", found)

    def wait_for(self, what: str, look: Callable[[], _T | None], within_s: float = 120) -> _T:
        """What `look` finds, as soon as it does."""
        deadline = time.monotonic() + within_s
        while not (result := look()):
            assert self.process.poll() is None, f"ended before {what}:\n{self.said()}"
            assert time.monotonic() < deadline, f"no {what}:\n{self.said()}"
            time.sleep(0.1)
        return result


def start(folder: Path, experiment: str, *overrides: str, **env: str) -> Started:
    """``codejoule run -m``, recorded on the server."""
    # Its own file: nobody reads a pipe meanwhile.
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115
    process = subprocess.Popen(
        [
            sys.executable, "-m", "codejoule", "run", "-m", *overrides, "meter=cpu_estimate",
            "tracking=server", f"tracking.experiment={experiment}",
        ],
        cwd=folder, env=clean_env() | _tracking() | env, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return Started(folder, process, said)


def _tracking() -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}


def runs(experiment: str, kind: str = "run") -> list[Run]:
    """The runs of an experiment on the server."""
    client = MlflowClient()
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    wanted = f"tags.`codejoule.kind` = '{kind}'"
    return list(client.search_runs([found.experiment_id], filter_string=wanted))


def results(experiment: str) -> Results:
    """What the jobs of an experiment have found: each has finished once, as a child of one
    parent."""
    found = runs(experiment)
    assert {run.info.status for run in found} == {"FINISHED"}
    named = {str(run.info.run_name): _hashes(run) for run in found}
    assert len(named) == len(found), "no job twice"
    return named


def _hashes(run: Run) -> Found:
    with tempfile.TemporaryDirectory() as folder:

        def text(name: str) -> str:
            place = mlflow.artifacts.download_artifacts(
                run_id=run.info.run_id, artifact_path=name, dst_path=folder
            )
            return Path(place).read_text(encoding="utf-8")

        samples, judged = text("samples.jsonl"), json.loads(text("eval_results.json"))
    verdicts = {task: [row["status"] for row in rows] for task, rows in judged["eval"].items()}
    return Found(_hash(samples), _hash(json.dumps(verdicts, sort_keys=True)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _journals_of(process: psutil.Process) -> list[Path]:
    try:
        files = process.open_files()
    except (psutil.Error, OSError):
        return []
    return [Path(file.path) for file in files if file.path.endswith("/journal.jsonl")]


def _batches(journal: Path) -> int:
    return journal.read_text(encoding="utf-8").count('"kind": "batch"')
