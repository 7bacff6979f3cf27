"""Pid 1 of one program. It is trusted: it mounts, holds limits and tests, and at the end kills all.

The kernel delivers no signal to a pid 1 from within its own pid namespace unless it asked for
it, so nothing that runs below can end this process. Without namespaces it is an ordinary
process that adopts the program's orphans, and a Landlock scope or the system call filter keeps
signals away from it.
"""

import contextlib
import functools
import hmac
import json
import os
import resource
import select
import signal
import socket
import tempfile
import time
from typing import Any, NoReturn

from . import kernel, processes, task
from .filesystem import mount_private
from .messages import encode_frame, receive_frame, take_frame
from .processes import Unwind
from .task_setup import Ends, TaskSetup

_WATCH_PERIOD_S = 0.05
_KILL_S = 0.4
"""How long to go on killing before leaving the rest to the kernel."""
_MAX_FAILURES_BYTES = 2**20

NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC
"""Namespaces that a program has of its own, besides that of its pids."""


def run(setup: TaskSetup, host: socket.socket, report_fd: int) -> NoReturn:
    """Read the program, prepare its view, start the task, watch, kill, count, write one JSON
    report, end."""
    kernel.die_with_parent()
    # Python's own handler for SIGINT would make this process killable from below.
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    job = receive_frame(host.recv)
    if job is None:
        os._exit(2)
    if setup.guards is None:
        kernel.unshare(NAMESPACES)
    try:
        _prepare_view(setup, job["tmp_bytes"])
    except OSError as error:
        receive_frame(host.recv)
        _report(report_fd, {"phase": "stuck", "what": str(error)})
    channel, task_channel = socket.socketpair()
    output, task_output = os.pipe()
    failures, task_failures = os.pipe()
    ours = Ends(channel=channel.detach(), failures=failures, output=output)
    theirs = Ends(channel=task_channel.detach(), failures=task_failures, output=task_output)
    nonce = os.urandom(16).hex()
    pid = os.fork()
    if pid == 0:
        raise Unwind(functools.partial(task.run, setup, job, theirs, nonce))
    for fd in theirs:
        os.close(fd)
    # Read only now: the tests never were in the memory that the task is forked from.
    kernel.set_dumpable(False)
    tests = receive_frame(host.recv)
    if tests is None:
        os._exit(2)
    _report(report_fd, _Watch(job, tests, nonce, pid, ours).until_the_end())


def _report(fd: int, report: dict[str, Any]) -> NoReturn:
    data = json.dumps(report).encode("utf-8")
    while data:
        data = data[os.write(fd, data) :]
    os._exit(0)


def _prepare_view(setup: TaskSetup, tmp_bytes: int) -> None:
    """Give the program places to write; raises OSError."""
    if setup.guards is None:
        mount_private(tmp_bytes, setup.settings["private"], setup.settings["exposed"])
        kernel.raise_loopback()
        return
    kernel.adopt_orphans()
    folder = setup.home.parent
    if folder.exists():
        folder.rename(tempfile.mkdtemp(dir=folder.parent))
    folder.mkdir(mode=0o700)
    if setup.guards.as_root:
        os.chown(folder, kernel.SANDBOX_ID, kernel.SANDBOX_ID)


