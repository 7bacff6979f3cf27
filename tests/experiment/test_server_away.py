"""Sweeps whose tracking server is killed, or was never there: measured once, and uploaded."""

import re
import time
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests import warm
from tests.experiment.job import clean_env, main
from tests.mlflow_server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SWEEP = ("-m", "quant=none,gptq4", "batch=b1,b8", "suite.limit=4", "evaluator=none")


def start_sweep(folder: Path, uri: str) -> warm.Job:
    command = main(folder, *SWEEP, "tracking=server", f"tracking.uri={uri}")
    return warm.start(command, env=clean_env() | {"CODEJOULE_HOME": str(folder)})


def sync(folder: Path) -> str:
    env = clean_env() | {"CODEJOULE_HOME": str(folder)}
    program = str(Path(__file__).with_name("command.py"))
    done = warm.run([program, "sync"], env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(folder: Path, uri: str) -> None:
    client = MlflowClient(uri)
    (found,) = client.search_experiments(filter_string="name = 'codejoule'")
    runs: list[Run] = list(client.search_runs([found.experiment_id]))
    by_kind: dict[str, list[Run]] = {}
    for run in runs:
        by_kind.setdefault(run.data.tags["codejoule.kind"], []).append(run)
    (parent,) = by_kind["sweep"]
    jobs = by_kind["run"]
    assert len(jobs) == 4 == len({run.data.tags["codejoule.fingerprint"] for run in jobs})
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {parent.info.run_id}
    for run in jobs:
        assert run.data.metrics["tasks"] == 4
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert {"tasks.parquet", "samples.jsonl", "config.yaml"} <= names
    assert not list((folder / "mlruns" / "outbox").glob("*/waiting/*"))


def kept(said: str) -> list[str]:
    return re.findall(r"warning: (\S.*) is kept in \S+, since the tracking server", said)


def test_sweep_goes_on_when_its_server_is_killed(store, mlflow_server: Server):
    mlflow_server.start()
    job = start_sweep(store, mlflow_server.uri)
    client = MlflowClient(mlflow_server.uri)
    while True:  # until the second job is under way
        experiments = client.search_experiments(filter_string="name = 'codejoule'")
        ids = [each.experiment_id for each in experiments]
        runs = client.search_runs(ids, "tags.`codejoule.kind` = 'run'") if ids else []
        if len(runs) == 2:
            break
        assert job.poll() is None, job.communicate()
        time.sleep(0.2)
    mlflow_server.kill()
    killed_s = time.monotonic()
    done = job.completed(timeout=300)
    print(
        f"\nended {time.monotonic() - killed_s:.1f} s after the kill\n{done.stdout}\n{done.stderr}"
    )
    assert done.returncode == 0, done.stderr
    assert len(kept(done.stderr)) == 4  # three jobs and the sweep
    assert "4 jobs: 4 finished." in done.stdout
    assert "4 runs wait in " in done.stdout
    mlflow_server.start()
    assert "uploaded and confirmed 3 jobs and 1 sweep" in sync(store)
    assert sync(store).startswith("Nothing waits")
    check(store, mlflow_server.uri)
    # All of it is known to be finished.
    again = start_sweep(store, mlflow_server.uri).completed(timeout=120)
    assert "4 jobs: 0 finished, 4 had finished before." in again.stdout


def test_sweep_without_a_server_is_kept_and_uploaded(store, mlflow_server: Server):
    began_s = time.monotonic()
    done = start_sweep(store, mlflow_server.uri).completed(timeout=300)
    print(f"\nended after {time.monotonic() - began_s:.1f} s\n{done.stdout}\n{done.stderr}")
    assert done.returncode == 0, done.stderr
    assert len(kept(done.stderr)) == 5
    # Nothing is measured twice meanwhile.
    again = start_sweep(store, mlflow_server.uri).completed(timeout=120)
    assert "4 jobs: 0 finished, 4 had finished before." in again.stdout
    mlflow_server.start()
    sync(store)
    assert sync(store).startswith("Nothing waits")
    check(store, mlflow_server.uri)
