"""A model in a child process of its own, and what becomes of one that dies."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experiment.job import Sweep, run_main, runs_of, start_main

JOBS = ("batch=b1,b8", "suite.limit=24", "evaluator=none")


def child_of(pid: int) -> int | None:
    """The process that holds the model, once it is there."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_text()
        except (OSError, IndexError):
            continue
        if parent == pid and "codejoule.experiment.isolation" in command:
            return int(entry.name)
    return None


def journal_of(folder: Path) -> str:
    texts = [file.read_text() for file in folder.glob("mlruns/journals/*/*/journal.jsonl")]
    return texts[0] if texts else ""


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]
) -> Sweep:
    """A sweep of two jobs, whose first was killed in the process that held the model."""
    folder = with_database(tmp_path_factory.mktemp("killed"))
    process = start_main(folder, "-m", "isolation=process", *JOBS)
    deadline = time.monotonic() + 120
    while (
        '"batch"' not in journal_of(folder)
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    child = child_of(process.pid)
    assert child is not None
    os.kill(child, signal.SIGKILL)
    return Sweep(folder=folder, done=process.completed(timeout=180))


def test_a_killed_model_process_fails_its_job_and_the_sweep_goes_on(killed: Sweep) -> None:
    assert killed.done.returncode == 1
    assert "died with signal SIGKILL" in killed.done.stderr
    assert "finished batches are kept" in killed.done.stderr
    assert "2 jobs: 1 finished, 1 failed: starter-none-b1." in killed.done.stdout
    runs = {run.info.run_name: run for run in runs_of("codejoule", killed.folder)}
    assert runs["starter-none-b1"].info.status == "FAILED"
    assert "SIGKILL" in runs["starter-none-b1"].data.tags["codejoule.error"]
    assert runs["starter-none-b8"].info.status == "FINISHED"


def test_a_child_process_decodes_what_this_process_decodes(killed: Sweep) -> None:
    done = run_main(
        killed.folder, "isolation=inline", *JOBS[1:], "batch=b8", "tracking.experiment=inline"
    )
    assert done.returncode == 0, done.stderr
    journals = killed.folder / "mlruns/journals"
    (inline,) = journals.glob("inline/*/artifacts/samples.jsonl")
    isolated = journals / "codejoule" / inline.parents[1].name / "artifacts/samples.jsonl"
    assert isolated.read_text() == inline.read_text()


def test_an_error_in_the_child_is_one_message(store: Path) -> None:
    done = run_main(store, "isolation=process", "suite.limit=1", "generation.max_new_tokens=5000")
    assert done.returncode == 1
    assert "Starter/0" in done.stderr
    assert "context" in done.stderr
    assert "Traceback" not in done.stderr