class _Watch:
    """The limits, the program's processes, and the states of the protocol. What the task may
    say, in this order: ``ready``, upon which it gets the tests, and ``result``. It may end early
    with ``syntax``, ``raised`` or ``tampered``. Each test that fails is told beside that, at
    once."""

    def __init__(
        self, job: dict[str, Any], tests: dict[str, Any], nonce: str, pid: int, ends: Ends
    ) -> None:
        self._job = job
        self._tests = tests
        self._nonce = nonce
        self._task = pid
        self._channel, self._failures, self._output = ends
        self._expected = "ready"
        self._failed = b""
        self._said = bytearray()
        self._output_bytes = 0
        self._tail = b""
        self._end: dict[str, Any] | None = None
        self._exit: int | None = None
        self._over_memory = False
        self._peak_bytes = 0
        self._cpu_s: dict[tuple[int, str], float] = {}
        self._deadline_s = time.monotonic() + job["timeout_s"]
        for fd in ends:
            os.set_blocking(fd, False)

    def until_the_end(self) -> dict[str, Any]:
        """Watch until the task has ended or a limit is reached, kill everyone, and report."""
        self._listen()
        # A message that was sent before the end counts, although the news of the end came first.
        while self._end is None and self._hear_task():
            pass
        while self._output_bytes <= self._job["output_bytes"] and self._drain_output():
            pass
        # And reaped, so that their CPU time is ours: killing pid 1 instead would lose it.
        self._look(memory=False)
        processes.kill_descendants(longest_s=_KILL_S)
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        return {
            **(self._end or {"phase": "ended"}),
            "exit": self._exit,
            "over_memory": self._over_memory,
            "memory_peak_bytes": max(self._peak_bytes, largest),
            "cpu_polled_s": sum(self._cpu_s.values()),
            "output_tail": self._tail.decode("utf-8", "backslashreplace"),
        }

    def _listen(self) -> None:
        poll = select.poll()
        handlers = {
            self._channel: self._hear_task,
            self._failures: self._hear_failures,
            self._output: self._drain_output,
        }
        for fd in handlers:
            poll.register(fd, select.POLLIN)
        # Before Linux 5.3 the next tick notices.
        with contextlib.suppress(OSError, AttributeError):
            poll.register(os.pidfd_open(self._task), select.POLLIN)
        look_s = time.monotonic() + _WATCH_PERIOD_S
        while self._end is None and not self._over_memory and self._reap() and self._exit is None:
            now_s = time.monotonic()
            if now_s >= self._deadline_s:
                self._end = {"phase": "timeout"}
            elif now_s >= look_s:
                self._look()
                look_s = time.monotonic() + _WATCH_PERIOD_S
            else:
                for fd, _ in poll.poll((min(look_s, self._deadline_s) - now_s) * 1000):
                    if fd in handlers and handlers[fd]() == b"":
                        poll.unregister(fd)

    def _drain_output(self) -> bytes | None:
        part = _read(self._output)
        self._output_bytes += len(part or b"")
        self._tail = (self._tail + (part or b""))[-self._job["tail_bytes"] :]
        if self._output_bytes > self._job["output_bytes"] and self._end is None:
            self._end = {"phase": "output"}
        return part

    def _hear_failures(self) -> bytes | None:
        """Names of failed tests, a line each. Anything in the sandbox may write them, and can only
        harm itself by that."""
        part = _read(self._failures)
        self._failed += part or b""
        if len(self._failed) > _MAX_FAILURES_BYTES and self._end is None:
            self._end = {"phase": "tampered", "what": "the channel of failed tests"}
        return part

    def _hear_task(self) -> bytes | None:
        part = _read(self._channel)
        self._said += part or b""
        try:
            while self._end is None and (body := take_frame(self._said)) is not None:
                self._obey(json.loads(body))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            self._end = {"phase": "tampered", "what": "the channel of the verdict"}
        return part

    def _obey(self, message: dict[str, Any]) -> None:
        if not hmac.compare_digest(str(message.get("nonce")).encode(), self._nonce.encode()):
            raise ValueError("not from our code")
        phase = message["phase"]
        if phase in ("syntax", "raised", "tampered", "stuck"):
            self._end = {
                "phase": phase,
                "what": str(message["what"]),
                "memory": bool(message["memory"]),
                "network": bool(message["network"]),
            }
        elif phase != self._expected:
            raise ValueError("out of order")
        elif phase == "ready":
            self._expected = "result"
            self._send_tests()
        else:
            rows = json.loads(message["tests"]).items()
            tests = {str(name): (str(outcome), str(text)) for name, (outcome, text) in rows}
            # Told before the result was, so it has arrived.
            while self._hear_failures():
                pass
            failed = self._failed.decode("utf-8", "backslashreplace").splitlines()
            if any(tests.get(name, ("pass",))[0] == "pass" for name in failed):
                raise ValueError("a failure was taken back")
            self._end = {"phase": "result", "tests": tests}

    def _send_tests(self) -> None:
        """The task is waiting for them; one that does not read is left to the time limit."""
        data = encode_frame(self._tests)
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

    def _look(self, *, memory: bool = True) -> None:
        """At the memory and CPU time of all processes."""
        everyone = processes.everyone() if os.getpid() == 1 else processes.tree(os.getpid())
        pids = [pid for pid in everyone if pid != os.getpid()]
        resident = 0
        for pid in pids:
            try:
                resident += processes.resident_bytes(pid)
                start, cpu_s = processes.started_and_cpu_s(pid)
            except (OSError, ValueError, IndexError):
                continue
            # The CPU time of a child whose parent ignored SIGCHLD is added to no other process.
            self._cpu_s[pid, start] = cpu_s
        # Resident memory counts shared pages once per process, so it bounds the
        # proportional set size from above; the expensive figure is read only where it matters.
        if memory and resident > self._peak_bytes:
            total = sum(map(processes.proportional_bytes, pids))
            self._peak_bytes = max(self._peak_bytes, total)
            self._over_memory = self._peak_bytes > self._job["memory_bytes"]

    def _reap(self) -> bool:
        """Reap all that have ended; False when no child is left at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._task:
                self._exit = os.waitstatus_to_exitcode(status)


def _read(fd: int) -> bytes | None:
    """What has arrived: nothing at the end, None where there is nothing yet."""
    try:
        return os.read(fd, 2**18)
    except BlockingIOError:
        return None
    except OSError:
        return b""
