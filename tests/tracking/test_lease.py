"""One owner per run, on one host and on several, and what becomes of a run whose owner is gone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from codejoule.config import UserError
from codejoule.tracking import Fence, Journal, Lease, LostLeaseError, detach, guarded
from codejoule.tracking.lease import files
from codejoule.tracking.lease.files import LeaseFiles
from codejoule.tracking.lease.owner import Owner, Watch
from codejoule.tracking.lease.server import AwayError, LeaseServer
from codejoule.tracking.process import lives, process_facts
from tests.tracking.served import mlflow_server

_PROGRAM = Path(__file__).with_name("lease_program.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journals" / "print"


def contender(folder: Path, **order: Any) -> subprocess.Popen[str]:
    """A process of another host that wants the lease on `folder`."""
    alone = folder.parents[1] / "alone"
    usual = {"folder": str(folder), "alone": str(alone), "rounds": 1, "dies": 0, "wait": True,
             "lease_s": 1.0, "uri": None, "stays_s": 0.002, "host": "other"}  # fmt: skip
    return subprocess.Popen(
        [sys.executable, str(_PROGRAM), json.dumps(usual | order)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_until_inside(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not (folder.parents[1] / "alone").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check_took_turns(contenders: list[subprocess.Popen[str]], rounds: int) -> None:
    ended = [each.communicate(timeout=120) for each in contenders]
    said = "".join(out + err for out, err in ended)
    assert [each.returncode for each in contenders] == [0] * len(contenders), said
    assert said.count("owner\n") == rounds * len(contenders), said


@pytest.mark.slow
def test_processes_of_one_host_take_turns_and_a_dead_one_loses_its_run_at_once(
    folder: Path,
) -> None:
    began_s = time.monotonic()
    ones = [contender(folder, rounds=12, host="one", lease_s=60) for _ in range(3)]
    check_took_turns(ones, 12)
    dead = contender(folder, dies=1, host="one", lease_s=60)
    dead.communicate(timeout=60)
    check_took_turns([contender(folder, host="one", lease_s=60)], 1)
    assert time.monotonic() - began_s < 60


@pytest.mark.slow
def test_processes_of_several_hosts_take_turns_and_take_over_from_the_dead(folder: Path) -> None:
    ones = [contender(folder, rounds=6, host=f"host{n}") for n in range(3)]
    dead = contender(folder, dies=1)
    check_took_turns(ones, 6)
    dead.communicate(timeout=60)


@pytest.fixture
def server(empty_database: Path, tmp_path: Path) -> Iterator[str]:
    (copy := tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    with mlflow_server(copy) as uri:
        yield uri


@pytest.mark.slow
def test_hosts_that_share_a_server_alone_take_turns(tmp_path: Path, server: str) -> None:
    alone = str(tmp_path / "alone")
    ones = [
        contender(tmp_path / f"{n}/journals/print", rounds=4, host=f"host{n}", uri=server,
                  alone=alone)
        for n in range(3)
    ]  # fmt: skip
    check_took_turns(ones, 4)


@pytest.mark.slow
def test_an_owner_that_was_stopped_for_longer_than_its_lease_finds_it_lost(
    folder: Path, tmp_path: Path
) -> None:
    stopped = contender(folder, stays_s=1.0, host="one")
    wait_until_inside(folder)
    stopped.send_signal(signal.SIGSTOP)
    with Lease(folder, lease_s=1.0, wait=True) as lease:
        assert lease.silent is not None and lease.silent.process["host"] == "one"
        stopped.send_signal(signal.SIGCONT)
        out, _ = stopped.communicate(timeout=60)
        lease.check()
    assert "this process gave no sign of life for longer than its lease on the run lasts" in out
    assert f"process {os.getpid()} on " in out and " has taken the run over" in out
    assert "A longer tracking.lease_s bears longer stops" in out


@pytest.mark.slow
def test_who_does_not_wait_is_told_of_a_living_owner_on_another_host(folder: Path) -> None:
    owner = contender(folder, stays_s=1.0, host="one")
    wait_until_inside(folder)
    with pytest.raises(UserError) as told:
        Lease(folder, lease_s=1.0, wait=False).__enter__()
    assert f"process {owner.pid} on one (since " in str(told.value)
    assert "wait until it has ended, or end it there and start again" in str(told.value)
    owner.communicate(timeout=60)


def test_a_journal_refuses_what_comes_after_the_lease_was_lost(folder: Path) -> None:
    with Lease(folder, lease_s=60, wait=False) as lease, guarded(folder, lease.check):
        with Journal(folder) as journal:
            journal.append_payload("kept", {})
            LeaseFiles(folder).take(Owner(), LeaseFiles(folder).last())
            with pytest.raises(LostLeaseError, match="has written nothing since and ends here"):
                journal.append_payload("late", {})
        with pytest.raises(LostLeaseError):
            Journal(folder)
        assert lease.lost
    with Journal(folder) as journal:
        assert journal.payloads("kept") == [{}] and journal.payloads("late") == []


def test_the_next_owners_file_is_word_enough(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lease(folder, lease_s=60, wait=False) as lease:
        fence = Fence(lease.path, lease.lease_s)
        lease.check()
        fence.check()
        with monkeypatch.context() as full_disk:
            full_disk.setattr(files, "_append", lambda *_: None)
            LeaseFiles(folder).take(Owner(), LeaseFiles(folder).last())
        for holder in (lease, fence):
            with pytest.raises(LostLeaseError, match="another process has taken the run over"):
                holder.check()


def lease_files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.parent.iterdir() if file != folder)


def test_the_last_owners_file_alone_is_kept_and_none_of_a_run_that_has_finished(
    folder: Path,
) -> None:
    folder.mkdir(parents=True)
    for _ in range(3):
        with Lease(folder, lease_s=60, wait=False):
            pass
    assert lease_files(folder) == ["print.lease-3"]
    folder.rmdir()
    with Lease(folder, lease_s=60, wait=False):
        assert lease_files(folder) == ["print.lease-4"]
    assert lease_files(folder) == []


@pytest.mark.parametrize("finished", [False, True])
def test_who_has_slept_since_he_saw_the_last_owner_takes_no_number_twice(
    folder: Path, finished: bool
) -> None:
    folder.mkdir(parents=True)
    files = LeaseFiles(folder)
    with Lease(folder, lease_s=60, wait=False):
        pass
    seen = files.last()
    if finished:
        folder.rmdir()
    for _ in range(2):
        with Lease(folder, lease_s=60, wait=False):
            pass
    left = lease_files(folder)
    assert files.take(Owner(), seen) is None
    assert lease_files(folder) == left == ([] if finished else ["print.lease-3"])


def test_what_a_late_writer_still_writes_reaches_nobody(folder: Path) -> None:
    with Journal(folder) as late:
        late.append_payload("kept", {})
        detach(folder)
        with Journal(folder) as ours:
            late.append_payload("late", {})
            ours.append_payload("more", {})
    with Journal(folder) as journal:
        assert [journal.payloads(kind) for kind in ("kept", "late", "more")] == [[{}], [], [{}]]


def test_who_works_for_an_owner_waits_while_he_is_silent(folder: Path) -> None:
    now_s = [0.0]
    with Lease(folder, lease_s=60, wait=False) as lease:
        fence = Fence(lease.path, 60, clock=lambda: now_s[0])
        fence.check()
        now_s[0] = 100.0
        os.utime(lease.path)
        fence.check()
        now_s[0] = 300.0
        working = subprocess.Popen(["sleep", "0.3"])
        began_s = time.monotonic()

        def looks() -> float:
            if working.poll() is not None:
                os.utime(lease.path)
            return now_s[0]

        fence._clock = looks
        fence.check()
        assert time.monotonic() - began_s > 0.25
        LeaseFiles(folder).take(Owner(), LeaseFiles(folder).last())
        with pytest.raises(LostLeaseError):
            fence.check()


def test_a_watch_counts_only_the_time_in_which_it_looked() -> None:
    now_s = [0.0]
    watch = Watch(60, clock=lambda: now_s[0])
    watch.look("a", 1)
    now_s[0] = 1000.0  # this process was stopped, too
    watch.look("a", 1)
    assert not watch.run_out("a") and not watch.heard("a")
    for _ in range(5):
        now_s[0] += 15
        watch.look("a", 1)
    assert watch.run_out("a")
    watch.look("a", 2)
    assert watch.heard("a") and not watch.run_out("a")


def test_only_this_hosts_processes_are_known_to_have_died() -> None:
    mine = process_facts()
    assert lives(mine) is True
    assert lives(mine | {"process_start": "1"}) is False
    assert lives(mine | {"host": "another", "process_start": "1"}) is None
    assert lives(mine | {"pid_namespace": "pid:[1]", "process_start": "1"}) is None
    # Another machine may have the name of this one.
    assert lives(mine | {"boot_id": "another", "machine": "another"}) is None
    whole = {"pid_namespace": "pid:[4026531836]"}
    rebooted = mine | {"boot_id": "before", "machine": mine["machine"] or "x"}
    if mine["machine"] and mine["pid_namespace"] == whole["pid_namespace"]:
        assert lives(rebooted) is False
    else:
        assert lives(rebooted) is None


def test_what_this_process_has_ended_keeps_nobody_waiting(folder: Path) -> None:
    with Lease(folder, lease_s=60, wait=False) as lease:
        assert lease.owner.lives
        with pytest.raises(UserError, match="is working on this run"), lease_of(folder):
            pass
        assert lease.owner.lives
    assert lease.owner.lives is False
    # As where the disk was full, or the process interrupted, so that it left no word of its end.
    lease.path.write_text(lease.owner.to_text() + "\n")
    with lease_of(folder):
        pass


def lease_of(folder: Path) -> Lease:
    return Lease(folder, lease_s=60, wait=False)


def test_a_server_that_was_away_when_a_run_began_gets_signs_of_life_later(
    folder: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(server)
    with Lease(folder, lease_s=1, wait=False) as lease:
        lease.on_server(server, "0", "print")
        with monkeypatch.context() as away:
            away.setattr(LeaseServer, "_ask", gone)
            assert lease.wait_for_claims() is False
            run = client.create_run("0", tags={"codejoule.fingerprint": "print", **lease.tags})
            assert lease.claim(run.info.run_id)
        before = run.data.tags["codejoule.lease"]
        until_s = time.monotonic() + 30
        while client.get_run(run.info.run_id).data.tags["codejoule.lease"] == before:
            assert time.monotonic() < until_s
            time.sleep(0.05)


def gone(*_: object, **__: object) -> None:
    raise AwayError("no answer")
