"""Jobs that share a process and take over what an earlier one has loaded: isolation=shared."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.experiment.job import left_by, run_main, runs_of, start_main
from tests.experiment.test_isolation import child_of, children_of, journal_of
from tests.experiment.test_vllm_runs import OVERRIDES as VLLM
from tests.experiment.test_vllm_runs import environment

JOBS = ("-m", "batch=b8,b4", "suite.limit=8", "evaluator=none")


def taken_over(folder: Path) -> dict[str, bool]:
    """Whether each finished run has taken over a loaded model; then it has loaded none."""
    found = {}
    for run in runs_of("codejoule", folder):
        if "energy_generation_j" not in run.data.metrics:  # the sweep, or a run that failed
            continue
        found[run.info.run_name] = "codejoule.engine" in run.data.tags
        assert found[run.info.run_name] == ("energy_load_j" not in run.data.metrics)
    return found


def samples(folder: Path, experiment: str) -> list[str]:
    files = left_by(experiment, folder, "samples.jsonl")
    return sorted(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.slow
def test_a_job_takes_over_the_model_of_the_one_before_and_a_repeat_does_not(store: Path) -> None:
    done = run_main(store, "-m", "repeat=1,2", *JOBS[1:], "isolation=shared")
    assert done.returncode == 0, done.stderr
    assert taken_over(store) == {
        "starter-none-b8": False,
        "starter-none-b4": True,
        "starter-none-b8-r2": False,
        "starter-none-b4-r2": True,
    }


@pytest.mark.slow
def test_repeats_share_where_that_is_asked_for_and_decode_the_same(store: Path) -> None:
    for isolation in ("shared_repeats", "inline"):
        overrides = (f"isolation={isolation}", f"tracking.experiment={isolation}")
        done = run_main(store, "-m", "batch=b8", "repeat=1,2", *JOBS[2:], *overrides)
        assert done.returncode == 0, done.stderr
    runs = runs_of("shared_repeats", store)
    assert sum("codejoule.engine" in run.data.tags for run in runs) == 1
    assert samples(store, "shared_repeats") == samples(store, "inline")


@pytest.mark.slow
def test_a_job_whose_shared_process_is_killed_fails_alone(store: Path) -> None:
    job = start_main(store, "-m", "batch=b1,b4,b8", "isolation=shared", "suite.limit=24", JOBS[3])
    while '"load"' not in journal_of(store) and job.poll() is None:
        time.sleep(0.002)
    child = child_of(job.pid)
    assert child is not None
    os.kill(child, signal.SIGKILL)
    done = job.completed(timeout=180)
    assert "died with signal SIGKILL" in done.stderr
    assert "3 jobs: 2 finished, 1 failed: starter-none-b1." in done.stdout
    assert taken_over(store) == {
        "starter-none-b4": False,
        "starter-none-b8": True,
    }
    assert not children_of(job.pid)


@pytest.mark.slow
def test_vllm_is_started_once_for_jobs_that_it_has_room_for(store: Path) -> None:
    own = [each for each in VLLM if "batch" not in each and "window" not in each]
    sweep = ("-m", "batch=b4,b1,b8", "engine.window_tasks=8", "isolation=shared")
    done = run_main(store, *sweep, *own, **environment())
    assert done.returncode == 0, done.stderr
    # Eight sequences are more than the first has room for.
    assert sorted(taken_over(store).values()) == [False, False, True]


@pytest.mark.slow
def test_energy_of_a_shared_model_does_not_differ(store: Path) -> None:
    energies_j: dict[str, list[float]] = {"shared_repeats": [], "process": []}
    overrides = ("batch=b8", "suite=starter_large", "suite.limit=64", "evaluator=none")
    for sweep in range(3):
        for isolation, found in energies_j.items():
            name = f"{isolation}-{sweep}"
            own = ("repeat=1,2,3", f"isolation={isolation}", f"tracking.experiment={name}")
            assert run_main(store, "-m", *overrides, *own).returncode == 0
            runs = [
                run.data
                for run in runs_of(name, store)
                if "energy_generation_j" in run.data.metrics
            ]
            shared = "codejoule.engine"
            found += [
                run.metrics["energy_generation_j"]
                for run in runs
                if (shared in run.tags) is (isolation == "shared_repeats")
            ]
    logs = {isolation: np.log(found) for isolation, found in energies_j.items()}
    (one, other) = logs.values()
    error = np.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    assert abs(one.mean() - other.mean()) < 3 * error + 0.02
