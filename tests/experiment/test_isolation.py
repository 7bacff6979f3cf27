"""A model in a child process of its own, and what becomes of one that dies."""

import io
import os
import signal
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest

from codejoule.experiment import isolation, job_process
from tests.experiment.job import Sweep, children_running, left_by, run_main, runs_of, start_main
from tests.warm import Job

JOBS = ("batch=b1,b8", "suite.limit=24", "evaluator=none")


def children_of(pid: int) -> list[int]:
    return children_running(pid, "codejoule.experiment.job_process")


def child_of(pid: int) -> int | None:
    """The process that holds the model, once it is there: forked from that which imports."""
    return next((job for server in children_of(pid) for job in children_of(server)), None)


def journal_of(folder: Path) -> str:
    texts = [file.read_text() for file in folder.glob("mlruns/journals/*/*/journal.jsonl")]
    return texts[0] if texts else ""


def decoding(folder: Path, *, new_session: bool = False) -> Job:
    """A sweep of two jobs, whose first has begun to decode."""
    process = start_main(folder, "-m", "isolation=process", *JOBS, new_session=new_session)
    deadline = time.monotonic() + 120
    while (
        '"batch"' not in journal_of(folder)
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    return process


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]
) -> Sweep:
    """A sweep of two jobs, whose first was killed in the process that held the model."""
    folder = with_database(tmp_path_factory.mktemp("killed"))
    process = decoding(folder)
    (server,), child = children_of(process.pid), child_of(process.pid)
    assert child is not None
    os.kill(child, signal.SIGKILL)
    while (second := child_of(process.pid)) in (None, child) and process.poll() is None:
        time.sleep(0.005)
    assert second is not None
    assert children_of(process.pid) == [server]
    return Sweep(folder=folder, done=process.completed(timeout=180))


@pytest.mark.slow
def test_a_killed_model_process_fails_its_job_and_the_sweep_goes_on(killed: Sweep) -> None:
    assert killed.done.returncode == 1
    assert "died with signal SIGKILL" in killed.done.stderr
    assert "finished batches are kept" in killed.done.stderr
    assert "imports it anew" not in killed.done.stderr
    assert "2 jobs: 1 finished, 1 failed: starter-none-b1." in killed.done.stdout
    runs = {run.info.run_name: run for run in runs_of("codejoule", killed.folder)}
    assert runs["starter-none-b1"].info.status == "FAILED"
    assert "SIGKILL" in runs["starter-none-b1"].data.tags["codejoule.error"]
    assert runs["starter-none-b8"].info.status == "FINISHED"


@pytest.mark.slow
def test_a_child_process_decodes_what_this_process_decodes(killed: Sweep) -> None:
    done = run_main(
        killed.folder, "isolation=inline", *JOBS[1:], "batch=b8", "tracking.experiment=inline"
    )
    assert done.returncode == 0, done.stderr
    (inline,) = left_by("inline", killed.folder, "samples.jsonl")
    (isolated,) = left_by("codejoule", killed.folder, "samples.jsonl")
    assert isolated.read_text() == inline.read_text()


@pytest.mark.slow
def test_an_error_in_the_child_is_one_message(store: Path) -> None:
    done = run_main(store, "isolation=process", "suite.limit=1", "generation.max_new_tokens=5000")
    assert done.returncode == 1
    assert "Starter/0" in done.stderr
    assert "context" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_model_ends_with_a_sweep_that_is_killed(store: Path) -> None:
    process = decoding(store)
    (server,), child = children_of(process.pid), child_of(process.pid)
    process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in (server, child)):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_library_that_no_fork_would_bear_is_left_to_the_jobs(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    again: list[list[str]] = []
    monkeypatch.setattr(job_process.os, "execv", lambda _, command: again.append(command))
    monkeypatch.setattr(job_process, "threads", lambda: ["python", "spinner"])
    monkeypatch.setattr(job_process, "_LIBRARIES", {"one": lambda: None, "other": lambda: None})
    job_process._prepare(["one"], 5)
    assert capfd.readouterr().err == (
        "importing other started threads (spinner): each job imports it anew\n"
    )
    assert again[0][2:] == ["-m", "codejoule.experiment.job_process", "one", "other", "5"]


def test_what_a_child_writes_is_passed_on_where_standard_error_takes_no_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", shown := io.StringIO())
    text = "a" * 4095 + "é\nthe last word\n"
    (written, to_written), (told, to_told) = os.pipe(), os.pipe()
    os.write(to_written, text.encode())
    os.close(to_written), os.close(to_told)
    with FileIO(written) as out, FileIO(told) as progress:
        last_words = isolation._follow(out, progress)
    assert shown.getvalue() == text, "and a character is whole that two reads have a part of"
    assert last_words[-1] == "the last word"
