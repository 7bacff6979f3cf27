"""``hydra/launcher=joblib``, recorded on the server that the clusters record on."""

import signal
from pathlib import Path

import pytest

from tests.cluster.sweep import DEMO, LONG, Results, results, start

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
LAUNCHER = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def test_a_sweep_finds_what_it_finds_job_by_job(folder: Path, demo: Results) -> None:
    done = start(folder, "joblib", *LAUNCHER, *DEMO).ended()
    assert done.returncode == 0, done.stdout
    assert "6 jobs: 6 finished." in done.stdout
    assert results("joblib") == demo


def test_a_worker_that_is_killed_is_told_and_costs_the_other_job_nothing(
    folder: Path, long: Results
) -> None:
    started = start(folder, "joblib-killed", *LAUNCHER, *LONG)
    started.job_at_work().send_signal(signal.SIGKILL)
    done = started.ended()
    assert done.returncode == 1
    assert "2 jobs: 1 finished, 1 failed: starter-" in done.stdout
    assert "SIGKILL" in done.stdout
    again = start(folder, "joblib-killed", *LAUNCHER, *LONG).ended()
    assert again.returncode == 0, again.stdout
    assert "1 finished, 1 had finished before" in again.stdout
    assert results("joblib-killed") == long
