"""Runs the generation stage in a child process of its own, or here."""

import json
import os
import selectors
import signal
import socket
import sys
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Self

import yaml

from codejoule.common.fork_server import Fork, ForkServer, ForkServerError
from codejoule.common.progress import doing, relay
from codejoule.config import UserError, python_path, write_whole
from codejoule.config.typed import to_plain
from codejoule.experiment import job_process, stopping
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.plan import Plan

_LAST_WORDS = 15

_server_of: dict[tuple[int, frozenset[tuple[str, str]]], ForkServer] = {}
"""The one there is, by its process and environment, which libraries read while they are imported.
"""


def generate_isolated(plan: Plan, folder: Path, lease: Path) -> None:
    """Run `generate` where the plan says. In a child, CUDA state, memory and crashes stay with the
    child: one that dies raises `UserError` with its exit status and the last lines it wrote. It is
    forked from a process that has imported its libraries, one for all jobs of this process; with
    ``isolation=shared`` it stays for a next job that takes what it has loaded. It writes nothing
    once the lease whose file is `lease` is lost."""
    if not plan.isolated:
        generate(plan, folder)
        return
    config = yaml.safe_dump(to_plain(plan.experiment), sort_keys=False)
    write_whole(folder / job_process.CONFIG, config)
    (folder / job_process.ERROR).unlink(missing_ok=True)
    order = {
        "folder": str(folder),
        "fingerprint": plan.fingerprint,
        "gpus": [plan.hardware.gpus[number].uuid for number in plan.gpus],
        "directory": str(Path.cwd()),
        "lease": str(lease),
    }
    doing("starting the job's process", "it imports its libraries")
    try:
        pipes = [os.pipe() for _ in range(job_process.FILES)]
        with FileIO(pipes[0][0]) as written, FileIO(pipes[1][0]) as told:
            ends = [write for _, write in pipes]
            try:
                job = _start(plan, order, ends)
            finally:
                for end in ends:
                    os.close(end)
            with job, stopping.handing_on(lambda: job.send_signal(stopping.ORDER)):
                last_words = _follow(written, told)
                code = job.wait()
    except ForkServerError as error:
        raise UserError(
            f"the process that jobs are forked from: {error}. isolation=inline runs them in the "
            "sweep's own process"
        ) from error
    if code in (stopping.EXIT_CODE, -stopping.ORDER):
        stopping.check()
    if code != 0:
        raise _death(code, last_words, folder)


class _Shared:
    """A process that several jobs share, one after the other."""

    def __init__(
        self, loads: str, server: ForkServer, order: Mapping[str, object], files: Sequence[int]
    ) -> None:
        self.loads = loads
        self.server = server
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._fork = server.fork(order, files=[*files, theirs.fileno()])

    def start(self, order: Mapping[str, object], files: Sequence[int]) -> None:
        """Give it another job."""
        socket.send_fds(self._channel, [json.dumps(order).encode()], list(files))

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._fork.send_signal(number)

    def wait(self) -> int:
        """The job's exit code. A job that fails ends the process."""
        try:
            if self._channel.recv(job_process.ORDER_BYTES):
                return 0
        except ConnectionError:
            pass
        return self._fork.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self._fork.__exit__(kind, *rest)

    def end(self) -> None:
        """Have it give back what it holds."""
        self._channel.close()
        self._fork.wait()

    @property
    def there(self) -> bool:
        """Whether it has not ended."""
        return self._fork.poll() is None


_shared: dict[int, _Shared] = {}
"""The one there is, by the process that it works for."""


def standing_by() -> bool:
    """Whether a process with a loaded model waits for this one's next job."""
    shared = _shared.get(os.getpid())
    return shared is not None and shared.there


def end_shared() -> None:
    """End that process, where there is one: its memory is needed."""
    shared = _shared.pop(os.getpid(), None)
    if shared is not None:
        shared.end()


def _start(plan: Plan, order: Mapping[str, object], files: Sequence[int]) -> Fork | _Shared:
    """The process that the job has to itself, or the one that has what the job would load."""
    server, earlier = _server(), _shared.get(os.getpid())
    if (
        earlier is not None
        and earlier.loads == plan.loads
        and earlier.server is server
        and earlier.there
    ):
        earlier.start(order, files)
        return earlier
    end_shared()
    if plan.loads is None:
        return server.fork(order, files=files)
    return _shared.setdefault(os.getpid(), _Shared(plan.loads, server, order, files))


def _server() -> ForkServer:
    """This process' own, started when the first job needs it, and again if it has died or the
    environment is another."""
    key = os.getpid(), frozenset(os.environ.items())
    if key not in _server_of or _server_of[key].ended:
        for (process, _), earlier in _server_of.items():
            if process == key[0]:
                earlier.close()
        _server_of.clear()
        _server_of[key] = ForkServer(
            ["-m", job_process.__name__],
            env=dict(os.environ),
            while_importing=job_process.WHILE_IMPORTING | python_path(),
        )
    return _server_of[key]


def _follow(written: FileIO, told: FileIO) -> list[str]:
    """Pass on what the child tells of its progress, and what it writes, until it closes both; the
    last lines that it wrote."""
    kept: deque[str] = deque(maxlen=64)
    half = b""
    # A chunk may end within a character, and standard error need not take bytes: Jupyter's does
    # not.
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    with selectors.DefaultSelector() as open_ones:
        for stream in (written, told):
            open_ones.register(stream, selectors.EVENT_READ)
        while open_ones.get_map():
            for key, _ in open_ones.select():
                chunk = os.read(key.fd, 4096)
                if not chunk:
                    open_ones.unregister(key.fileobj)
                elif key.fileobj is written:
                    text = decoder.decode(chunk)
                    sys.stderr.write(text)
                    sys.stderr.flush()
                    kept.append(text)
                else:
                    *lines, half = (half + chunk).split(b"\n")
                    for line in lines:
                        relay(line)
    last = "".join(kept).replace("\r", "\n")
    return [line for line in last.splitlines() if line.strip()][-_LAST_WORDS:]


def _death(code: int, last_words: list[str], folder: Path) -> Exception:
    said = folder / job_process.ERROR
    if said.exists():
        return UserError(json.loads(said.read_text(encoding="utf-8"))["message"])
    how = f"exit code {code}"
    hint = ""
    if code < 0:
        how = f"signal {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            hint = " (the kernel kills with SIGKILL when the machine runs out of memory)"
    words = "\n  ".join(last_words) or "(it wrote nothing)"
    return UserError(
        f"the process that held the model died with {how}{hint}; finished batches are kept, "
        f"and the same command continues after them. Its last words:\n  {words}"
    )
