"""The supervisor of one program: outside its pid namespace, holds limits, tests and key."""

import contextlib
import functools
import hashlib
import hmac
import json
import os
import select
import signal
import socket
import time
from typing import Any, NoReturn

from . import init, kernel, processes
from .forks import Become
from .frames import encode_frame, receive_frame, take_frame

_STARTUP_S = 30.0
"""Longest wait for init's mounts before the program's own clock starts."""
_GRACE_S = 0.6
"""How long init may take to kill and count everything before it is killed itself."""
_MAX_FAILURES_BYTES = 2**20

NAMESPACES = functools.reduce(int.__or__, init.NAMESPACES_OF_A_TASK.values())
"""Those of one program."""


def run(
    context: init.Context, job: dict[str, Any], host: socket.socket, report_fd: int,
    zygote: socket.socket | None,
) -> NoReturn:  # fmt: skip
    """Start the program's init, watch over it, write one JSON report, end."""
    kernel.die_with_parent()
    if context.guards is None:
        kernel.unshare(NAMESPACES)
    else:
        kernel.set_dumpable(False)
        kernel.adopt_orphans()
    control, init_control = socket.socketpair()
    channel, task_channel = socket.socketpair()
    output, task_output = os.pipe()
    failures, task_failures = os.pipe()
    nonce = os.urandom(16).hex()
    child = os.fork()
    if child == 0:
        for held in (control, channel, host):
            held.close()
        for fd in (output, failures, report_fd):
            os.close(fd)
        ends = init.Ends(channel=task_channel.detach(), failures=task_failures, output=task_output)
        theirs = init_control.detach()
        raise Become(functools.partial(init.run, context, job, theirs, ends, nonce, zygote))
    for theirs_too in filter(None, (init_control, task_channel, zygote)):
        theirs_too.close()
    os.close(task_output)
    os.close(task_failures)
    # Read only now: the tests never were in the memory that the task is forked from.
    tests = receive_frame(host)
    if tests is None:
        os._exit(2)
    watch = _Watch(
        job, tests, nonce,
        control=control.detach(), channel=channel.detach(), failures=failures, output=output,
    )  # fmt: skip
    report = watch.until_the_end(child)
    if context.guards is not None:
        # Should init have been killed for taking too long: its orphans are ours.
        processes.kill_descendants(longest_s=_GRACE_S)
    data = json.dumps(report).encode("utf-8")
    while data:
        data = data[os.write(report_fd, data) :]
    os._exit(0)


class _Watch:
    """The protocol's states and the limits. What the task may say, in this order: ``ready``,
    upon which it gets the tests; ``done``, upon which it gets the key; ``result`` with its code
    of authentication. It may end early with ``syntax``, ``raised`` or ``tampered``. Each test
    that fails is told beside that, at once."""

    def __init__(
        self, job: dict[str, Any], tests: dict[str, Any], nonce: str, *,
        control: int, channel: int, failures: int, output: int,
    ) -> None:  # fmt: skip
        self._job = job
        self._tests = tests
        self._nonce = nonce
        self._control, self._channel = control, channel
        self._failures, self._output = failures, output
        self._key = os.urandom(32)
        self._expected = "ready"
        self._failed = b""
        self._from_task, self._from_init = bytearray(), bytearray()
        self._output_bytes = 0
        self._tail = b""
        self._end: dict[str, Any] | None = None
        self._summary: dict[str, Any] | None = None
        self._started = False
        self._deadline_s = time.monotonic() + _STARTUP_S
        for fd in (control, channel, failures, output):
            os.set_blocking(fd, False)

    def until_the_end(self, child: int) -> dict[str, Any]:
        poll = select.poll()
        handlers = {
            self._control: self._hear_init,
            self._channel: self._hear_task,
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
                if handlers[fd]() == b"":
                    poll.unregister(fd)
        # What was said before the end counts, though the news of the end came first.
        while self._end is None and self._hear_task():
            pass
        while self._output_bytes <= self._limit("output_bytes") and self._drain_output():
            pass
        self._stop_init(child)
        summary = self._summary or {}
        return {
            "tests": {},
            **(self._end or {"phase": "ended"}),
            "exit": summary.get("exit"),
            "over_memory": bool(summary.get("over_memory")),
            "memory_peak_bytes": summary.get("memory_peak_bytes"),
            "cpu_polled_s": summary.get("cpu_polled_s", 0.0),
            "init_error": summary.get("error"),
            "output_tail": self._tail.decode("utf-8", "backslashreplace"),
        }

    def _limit(self, name: str) -> int:
        return int(self._job[name])

    def _stop_init(self, child: int) -> None:
        until_s = time.monotonic() + _GRACE_S
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._control)) as control:
            control.shutdown(socket.SHUT_WR)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while self._summary is None and (left_s := until_s - time.monotonic()) > 0:
            if poll.poll(left_s * 1000 + 1):
                self._hear_init()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def _hear_init(self) -> bytes | None:
        part = _read(self._control)
        if part == b"":
            # Init is gone without a word: there is nothing left to wait for.
            self._summary = self._summary or {}
        self._from_init += part or b""
        while (body := take_frame(self._from_init)) is not None:
            message = json.loads(body)
            if message.get("started"):
                self._started = True
                self._deadline_s = time.monotonic() + float(self._job["timeout_s"])
            else:
                self._summary = message
        return part

    def _drain_output(self) -> bytes | None:
        part = _read(self._output)
        self._output_bytes += len(part or b"")
        self._tail = (self._tail + (part or b""))[-self._limit("tail_bytes") :]
        if self._output_bytes > self._limit("output_bytes") and self._end is None:
            self._end = {"phase": "output"}
        return part

    def _hear_failures(self) -> bytes | None:
        """Names of failed tests, a line each. Anyone in the sandbox may write them: whoever
        does so only harms itself."""
        part = _read(self._failures)
        self._failed += part or b""
        if len(self._failed) > _MAX_FAILURES_BYTES and self._end is None:
            self._end = {"phase": "tampered", "what": "the channel of failed tests"}
        return part

    def _hear_task(self) -> bytes | None:
        part = _read(self._channel)
        self._from_task += part or b""
        try:
            while self._end is None and (body := take_frame(self._from_task)) is not None:
                self._obey(json.loads(body))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            self._end = {"phase": "tampered", "what": "the channel of the verdict"}
        return part

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
            rows = json.loads(body).items()
            tests = {str(name): (str(outcome), str(text)) for name, (outcome, text) in rows}
            # Told before the result was, so it has arrived.
            while self._hear_failures():
                pass
            failed = self._failed.decode("utf-8", "backslashreplace").splitlines()
            if any(tests.get(name, ("pass",))[0] == "pass" for name in failed):
                raise ValueError("a failure was taken back")
            self._end = {"phase": "result", "tests": tests}
        else:
            raise ValueError("out of order")

    def _answer(self, message: dict[str, Any]) -> None:
        """The task is waiting for this; one that does not read is left to the time limit."""
        data = encode_frame(message)
        poll = select.poll()
        poll.register(self._channel, select.POLLOUT)
        while data:
            left_s = self._deadline_s - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000 + 1):
                return
            try:
                data = data[os.write(self._channel, data) :]
            except BlockingIOError:
                continue
            except OSError:
                return


def _read(fd: int) -> bytes | None:
    """What has arrived: nothing at the end, None where there is nothing yet."""
    try:
        return os.read(fd, 2**18)
    except BlockingIOError:
        return None
    except OSError:
        return b""
