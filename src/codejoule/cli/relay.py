"""Running a command whose end is asked for by signals, as a server's is."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from types import FrameType
from typing import Self

# SIGQUIT (Ctrl-backslash) still ends everything at once.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SPREAD_S = 0.1
"""A signal to a whole process group has reached each of its processes after this long."""


class Relay:
    """While inside, signals end the command that `run` runs, and not this process. A command that
    such a signal has not reached gets it passed on: ``kill`` sends to this process alone, a
    terminal (or ``timeout``, or a batch system) to the whole process group. What this process
    ignores (``nohup``) it goes on ignoring."""

    def __init__(self) -> None:
        self._received: SimpleQueue[tuple[int, float] | None] = SimpleQueue()

    def __enter__(self) -> Self:
        handled = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        self._before = {n: signal.signal(n, self._receive) for n in handled}
        self._witness = _witness()
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._witness.communicate()

    def run(self, command_line: Sequence[str]) -> int:
        """Run the command to its end; its exit code, as `subprocess` gives it."""
        with subprocess.Popen(command_line) as command:
            passing = threading.Thread(target=self._pass_on, args=(command,))
            passing.start()
            code = command.wait()
            self._received.put(None)
            passing.join()
        return code

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received.put((number, time.monotonic()))

    def _pass_on(self, command: "subprocess.Popen[bytes]") -> None:
        last, last_s = 0, 0.0
        while (received := self._received.get()) is not None:
            number, received_s = received
            # `timeout` sends to its child first and then to the group, which is one request.
            if number == last and received_s < last_s + _SPREAD_S:
                continue
            last, last_s = received
            with suppress(ProcessLookupError):  # it has ended meanwhile
                if not self._has_reached(command):
                    command.send_signal(number)

    def _has_reached(self, command: "subprocess.Popen[bytes]") -> bool:
        """Whether the last signal was sent to the whole group: then it has ended the witness."""
        try:
            self._witness.wait(_SPREAD_S)
        except subprocess.TimeoutExpired:
            return False
        self._witness.communicate()
        self._witness = _witness()
        return os.getpgid(command.pid) == os.getpgrp()


def _witness() -> "subprocess.Popen[bytes]":
    """A process of this group that any of the signals ends, and so does the end of this one."""
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
