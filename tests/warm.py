"""Jobs that are forked from an interpreter which has their libraries imported already.

Importing torch, transformers and MLflow takes most of a small job's time, and the tests start
a hundred jobs. A job from here is a process of its own like any other, with its own arguments,
environment, output, exit code and signals. Only what happens while libraries are imported is not
seen (what they print, which variables they read): that needs a cold process, and some tests
start one (`tests.experiment.job.run_main_cold`).
"""

import atexit
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO

from codejoule.common.fork_server import Fork, ForkServer

_PROGRAM = Path(__file__).with_name("warm_interpreter.py")


class Job:
    """A job that was started: of ``subprocess.Popen``, what the tests use."""

    def __init__(self, argv: Sequence[str], fork: Fork, files: tuple[IO[str], IO[str]]) -> None:
        self.pid = fork.pid
        self._argv = argv
        self._fork = fork
        self._files = files

    @property
    def returncode(self) -> int | None:
        return self._fork.returncode

    def poll(self) -> int | None:
        return self._fork.poll()

    def wait(self, timeout: float | None = None) -> int:
        code = self._fork.poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
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


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    new_session: bool = False,
    copy: Path | None = None,
) -> Job:
    """``python argv[0] argv[1:]`` in the folder of this process; or in that of another `copy` of
    the project, whose own modules are imported from there."""
    # Named files could be mixed up; pipes would have to be read while the job runs.
    out, err = (tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2))  # noqa: SIM115
    order = {
        "argv": list(argv),
        "environment": dict(env),
        "folder": str(copy or Path.cwd()),
        "copy": None if copy is None else str(copy / "src"),
        "new_session": new_session,
    }
    fork = _interpreter().fork(order, files=(out.fileno(), err.fileno()))
    return Job(argv, fork, (out, err))


def run(argv: Sequence[str], *, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`start`, and wait for its end."""
    return start(argv, env=env).completed()


@lru_cache(maxsize=1)
def _interpreter() -> ForkServer:
    """This test process's interpreter, which ends with it."""
    # The hub's library reads its cache's place when it is imported. Jobs from here have none.
    cache = tempfile.TemporaryDirectory()
    atexit.register(cache.cleanup)
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HOME": cache.name}
    # pyarrow starts a thread while it is imported, and a fork has one alone.
    alone = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
    return ForkServer([str(_PROGRAM)], env=env, while_importing=alone)
