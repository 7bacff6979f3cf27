"""Processes forked from one that has imported their libraries.

Importing PyTorch and transformers takes most of a small job's time. A fork server imports them once
and forks for each order. A fork is a process like any other, with its own environment, folder,
files, exit code and signals, and nothing that it sets reaches the server or another fork.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

_MESSAGE_BYTES = 2**17
_UNWIND_S = 0.25
"""As long as `subprocess` waits for a child that was interrupted, too."""


class ForkServerError(RuntimeError):
    """The server has ended, or cannot fork; the text says why."""


class ForkServer:
    """A process that runs `program` (arguments of Python), which calls `forking.serve`. It and all
    that it has forked end when this process ends or closes it."""

    def __init__(
        self,
        program: Sequence[str],
        *,
        env: Mapping[str, str],
        while_importing: Mapping[str, str] | None = None,
    ) -> None:
        """`env` is the server's and its forks' environment; `while_importing` is set in the server
        alone."""
        settings = while_importing or {}
        self._undo = {name: env.get(name) for name in settings}
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                # -P: the working folder is no place to import from.
                [sys.executable, "-P", *program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**env, **settings},
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def fork(self, order: Mapping[str, Any], *, files: Sequence[int] = ()) -> "Fork":
        """A new process, in which `forking.serve` returns `order` and `files`. Waits until the
        server has imported its libraries. Raises `ForkServerError`."""
        message = json.dumps({"order": order, "undo": self._undo}).encode()
        reply, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with its:
                socket.send_fds(self._channel, [message], [its.fileno(), *files])
            answer = reply.recv(_MESSAGE_BYTES)
        except ConnectionError:
            answer = b""
        except BaseException:
            reply.close()
            raise
        said = json.loads(answer or b"null")
        if isinstance(said, int):
            return Fork(said, reply)
        reply.close()
        raise ForkServerError(said or f"it ended with status {self._process.wait()}")

    def close(self) -> None:
        """End it and all that it has forked."""
        atexit.unregister(self.close)
        self._channel.close()
        self._process.wait()


class Fork:
    """A process that was forked. Of ``subprocess.Popen``, what is needed of it. The server kills it
    when this object is closed."""

    def __init__(self, pid: int, reply: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._reply = reply

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        code = self.poll(None)
        assert code is not None
        return code

    def poll(self, timeout_s: float | None = 0) -> int | None:
        """Its exit code; None where it has not ended in time."""
        if self.returncode is None:
            self._reply.settimeout(timeout_s)
            try:
                answer = self._reply.recv(_MESSAGE_BYTES)
            except (TimeoutError, BlockingIOError):
                return None
            except ConnectionError:
                answer = b""
            # A server that ends takes its forks along.
            self.returncode = int(json.loads(answer)) if answer else -signal.SIGKILL
            self.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        """Have it killed, unless it has ended."""
        self._reply.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            # It may have been interrupted, too, and clean up.
            self.poll(_UNWIND_S)
        self.close()
