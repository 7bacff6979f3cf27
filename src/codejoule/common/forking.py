"""The inside of a fork server: see `codejoule.common.fork_server`."""

import atexit
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from codejoule.common.imports import importing

_MESSAGE_BYTES = 2**17
_MOST_FILES = 8
_PR_SET_PDEATHSIG = 1
_TO_ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""What a terminal sends to all processes of a group, and Slurm to all of a job's step."""
_code = 0


@dataclass(frozen=True, slots=True)
class Order:
    """What a fork is for."""

    order: Any
    """As `ForkServer.fork` was given it."""
    files: tuple[int, ...]
    """The same files."""


def serve(channel: socket.socket, prepare: Callable[[], None]) -> Order | None:
    """Call `prepare`, which imports, and fork for each order. Returns in each fork its order, and
    None in the server when nobody can order anything any more. Either ends with `leave`."""
    # The server ends with its channel, and with nothing else that others are told to end by.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _TO_ALL}
    # Handlers run in reverse: after those of all libraries.
    atexit.register(_skip_teardown)
    with importing():
        prepare()
    # Shared memory stays shared, and no fork's collector walks through it.
    gc.freeze()
    running: list[_Running] = []
    while True:
        replies = [one.reply for one in running]
        watched: list[Any] = [channel, *replies, *(one.ended for one in running)]
        ready, _, _ = select.select(watched, [], [])
        for one in [one for one in running if one.ended in ready or one.reply in ready]:
            one.end(wanted=one.reply not in ready)
            running.remove(one)
        if channel not in ready:
            continue
        text, files, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, _MOST_FILES)
        if not text:
            for one in running:
                one.end(wanted=False)
            return None
        reply, message = socket.socket(fileno=files.pop(0)), json.loads(text)
        try:
            pid = _fork()
        except OSError as error:
            _tell(reply, str(error))
            reply.close()
        else:
            if pid == 0:
                for each in (channel, reply, *replies):
                    each.close()
                for one in running:
                    os.close(one.ended)
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                _set_back(message["undo"])
                return Order(message["order"], tuple(files))
            _tell(reply, pid)
            running.append(_Running(pid, os.pidfd_open(pid), reply))
        for file in files:
            os.close(file)


def begin_anew(command: list[str]) -> NoReturn:
    """Become another program, which does not inherit what `serve` ignores."""
    for number in _TO_ALL:
        signal.signal(number, signal.SIG_DFL)
    os.execv(command[0], command)


def threads() -> list[str]:
    """Names of this process' threads, those of libraries in C too."""
    return [
        (task / "comm").read_text(encoding="utf-8").strip()
        for task in Path("/proc/self/task").iterdir()
    ]


def leave(code: int) -> NoReturn:
    """End this process as Python does, but for taking thousands of modules apart, for which every
    page that is shared with other forks would be copied."""
    global _code
    _code = code
    sys.exit(code)


@dataclass(frozen=True, slots=True)
class _Running:
    """A fork as its server has it."""

    pid: int
    ended: int
    """File that can be read once it has ended."""
    reply: socket.socket
    """To whoever waits for it; it is closed where nobody does any more."""

    def end(self, *, wanted: bool) -> None:
        """Tell that it has ended, after killing one that nobody wants."""
        if not wanted:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        _tell(self.reply, os.waitstatus_to_exitcode(status))
        self.reply.close()
        os.close(self.ended)


def _fork() -> int:
    """`os.fork`, whose child dies with this process. OSError where it cannot be done."""
    if len(names := threads()) > 1:
        raise OSError(f"it has {len(names)} threads ({', '.join(names)}), which no fork would have")
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with(server)
    return pid


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent has ended. To the kernel that is the thread
    that has started it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _tell(reply: socket.socket, answer: int | str) -> None:
    try:
        reply.send(json.dumps(answer).encode())
    except ConnectionError:  # nobody waits for it
        return


def _set_back(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _skip_teardown() -> None:
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(_code)
