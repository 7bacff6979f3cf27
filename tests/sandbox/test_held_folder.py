"""What a killed process leaves behind is found by the next, and what a living one uses is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codejoule.sandbox.cgroup import _limits_memory, open_cgroup
from codejoule.sandbox.held_folder import HeldFolder, abandoned_folders

HOLD = (
    "import pathlib, sys, time\n"
    "from codejoule.sandbox.{module} import {name} as make\n"
    "held = make({arguments})\n"
    "print(held.path, flush=True)\n"
    "sys.stdin.read()\n"
)


def _holder(module: str, name: str, arguments: str = "") -> tuple[subprocess.Popen[str], Path]:
    code = HOLD.format(module=module, name=name, arguments=arguments)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_folders_are_abandoned_when_their_process_ends_however_it_ends(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "x-file").touch()
    (tmp_path / "x-link").symlink_to(tmp_path / "other")
    mine = HeldFolder(tmp_path, prefix="x-")
    arguments = f"pathlib.Path({str(tmp_path)!r}), prefix='x-'"
    process, theirs = _holder("held_folder", "HeldFolder", arguments)
    assert list(abandoned_folders(tmp_path, prefix="x-")) == []
    _kill(process)
    assert list(abandoned_folders(tmp_path, prefix="x-")) == [theirs]
    mine.release()
    assert set(abandoned_folders(tmp_path, prefix="x-")) == {theirs, mine.path}


@pytest.mark.parametrize(
    ("files", "limited"),
    [
        ({}, False),
        ({"memory.max": "max\n", "memory.high": "max\n"}, False),
        ({"memory.max": "4294967296\n", "memory.high": "max\n"}, True),
        ({"memory.max": "max\n", "memory.high": "4294967296\n"}, True),
    ],
)
def test_workers_do_not_leave_a_group_whose_limits_are_meant_for_them(
    tmp_path: Path, files: dict[str, str], limited: bool
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert _limits_memory(tmp_path) is limited


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folders_of_other_users_are_theirs(tmp_path: Path) -> None:
    (tmp_path / "x-theirs").mkdir()
    os.chown(tmp_path / "x-theirs", 65534, 65534)
    assert list(abandoned_folders(tmp_path, prefix="x-")) == []


def test_the_next_run_removes_the_groups_of_a_killed_one_and_of_no_other() -> None:
    trial = open_cgroup()
    if trial is None:
        pytest.skip("no control group can be made here")
    trial.close()
    killed, left = _holder("cgroup", "open_cgroup")
    living, used = _holder("cgroup", "open_cgroup")
    _kill(killed)
    assert left.exists()
    following, new = _holder("cgroup", "open_cgroup")
    try:
        assert not left.exists()
        assert used.exists()
        assert new.exists()
    finally:
        for process, group in ((living, used), (following, new)):
            _kill(process)
            group.rmdir()
