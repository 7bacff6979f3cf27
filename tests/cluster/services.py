"""Programs that tests start, watch and end: whatever happens, none is left, and a test that fails
shows what they wrote."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_all: "list[Services]" = []


def logs_of_all() -> str:
    """What the daemons that run now have written last."""
    return "\n".join(services.logs() for services in _all)


class Services:
    """Processes in sessions of their own, each with a log file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        _all.append(self)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program that stays in the foreground."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, env=env, cwd=cwd, user=user,
                extra_groups=[] if user else None,
            )  # fmt: skip
        self._running.append((name, process))
        return process

    def wait_for(self, what: str, ready: Callable[[], bool], *, within_s: float = 60) -> None:
        """Wait until something is the case; shows all logs where a program ends before, or time
        runs out."""
        deadline = time.monotonic() + within_s
        while not ready():
            ended = [name for name, process in self._running if process.poll() not in (None, 0)]
            if ended or time.monotonic() > deadline:
                why = f"{', '.join(ended)} ended" if ended else f"not within {within_s:.0f} s"
                raise RuntimeError(f"{what}: {why}\n{self.logs()}")
            time.sleep(0.2)

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """A program that a test has ended."""
        self._running = [entry for entry in self._running if entry[1] is not process]

    def logs(self, lines: int = 25) -> str:
        """The ends of all log files."""
        texts = []
        for file in sorted(self.folder.glob("*.log")):
            last = file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            texts += [f"--- {file.name}", *last]
        return "\n".join(texts)

    def stop(self) -> None:
        """End all of them, the last first, and what they have started."""
        for _, process in reversed(self._running):
            end(process)
        self._running.clear()
        _all.remove(self)


def end(process: subprocess.Popen[bytes], *, within_s: float = 20) -> None:
    """End a process and its session: politely, then at once."""
    family = _family(process.pid)
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(within_s)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def free_port() -> int:
    """A port of this host's loopback that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
