"""Which process is behind a run, and whether it still lives: a small file for each run under way,
beside the journals of this machine."""

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from codejoule.config import write_whole

_WHOLE_MACHINE = "pid:[4026531836]"
"""The namespace of processes that are in no container (PROC_PID_INIT_INO of Linux)."""


def process_facts() -> dict[str, str]:
    """Facts by which another process can tell later whether this one still lives."""
    pid = os.getpid()
    start = _process_start(pid)
    assert start is not None, "this process has no /proc entry: codejoule needs Linux"
    return {
        "host": socket.gethostname(),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        "pid": str(pid),
        "pid_namespace": str(Path("/proc/self/ns/pid").readlink()),
        "process_start": start,
        "machine": _machine(),
    }


def _machine() -> str:
    """What this installation of an operating system is known by (machine-id(5)); empty where it has
    nothing of the kind."""
    with suppress(OSError):
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    return ""


def lives(facts: Mapping[str, str]) -> bool | None:
    """Whether the process with these `process_facts` lives. None where that cannot be known:
    another host, or another container of this one."""
    mine = process_facts()
    if facts["host"] != mine["host"]:
        return None
    if facts["boot_id"] != mine["boot_id"]:
        # Two hosts may have one name, as containers of a set do, that share a folder.
        ours = facts.get("machine") == mine["machine"] != ""
        whole = facts["pid_namespace"] == mine["pid_namespace"] == _WHOLE_MACHINE
        return False if ours and whole else None
    if facts["pid_namespace"] != mine["pid_namespace"]:
        return None
    # A pid is given out again after a while; pid and start time together are not.
    return _process_start(int(facts["pid"])) == facts["process_start"]


def has_died(facts: Mapping[str, str]) -> bool:
    """Whether the process with these `process_facts` has certainly ended."""
    return lives(facts) is False


class Processes:
    """The files of one store's runs, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, run_id: str) -> None:
        """Note that this process is behind the run. Raises `UserError` where that cannot be
        written."""
        write_whole(self._folder / run_id, json.dumps(process_facts()))

    def remove(self, run_id: str) -> None:
        """Note that no process is behind it any more."""
        (self._folder / run_id).unlink(missing_ok=True)

    def died(self) -> list[str]:
        """The runs whose process has certainly ended, by their ids."""
        notes = {}
        for file in sorted(self._folder.glob("*")):
            try:
                notes[file.name] = json.loads(file.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                continue  # ended meanwhile, or is being written
        return [run_id for run_id, facts in notes.items() if has_died(facts)]


def _process_start(pid: int) -> str | None:
    """Start of a process [clock ticks after boot]; None where there is no live one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command, in parentheses, may hold spaces and parentheses of its own (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]
