"""``hydra/launcher=ray`` on a real cluster of two nodes."""

import signal
from pathlib import Path

import pytest

from tests.cluster.ray_nodes import RayNodes
from tests.cluster.sweep import DEMO, LONG, Results, Started, results, runs, start

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
LAUNCHER = ("hydra/launcher=ray", "hydra.launcher.remote.num_gpus=0")


def sweep(folder: Path, nodes: RayNodes, experiment: str, *overrides: str) -> Started:
    return start(folder, experiment, *LAUNCHER, *overrides, **nodes.env)


def test_a_sweep_finds_what_it_finds_on_one_machine(
    ray_nodes: RayNodes, folder: Path, demo: Results
) -> None:
    done = sweep(folder, ray_nodes, "ray", *DEMO).ended()
    assert done.returncode == 0, done.stdout
    assert "6 jobs: 6 finished." in done.stdout
    assert results("ray") == demo
    (parent,) = runs("ray", "sweep")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs("ray")} == {parent.info.run_id}


def test_a_job_whose_worker_dies_is_begun_anew_and_continues(
    ray_nodes: RayNodes, folder: Path, long: Results
) -> None:
    started = sweep(folder, ray_nodes, "ray-worker", *LONG)
    started.job_at_work().send_signal(signal.SIGKILL)
    done = started.ended()
    assert done.returncode == 0, done.stdout
    assert "2 jobs: 2 finished." in done.stdout
    assert "of 80 sequences were done before" in logs(folder)
    assert results("ray-worker") == long


def test_a_job_that_stays_lost_is_told_and_costs_the_others_nothing(
    ray_nodes: RayNodes, folder: Path, long: Results
) -> None:
    started = sweep(folder, ray_nodes, "ray-lost", *LONG, "hydra.launcher.remote.max_retries=0")
    started.job_at_work().send_signal(signal.SIGKILL)
    done = started.ended()
    assert done.returncode == 1
    assert "2 jobs: 1 finished, 1 failed: starter-" in done.stdout
    assert "Ray: WorkerCrashedError: " in done.stdout
    again = sweep(folder, ray_nodes, "ray-lost", *LONG).ended()
    assert again.returncode == 0, again.stdout
    assert results("ray-lost") == long


def test_ctrl_c_cancels_the_jobs_and_the_same_command_goes_on(
    ray_nodes: RayNodes, folder: Path, long: Results
) -> None:
    started = sweep(folder, ray_nodes, "ray-interrupted", *LONG)
    started.job_at_work()
    started.process.send_signal(signal.SIGINT)
    done = started.ended(within_s=120)
    assert done.returncode == 130
    assert "interrupted: what had not ended was cancelled" in done.stdout
    again = sweep(folder, ray_nodes, "ray-interrupted", *LONG).ended()
    assert again.returncode == 0, again.stdout
    assert "of 80 sequences were done before" in logs(folder)
    assert results("ray-interrupted") == long


def test_jobs_of_a_node_that_dies_go_on_elsewhere(
    ray_nodes: RayNodes, folder: Path, long: Results
) -> None:
    started = sweep(folder, ray_nodes, "ray-node", *LONG)
    started.job_at_work()
    ray_nodes.kill_node(2)
    done = started.ended()
    ray_nodes.add_node()
    assert done.returncode == 0, done.stdout
    assert "2 jobs: 2 finished." in done.stdout
    assert results("ray-node") == long


def test_without_a_cluster_it_is_said_how_to_start_one(folder: Path, demo: Results) -> None:
    pytest.importorskip("ray")
    done = start(folder, "ray-alone", *LAUNCHER, "suite.limit=2", RAY_ADDRESS="").ended()
    assert done.returncode == 1
    assert "hydra/launcher=ray: " in done.stdout
    assert "Start a cluster (ray start --head here" in done.stdout


def logs(folder: Path) -> str:
    """Of all jobs of all sweeps."""
    return "".join(file.read_text("utf-8") for file in folder.glob("multirun/*/*/*/main.log"))
