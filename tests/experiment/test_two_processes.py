"""Runs that meet: one configuration twice at once, a job that is told to end, a shared folder."""

import signal
import time
from pathlib import Path
from socket import gethostname

import pytest
from mlflow.entities import Run

from tests import warm
from tests.experiment.job import clean_env, main, run_main, runs_of, start_main
from tests.warm import Job


def start_and_wait_for_a_batch(store: Path, *overrides: str) -> Job:
    process = start_main(store, *overrides)
    journals = store / "mlruns/journals"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any('"batch"' in file.read_text() for file in journals.glob("*/*/journal.jsonl")):
            break
        time.sleep(0.005)
    return process


def only_run(store: Path) -> Run:
    (run,) = runs_of("codejoule", store)
    return run


@pytest.mark.slow
def test_a_second_process_leaves_a_running_run_alone(store: Path) -> None:
    same = ("suite.limit=24", "evaluator=none")
    first = start_and_wait_for_a_batch(store, *same)
    assert first.poll() is None, "the first ended too early for this test to show anything"
    first.send_signal(signal.SIGSTOP)
    second = run_main(store, *same)
    assert second.returncode == 1
    assert f"process {first.pid} on {gethostname()} (since " in second.stderr
    assert "is working on this run; wait until it has ended, or end it there" in second.stderr
    assert only_run(store).info.status == "RUNNING"
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)
    assert first.returncode == 0
    run = only_run(store)
    assert run.info.status == "FINISHED"
    assert "codejoule.error" not in run.data.tags


@pytest.mark.slow
def test_a_job_told_to_end_is_killed_in_mlflow_and_continues_later(store: Path) -> None:
    process = start_and_wait_for_a_batch(store, "suite.limit=24")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues where this stopped" in err
    assert only_run(store).info.status == "KILLED"
    again = run_main(store, "suite.limit=24")
    assert again.returncode == 0, again.stderr
    run = only_run(store)
    assert run.info.status == "FINISHED"
    assert run.data.tags["codejoule.sessions"] == "2"
    assert "codejoule.error" not in run.data.tags


@pytest.mark.slow
def test_a_sweep_in_an_earlier_sweeps_folder_counts_its_own_jobs(store: Path) -> None:
    folder = f"hydra.sweep.dir={store}/sweep"
    overrides = ("suite.limit=1", "evaluator=none")
    failing = run_main(store, "-m", *overrides, "generation.max_new_tokens=5000", last=folder)
    assert failing.returncode == 1
    assert "1 job: 0 finished, 1 failed" in failing.stdout
    good = run_main(store, "-m", *overrides, last=folder)
    assert good.returncode == 0, good.stderr
    assert "1 job: 1 finished." in good.stdout


@pytest.mark.slow
@pytest.mark.parametrize("folders", ["one", "two"])
def test_two_identical_sweeps_at_once_do_the_work_once_and_both_succeed(
    store: Path, folders: str
) -> None:
    """Started in the same second, they share a folder by default."""
    same = ("-m", "batch=b1,b8", "suite.limit=6", "evaluator=none")
    place = [f"hydra.sweep.dir={store}/{name}" for name in ("a", "a" if folders == "one" else "b")]
    sweeps = [warm.start([*main(store, *same), own], env=clean_env()) for own in place]
    done = [sweep.completed(timeout=240) for sweep in sweeps]
    said = "\n".join(each.stdout + each.stderr for each in done)
    assert [each.returncode for each in done] == [0, 0], said
    assert "is working on this run: this job waits for its end" in said
    assert said.count("has finished before") == 2
    assert all("\n2 jobs: " in each.stdout for each in done)
    runs = runs_of("codejoule", store)
    assert {run.info.status for run in runs} == {"FINISHED"}
    jobs = [run for run in runs if run.data.tags["codejoule.kind"] == "run"]
    assert sorted(run.info.run_name for run in jobs) == ["starter-none-b1", "starter-none-b8"]
    assert all("codejoule.concurrent" not in run.data.tags for run in jobs), "they took turns"


@pytest.mark.slow
def test_a_run_beside_another_says_so_in_its_tags(store: Path) -> None:
    first = start_and_wait_for_a_batch(store, "suite.limit=24", "evaluator=none")
    first.send_signal(signal.SIGSTOP)
    beside = run_main(store, "suite.limit=2", "evaluator=none")
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=120)
    assert (first.returncode, beside.returncode) == (0, 0), beside.stderr
    assert "other jobs of codejoule worked while this one was measured" in beside.stderr
    tags = {run.data.params["suite.limit"]: run.data.tags for run in runs_of("codejoule", store)}
    assert tags["2"]["codejoule.concurrent"] == "1"
    assert tags["2"]["codejoule.concurrent_jobs"].startswith(
        f"starter-none-b1 (process {first.pid}, since "
    )
