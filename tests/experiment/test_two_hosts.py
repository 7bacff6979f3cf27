"""Two hosts, each a host name and processes of its own: the same command at once, and a dead owner.

Needs namespaces of the kernel, and the right to make them.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.experiment.job import ROOT, clean_env
from tests.tracking.served import mlflow_server

SAMPLES = 24
SAME = ("batch=b1", f"suite.limit={SAMPLES}", "evaluator=none", "meter=cpu_estimate",
        "tracking.lease_s=4")  # fmt: skip


@cache
def hosts_can_be_had() -> bool:
    """Whether this machine lets us make them."""
    return Host.command("probe", ["true"]) is not None and (
        subprocess.run(Host.command("probe", ["true"]), check=False, capture_output=True).returncode
        == 0
    )


class Host:
    """A process in namespaces of its own: its host's name and pids mean nothing to others."""

    def __init__(self, name: str, folder: Path, *overrides: str) -> None:
        folder.mkdir(exist_ok=True)
        self.name = name
        self.said = folder / f"{name}.txt"
        job = [sys.executable, str(ROOT / "src/main.py"), *overrides, *SAME,
               f"hydra.run.dir={folder}/outputs/{name}",
               f"hydra.sweep.dir={folder}/multirun/{name}"]  # fmt: skip
        # Each host has its own processors, as far as codejoule is to know.
        env = clean_env() | {"CODEJOULE_LOCK_DIR": str(folder)}
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                self.command(name, job), env=env, stdout=said, stderr=said, start_new_session=True
            )

    @staticmethod
    def command(name: str, job: list[str]) -> list[str]:
        own = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [*own, "sh", "-c", f'hostname {name} && exec "$@"', "sh", *job]

    def dies(self) -> None:
        """All of its processes at once, without a word."""
        self.process.kill()
        self.process.wait()

    def job(self) -> int:
        """The process of its job, as this host sees it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def text(self, code: int = 0) -> str:
        """What it said, once it has ended with that code."""
        found = self.process.wait(timeout=240)
        text = self.said.read_text()
        assert found == code, text
        return text


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hosts_can_be_had(), reason="no right to make namespaces"),
]


@pytest.fixture
def server(with_database: Callable[[Path], Path], tmp_path: Path) -> Iterator[str]:
    (place := tmp_path / "server").mkdir()
    with mlflow_server(with_database(place) / "mlruns" / "mlflow.db") as uri:
        yield uri


def jobs(uri: str) -> list[Run]:
    client = MlflowClient(uri)
    (found,) = client.search_experiments(filter_string="name = 'codejoule'")
    every = client.search_runs([found.experiment_id])
    return [run for run in every if run.data.tags["codejoule.kind"] == "run"]


def batches(folder: Path) -> int:
    files = folder.glob("journals/*/*/journal.jsonl")
    return sum(file.read_text().count('{"kind": "batch"') for file in files)


def wait_for(reached: Callable[[], bool], *hosts: Host) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        said = [host.said.read_text() for host in hosts]
        assert time.monotonic() < deadline, said
        assert all(host.process.poll() is None for host in hosts), said
        time.sleep(0.02)


def test_two_hosts_with_a_shared_folder_do_the_work_once(tmp_path: Path) -> None:
    shared = f"tracking.dir={tmp_path}/shared"
    hosts = [Host(name, tmp_path / name, "-m", shared) for name in ("node1", "node2")]
    said = [host.text() for host in hosts]
    assert sum("1 job: 1 finished." in text for text in said) == 1, said
    assert sum("1 job: 0 finished, 1 had finished before." in text for text in said) == 1, said
    (waited,) = [text for text in said if "this job waits for its end" in text]
    assert "warning: process 1 on node" in waited, "each is the first process of its host"
    (run,) = jobs(f"sqlite:///{tmp_path}/shared/mlflow.db")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["tasks"] == SAMPLES


def test_the_run_of_a_dead_host_goes_on_from_its_journal_on_a_shared_folder(tmp_path: Path) -> None:
    shared = f"tracking.dir={tmp_path}/shared"
    first = Host("node1", tmp_path / "node1", shared)
    wait_for(lambda: batches(tmp_path / "shared") >= 3, first)
    first.dies()
    kept = batches(tmp_path / "shared")
    said = Host("node2", tmp_path / "node2", shared).text()
    assert "on node1 (since " in said
    assert "has given no sign of life for 4 s: its run is taken over" in said
    assert f"continues: {kept} of {SAMPLES} sequences were done before" in said
    by_status = {run.info.status: run for run in jobs(f"sqlite:///{tmp_path}/shared/mlflow.db")}
    dead, ours = by_status["KILLED"], by_status["FINISHED"]
    assert ours.data.tags["codejoule.continues"] == dead.info.run_id
    assert " on node2 (since " in dead.data.tags["codejoule.taken_over"]


def test_two_hosts_that_share_a_server_alone_do_the_work_once(tmp_path: Path, server: str) -> None:
    where = ("tracking=server", f"tracking.uri={server}", "tracking.traces=0")
    hosts = [
        Host(name, tmp_path / name, "-m", *where, f"tracking.dir={tmp_path}/{name}/own")
        for name in ("node1", "node2")
    ]
    said = [host.text() for host in hosts]
    assert sum("1 job: 1 finished." in text for text in said) == 1, said
    assert sum("1 job: 0 finished, 1 had finished before." in text for text in said) == 1, said
    (run,) = jobs(server)
    assert run.info.status == "FINISHED"


def test_the_run_of_a_dead_host_is_begun_anew_where_only_the_server_is_shared(
    tmp_path: Path, server: str
) -> None:
    where = ("tracking=server", f"tracking.uri={server}", "tracking.traces=0")
    first = Host("node1", tmp_path / "node1", *where, f"tracking.dir={tmp_path}/node1/own")
    wait_for(lambda: batches(tmp_path / "node1/own") >= 3, first)
    first.dies()
    second = Host("node2", tmp_path / "node2", *where, f"tracking.dir={tmp_path}/node2/own")
    said = second.text()
    assert "gives no sign of life any more; its journal is not in" in said
    assert "so that it is begun anew" in said
    by_status = {run.info.status: run for run in jobs(server)}
    dead, ours = by_status["KILLED"], by_status["FINISHED"]
    assert ours.data.tags["codejoule.replaces"] == dead.info.run_id
    assert " on node2 (since " in dead.data.tags["codejoule.taken_over"]


@pytest.mark.parametrize("isolation", ["inline", "process"])
def test_a_host_that_was_stopped_ends_without_writing_when_it_wakes_up(
    isolation: str, tmp_path: Path
) -> None:
    shared = f"tracking.dir={tmp_path}/shared"
    first = Host("node1", tmp_path / "node1", shared, f"isolation={isolation}")
    wait_for(lambda: batches(tmp_path / "shared") >= 3, first)
    stopped = first.job()
    os.kill(stopped, signal.SIGSTOP)
    said = Host("node2", tmp_path / "node2", shared).text()
    assert "its run is taken over" in said
    done = batches(tmp_path / "shared")
    os.kill(stopped, signal.SIGCONT)
    woken = first.text(code=1)
    assert "error: this process gave no sign of life for longer than its lease" in woken
    assert "process 1 on node2 (since " in woken and "the run goes on there" in woken
    assert batches(tmp_path / "shared") == done
    by_status = {run.info.status: run for run in jobs(f"sqlite:///{tmp_path}/shared/mlflow.db")}
    assert by_status.keys() == {"KILLED", "FINISHED"}
