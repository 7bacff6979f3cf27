"""Environments beside the running one: built once, to the end, by one at a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codejoule.common.environments import Installer, LockedEnvironment
from codejoule.config import UserError

BUILD = """\
import sys, time
from pathlib import Path
from codejoule.common import environments

folder, name, command = sys.argv[1:]
environments.environments = lambda: Path(folder)
environment = environments.LockedEnvironment(lock=Path(folder, "lock.txt"), kind=".envs")

def fill(installer):
    (environment.folder / f"begun-{name}").touch()
    installer.run("sh", "-c", command)
    return {"by": name}

environment.build(str(Path(folder, "base")), fill)
print("built")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("codejoule.common.environments.environments", lambda: tmp_path)
    (tmp_path / "lock.txt").write_text("some==1.0\n")
    # Stands in for `python -m venv FOLDER`, which takes seconds.
    base = tmp_path / "base"
    base.write_text('#!/bin/sh\nmkdir "$3" "$3/bin"\n')
    base.chmod(0o755)
    return tmp_path


@pytest.fixture
def environment(project: Path) -> LockedEnvironment:
    return LockedEnvironment(lock=project / "lock.txt", kind=".envs")


@pytest.fixture
def start(project: Path) -> Callable[[str, str], "subprocess.Popen[str]"]:
    def begin(name: str, command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", BUILD, str(project), name, command],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    return begin


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_environment_is_built_once(project: Path, environment: LockedEnvironment) -> None:
    calls: list[str] = []

    def fill(installer: Installer) -> dict[str, int]:
        assert installer.python == environment.python and not environment.complete
        calls.append("filled")
        return {"found": 3}

    for _ in range(2):
        environment.build(str(project / "base"), fill)
        assert environment.complete
    assert calls == ["filled"]
    (marker,) = environment.folder.glob("*.json")
    assert '"found": 3' in marker.read_text() and "lock.txt" in marker.read_text()


def test_another_lock_is_another_environment(environment: LockedEnvironment) -> None:
    before = environment.folder
    environment.lock.write_text("some==2.0\n")
    assert environment.folder != before
    assert environment.folder.parent == before.parent


def test_a_command_that_fails_is_told_and_leaves_nothing_that_counts(
    project: Path, environment: LockedEnvironment
) -> None:
    def fill(installer: Installer) -> dict[str, int]:
        installer.run("sh", "-c", "exit 3")
        return {}

    with pytest.raises(
        UserError, match=r"cannot be built: sh -c exit 3 \.\.\. ended with status 3"
    ):
        environment.build(str(project / "base"), fill)
    assert not environment.complete


def test_a_killed_build_counts_for_nothing_and_what_it_left_running_is_waited_for(
    project: Path, environment: LockedEnvironment, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    gate = project / "gate"
    first = start("first", f"while ! [ -e {gate} ]; do sleep 0.01; done")
    wait_for((environment.folder / "begun-first").exists)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not environment.complete
    # Its shell goes on, as pip would, and could still write into the folder.
    second = start("second", "true")
    assert second.stdout is not None
    assert "somebody else builds it" in second.stdout.readline()
    assert not (environment.folder / "begun-second").exists()
    gate.touch()
    assert second.wait(60) == 0
    assert environment.complete
    assert not (environment.folder / "begun-first").exists()


def test_of_two_at_once_one_builds_and_the_other_waits(
    project: Path, environment: LockedEnvironment, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    gate = project / "gate"
    first = start("first", f"while ! [ -e {gate} ]; do sleep 0.01; done")
    wait_for((environment.folder / "begun-first").exists)
    second = start("second", "true")
    assert second.stdout is not None
    assert "somebody else builds it" in second.stdout.readline()
    gate.touch()
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert (environment.folder / "begun-first").exists()
    assert not (environment.folder / "begun-second").exists()
