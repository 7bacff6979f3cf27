"""``hydra/launcher=slurm`` on a real Slurm."""

import signal
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm
from tests.cluster.sweep import DEMO, LONG, Results, Started, results, runs, start

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
LAUNCHER = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")


def sweep(folder: Path, slurm: Slurm, experiment: str, *overrides: str) -> Started:
    return start(folder, experiment, *LAUNCHER, *overrides, **slurm.env)


def array_place(process: object) -> str:
    return process.environ()["SLURM_ARRAY_TASK_ID"]  # type: ignore[attr-defined,no-any-return]


def log_of(folder: Path, place: str) -> str:
    (log,) = folder.glob(f"multirun/*/*/.submitit/*_{place}/*_log.out")
    return log.read_text(encoding="utf-8")


def test_a_sweep_finds_what_it_finds_on_one_machine_and_each_job_gets_a_gpu(
    slurm: Slurm, folder: Path, demo: Results
) -> None:
    done = sweep(folder, slurm, "slurm", *DEMO).ended()
    assert done.returncode == 0, done.stdout
    assert "6 jobs: 6 finished." in done.stdout
    assert results("slurm") == demo
    (parent,) = runs("slurm", "sweep")
    assert parent.info.status == "FINISHED"
    children = {run.data.tags["mlflow.parentRunId"] for run in runs("slurm")}
    assert children == {parent.info.run_id}
    asked = slurm.command("sacct", "-n", "-X", "-P", "-S", "now-1hour", "-o", "AllocTRES")
    assert asked.count("gres/gpu=1") == 6


def test_a_job_that_is_killed_is_told_and_costs_the_others_nothing(
    slurm: Slurm, folder: Path, long: Results
) -> None:
    started = sweep(folder, slurm, "slurm-killed", *LONG)
    victim = started.job_at_work()
    place = array_place(victim)
    victim.send_signal(signal.SIGKILL)
    done = started.ended()
    assert done.returncode == 1
    assert "2 jobs: 1 finished, 1 failed: starter-" in done.stdout
    assert (
        f"_{place} has ended without a result (state FAILED); its finished batches" in done.stdout
    )
    assert "Killed" in done.stdout, "the end of the job's log is told"
    again = sweep(folder, slurm, "slurm-killed", *LONG).ended()
    assert again.returncode == 0, again.stdout
    assert "1 finished, 1 had finished before" in again.stdout
    assert results("slurm-killed") == long


@pytest.mark.parametrize("notice", ["USR2", "TERM"])
def test_a_job_whose_node_is_wanted_is_queued_again_and_continues_in_its_run(
    notice: str, slurm: Slurm, folder: Path, long: Results
) -> None:
    experiment = f"slurm-{notice}"
    started = sweep(folder, slurm, experiment, *LONG)
    victim = started.job_at_work()
    place, (job, _) = array_place(victim), slurm.jobs("%i", "%T")[0]
    number = job.partition("_")[0]
    before = {run.info.run_id for run in started.wait_for("runs", lambda: runs(experiment))}
    slurm.command("scancel", "--signal", notice, f"{number}_{place}")
    started.wait_for(
        "a job in the queue", lambda: [f"{number}_{place}", "PENDING"] in slurm.jobs("%i", "%T")
    )
    done = started.ended()
    assert done.returncode == 0, done.stdout
    assert "2 jobs: 2 finished." in done.stdout
    log = log_of(folder, place)
    assert "of 80 sequences were done before" in log and "Requeued job" in log
    assert results(experiment) == long
    assert before <= {run.info.run_id for run in runs(experiment)}, "in the same run"


def test_ctrl_c_cancels_the_jobs_and_the_same_command_goes_on(
    slurm: Slurm, folder: Path, long: Results
) -> None:
    started = sweep(folder, slurm, "slurm-interrupted", *LONG)
    started.job_at_work()
    started.process.send_signal(signal.SIGINT)
    done = started.ended(within_s=90)
    assert done.returncode == 130
    assert "interrupted: scancel " in done.stdout
    assert slurm.jobs("%i") == []
    (parent,) = runs("slurm-interrupted", "sweep")
    assert parent.info.status == "KILLED"
    again = sweep(folder, slurm, "slurm-interrupted", *LONG).ended()
    assert again.returncode == 0, again.stdout
    assert "of 80 sequences were done before" in log_of_last(folder)
    assert results("slurm-interrupted") == long


def log_of_last(folder: Path) -> str:
    last = max(folder.glob("multirun/*/*"))
    return "".join(log.read_text("utf-8") for log in last.glob(".submitit/*/*_log.out"))


def test_a_partition_that_does_not_exist_is_said_before_any_run(slurm: Slurm, folder: Path) -> None:
    done = sweep(
        folder, slurm, "slurm-refused", "suite.limit=2", "hydra.launcher.partition=x"
    ).ended()
    assert done.returncode == 1
    assert "hydra/launcher=slurm: Slurm takes no jobs: " in done.stdout
    assert "invalid partition specified: x" in done.stdout


def test_scancel_without_accounting_does_not_make_the_sweep_wait(
    slurm_without_accounting: Slurm, folder: Path, long: Results
) -> None:
    slurm = slurm_without_accounting
    started = sweep(folder, slurm, "slurm-cancelled", *LONG)
    place = array_place(started.job_at_work())
    number = slurm.jobs("%i")[0][0].partition("_")[0]
    slurm.command("scancel", f"{number}_{place}")
    done = started.ended(within_s=240)
    assert done.returncode == 1
    assert f"{number}_{place} has ended without a result" in done.stdout
    assert "2 jobs: 1 finished, 1 failed" in done.stdout
    assert f"{number}_{place}" not in [job for (job,) in slurm.jobs("%i")]
    again = sweep(folder, slurm, "slurm-cancelled", *LONG).ended()
    assert again.returncode == 0, again.stdout
    assert results("slurm-cancelled") == long
