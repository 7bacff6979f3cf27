"""The supervisor of one sample: outside its pid namespace, holds limits, tests and key."""

import contextlib
import dataclasses
import enum
import functools
import hashlib
import hmac
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from . import init, kernel, processes
from .forks import Become
from .frames import FrameTooLargeError, encode_frame, receive_frame, take_frame
from .process_guards import Alone

_STARTUP_S = 30.0
"""Longest wait for init's mounts before the sample's own clock starts."""

_GRACE_S = 0.6
"""How long init may take to kill and count everything before it is killed itself."""

_MAX_FAILURES_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Context:
    """What the worker settled once for all samples."""

    guards: Alone | None
    """Set under process isolation only."""
    run_task: Callable[..., NoReturn] | None
    """What a task does that is forked here; set under process isolation only, elsewhere tasks
    come from the zygote."""
    namespaces: int
    private: list[str]
    exposed: list[str]
    home: str
    """The sample's home directory, the same for all."""


def run(
    context: Context, job: dict[str, Any], host: socket.socket, report_fd: int,
    zygote: socket.socket | None,
) -> NoReturn:  # fmt: skip
    """Start the sample's init, watch over it, write one JSON report, end."""
    kernel.die_with_parent()
    if context.guards is None:
        kernel.unshare(context.namespaces)
    else:
        kernel.set_dumpable(False)
        kernel.adopt_orphans()
    control, init_control = socket.socketpair()
    channel, task_channel = socket.socketpair()
    out_reader, out_writer = os.pipe()
    failures, task_failures = os.pipe()
    nonce = os.urandom(16).hex()
    child = os.fork()
    if child == 0:
        for held in (control, channel, host):
            held.close()
        for fd in (out_reader, failures, report_fd):
            os.close(fd)
        ends = init.Ends(channel=task_channel.detach(), failures=task_failures, output=out_writer)
        theirs = init_control.detach()
        raise Become(functools.partial(init.run, context, job, theirs, ends, nonce, zygote))
    init_control.close()
    task_channel.close()
    if zygote is not None:
        zygote.close()
    os.close(out_writer)
    os.close(task_failures)
    # Made and read only now: neither ever was in the memory that the task is forked from.
    key = os.urandom(32)
    tests = receive_frame(host)
    if tests is None:
        os._exit(2)
    watch = _Watch(
        control=control, channel=channel, failures=failures, output=out_reader, nonce=nonce,
        key=key, tests=tests, limit_s=float(job["timeout_s"]),
        output_limit=int(job["output_bytes"]), tail_limit=int(job["tail_bytes"]),
    )  # fmt: skip
    report = watch.until_the_end(child)
    if context.guards is not None:
        # Should init have been killed for taking too long: its orphans are ours.
        processes.kill_descendants(longest_s=_GRACE_S)
    data = json.dumps(report).encode("utf-8")
    while data:
        data = data[os.write(report_fd, data) :]
    os._exit(0)


class _Heard(enum.Enum):
    something = 1
    nothing = 2
    over = 3


