"""Jobs that are forked from an interpreter which has their libraries imported already.

Importing torch, transformers and MLflow takes most of a small job's time, and the tests start
a hundred jobs. A job from here is a process of its own like any other, with its own arguments,
environment, output, exit code and signals. Only what happens while libraries are imported is not
seen (what they print, which variables they read): that needs a cold process, and some tests
start one (`tests.experiment.job.run_main_cold`).
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO

_PROGRAM = Path(__file__).with_name("warm_interpreter.py")
_POLL_S = 0.005


class Job:
    """A job that was started: of ``subprocess.Popen``, what the tests use."""

    def __init__(
        self, argv: Sequence[str], pid: int, channel: socket.socket, files: tuple[IO[str], IO[str]]
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._argv = argv
        self._channel = channel
        self._files = files

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _ask(self._channel, {"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(_POLL_S)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        said = []
        for file in self._files:
            with file:
                file.seek(0)
                said.append(file.read())
        return said[0], said[1]

    def completed(self, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        out, err = self.communicate(timeout)
        return subprocess.CompletedProcess(self._argv, self.wait(), out, err)

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def start(argv: Sequence[str], *, env: Mapping[str, str], new_session: bool = False) -> Job:
    """``python argv[0] argv[1:]`` in the folder of this process."""
    channel = _interpreter()
    # Named files could be mixed up; pipes would have to be read while the job runs.
    out, err = (tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2))  # noqa: SIM115
    order = {
        "argv": list(argv),
        "environment": dict(env),
        "folder": str(Path.cwd()),
        "new_session": new_session,
    }
    pid = _ask(channel, order, files=(out.fileno(), err.fileno()))
    assert pid is not None
    return Job(argv, pid, channel, (out, err))


def run(argv: Sequence[str], *, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`start`, and wait for its end."""
    return start(argv, env=env).completed()


@lru_cache(maxsize=1)
def _interpreter() -> socket.socket:
    """The channel to this test process's interpreter, which ends when nobody holds it."""
    # The hub's library reads its cache's place when it is imported. Jobs from here have none.
    cache = tempfile.TemporaryDirectory()
    atexit.register(cache.cleanup)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            # -P: the folder of the tests is no place to import from.
            [sys.executable, "-P", str(_PROGRAM), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HOME": cache.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # before the one above: the last come first
    return ours


def _ask(
    channel: socket.socket, order: Mapping[str, object], *, files: Sequence[int] = ()
) -> int | None:
    try:
        socket.send_fds(channel, [json.dumps(order).encode()], list(files))
        answer = channel.recv(2**10)
    except BaseException:
        # A test that ran out of time: its answer must not be taken for the next one's.
        channel.close()
        _interpreter.cache_clear()
        raise
    assert answer, f"{_PROGRAM.name} has ended: run it by hand to see why"
    number: int | None = json.loads(answer)
    return number
