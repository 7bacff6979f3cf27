"""Which process is behind a run, and whether it still lives."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

HOST = "codejoule.host"
_BOOT = "codejoule.boot_id"
_PID = "codejoule.pid"
_PID_NAMESPACE = "codejoule.pid_namespace"
_START = "codejoule.process_start"


def identity_tags() -> dict[str, str]:
    """Tags by which another process can tell later whether this one still lives."""
    pid = os.getpid()
    start = _process_start(pid)
    assert start is not None, "this process has no /proc entry: codejoule needs Linux"
    return {
        HOST: socket.gethostname(),
        _BOOT: Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        _PID: str(pid),
        _PID_NAMESPACE: str(Path("/proc/self/ns/pid").readlink()),
        _START: start,
    }


def has_died(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote `identity_tags` has certainly ended. False where that cannot
    be known: another host, or another container of this one."""
    mine = identity_tags()
    if tags.get(HOST) != mine[HOST] or _PID not in tags:
        return False
    if tags.get(_BOOT) != mine[_BOOT]:
        return True
    if tags.get(_PID_NAMESPACE) != mine[_PID_NAMESPACE]:
        return False
    # A pid is given out again after a while; pid and start time together are not.
    return _process_start(int(tags[_PID])) != tags.get(_START)


def _process_start(pid: int) -> str | None:
    """Start of a process [clock ticks after boot]; None where there is no live one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command, in parentheses, may hold spaces and parentheses of its own (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]