class _Watch:
    """The protocol's states and the limits. What the task may say, in this order: ``ready``,
    upon which it gets the tests; ``done``, upon which it gets the key; ``result`` with its code
    of authentication. It may end early with ``syntax``, ``raised`` or ``tampered``. Each test
    that fails is told beside that, at once."""

    def __init__(
        self, *, control: socket.socket, channel: socket.socket, failures: int, output: int,
        nonce: str, key: bytes, tests: dict[str, Any], limit_s: float, output_limit: int,
        tail_limit: int,
    ) -> None:  # fmt: skip
        self._control = control
        self._channel = channel
        self._failures = failures
        self._output = output
        self._nonce = nonce
        self._key = key
        self._tests = tests
        self._limit_s = limit_s
        self._output_limit = output_limit
        self._tail_limit = tail_limit
        self._expected = "ready"
        self._failed = b""
        self._buffer = bytearray()
        self._from_init = bytearray()
        self._output_bytes = 0
        self._tail = b""
        self._end: dict[str, Any] | None = None
        self._summary: dict[str, Any] | None = None
        self._deadline_s = time.monotonic() + _STARTUP_S
        self._started = False
        for sock in (control, channel):
            sock.setblocking(False)
        for fd in (failures, output):
            os.set_blocking(fd, False)

    def until_the_end(self, child: int) -> dict[str, Any]:
        poll = select.poll()
        handlers = {
            self._control.fileno(): self._hear_init,
            self._channel.fileno(): self._hear_task,
            self._failures: self._hear_failures,
            self._output: self._drain_output,
        }
        for fd in handlers:
            poll.register(fd, select.POLLIN)
        while self._end is None and self._summary is None:
            left_s = self._deadline_s - time.monotonic()
            if left_s <= 0:
                self._end = {"phase": "timeout" if self._started else "stuck"}
                break
            for fd, _ in poll.poll(left_s * 1000 + 1):
                if handlers[fd]() is _Heard.over:
                    poll.unregister(fd)
        # What was said before the end counts, though the news of the end came first.
        while self._end is None and self._hear_task() is _Heard.something:
            pass
        while self._output_bytes <= self._output_limit:
            if self._drain_output() is not _Heard.something:
                break
        self._stop_init(child)
        end = self._end or {"phase": "ended"}
        summary = self._summary or {}
        return {
            **end,
            "exit": summary.get("exit"),
            "over_memory": bool(summary.get("over_memory")),
            "memory_peak_bytes": summary.get("memory_peak_bytes"),
            "cpu_polled_s": summary.get("cpu_polled_s", 0.0),
            "init_error": summary.get("error"),
            "output_tail": self._tail.decode("utf-8", "backslashreplace"),
        }

    def _stop_init(self, child: int) -> None:
        until_s = time.monotonic() + _GRACE_S
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        while self._summary is None and time.monotonic() < until_s:
            poll = select.poll()
            poll.register(self._control, select.POLLIN)
            if (
                poll.poll((until_s - time.monotonic()) * 1000 + 1)
                and self._hear_init() is _Heard.over
            ):
                break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def _hear_init(self) -> _Heard:
        try:
            part = self._control.recv(65536)
        except BlockingIOError:
            return _Heard.nothing
        except OSError:
            part = b""
        if not part:
            # Init is gone without a word: there is nothing left to wait for.
            self._summary = self._summary or {}
            return _Heard.over
        self._from_init += part
        while (body := take_frame(self._from_init)) is not None:
            message = json.loads(body)
            if message.get("started"):
                self._started = True
                self._deadline_s = time.monotonic() + self._limit_s
            else:
                self._summary = message
        return _Heard.something

    def _drain_output(self) -> _Heard:
        try:
            part = os.read(self._output, 2**18)
        except BlockingIOError:
            return _Heard.nothing
        if not part:
            return _Heard.over
        self._output_bytes += len(part)
        self._tail = (self._tail + part)[-self._tail_limit :]
        if self._output_bytes > self._output_limit and self._end is None:
            self._end = {"phase": "output"}
        return _Heard.something

    def _hear_failures(self) -> _Heard:
        """Names of failed tests, a line each. Anyone in the sandbox may write them: whoever
        does so only harms itself."""
        try:
            part = os.read(self._failures, 65536)
        except BlockingIOError:
            return _Heard.nothing
        if not part:
            return _Heard.over
        self._failed += part
        if len(self._failed) > _MAX_FAILURES_BYTES and self._end is None:
            self._end = {"phase": "tampered", "what": "the channel of failed tests"}
        return _Heard.something

    def _hear_task(self) -> _Heard:
        try:
            part = self._channel.recv(2**18)
        except BlockingIOError:
            return _Heard.nothing
        except OSError:
            part = b""
        if not part:
            return _Heard.over
        self._buffer += part
        try:
            while self._end is None and (body := take_frame(self._buffer)) is not None:
                self._obey(json.loads(body))
        except (ValueError, TypeError, AttributeError, FrameTooLargeError, RecursionError):
            self._end = {"phase": "tampered", "what": "the channel of the verdict"}
        return _Heard.something

    def _obey(self, message: dict[str, Any]) -> None:
        phase = message["phase"] if isinstance(message.get("phase"), str) else ""
        if not hmac.compare_digest(str(message.get("nonce")).encode(), self._nonce.encode()):
            raise ValueError("not from our code")
        if phase in ("syntax", "raised", "tampered", "stuck") and self._expected != "result":
            self._end = {
                "phase": phase,
                "what": str(message.get("what")),
                "memory": bool(message.get("memory")),
                "network": bool(message.get("network")),
            }
        elif phase == self._expected == "ready":
            self._expected = "done"
            self._answer(self._tests)
        elif phase == self._expected == "done":
            self._expected = "result"
            self._answer({"key": self._key.hex()})
        elif phase == self._expected == "result":
            body = message["body"]
            code = hmac.new(self._key, body.encode("utf-8"), hashlib.sha256).hexdigest()
            if not hmac.compare_digest(code, message["mac"]):
                raise ValueError("not authenticated")
            result = json.loads(body)
            # Told before the result was, so it has arrived.
            while self._hear_failures() is _Heard.something:
                pass
            failed = self._failed.decode("utf-8", "backslashreplace").splitlines()
            if any(result.get(name, ("pass",))[0] == "pass" for name in failed):
                raise ValueError("a failure was taken back")
            self._end = {"phase": "result", "result": result}
        else:
            raise ValueError("out of order")

    def _answer(self, message: dict[str, Any]) -> None:
        """The task is waiting for this; one that does not read is left to the time limit."""
        data = encode_frame(message)
        while data:
            left_s = self._deadline_s - time.monotonic()
            poll = select.poll()
            poll.register(self._channel, select.POLLOUT)
            if left_s <= 0 or not poll.poll(left_s * 1000 + 1):
                return
            try:
                data = data[self._channel.send(data) :]
            except BlockingIOError:
                continue
            except OSError:
                return
