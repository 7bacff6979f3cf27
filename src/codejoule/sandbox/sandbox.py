"""A sandbox that runs programs against their tests, one at a time."""

import contextlib
import logging
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from codejoule.config import UserError
from codejoule.config.schema import EvaluatorConfig, EvaluatorIsolation
from codejoule.sandbox._inside.messages import encode_frame, receive_frame
from codejoule.sandbox._inside.processes import cpu_of_tree_s, kill, proportional_bytes, tree
from codejoule.sandbox.folder import SamplesFolder
from codejoule.sandbox.interpreter import describe_interpreter
from codejoule.sandbox.launch import launch

_LOGGER = logging.getLogger(__name__)

_GREETING_S = 180.0
"""Importing large libraries from a cold disk takes a while."""
_PATIENCE_S = 10.0
"""How long after a program's time limit the worker must have answered."""
_TAIL_BYTES = 4096
"""How much of the end of the output is reported ..."""
_KEPT_BYTES = 6 * 2**20
"""... and where it is to be kept: what fits into a frame with the rest of the report."""
_SETTLE_S = 0.5
_ATTEMPTS = 2
"""How often a program is tried whose worker is lost on it."""

_HOW_TO_ENABLE = (
    "The sandbox needs Linux namespaces. Any one of these provides them: "
    "run as root; or allow user namespaces (`sysctl -w user.max_user_namespaces=15000`, on "
    "Debian `sysctl -w kernel.unprivileged_userns_clone=1`, on Ubuntu 24.04 or later `sysctl "
    "-w kernel.apparmor_restrict_unprivileged_userns=0`); or, in a container, start it with "
    "`docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined` (or "
    "`--privileged`). Untrusted code is never run without it, unless you spell out "
    "evaluator.isolation=process, which protects much less: samples then share this "
    "machine's file system, processes and users"
)
_HOW_TO_ENABLE_PROCESS = (
    "evaluator.isolation=process needs a Python that the samples' user can read (name one with "
    "evaluator.python) and, as root, the right to become user nobody"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What happened to one program and its tests."""

    phase: str
    """How it ended: ``result`` if the tests ran to their end, else ``syntax``, ``raised``,
    ``tampered``, ``timeout``, ``output`` (too much was printed), ``ended`` (the process did),
    ``too large``, ``lost`` (the worker was, twice), ``evicted`` or ``stuck`` (no set-up)."""
    wall_s: float
    """Wall time [s]."""
    cpu_s: float
    """CPU time of all its processes and of those that guard it [s]."""
    tests: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Of each test that ran: ``pass``, ``fail``, ``network`` (failed, and called for another
    host), ``memory``, ``skip`` or ``xfail`` (failed as it was told to), and the traceback."""
    what: str = ""
    """More about the phase: a traceback, or what was tampered with."""
    memory: bool = False
    """Whether it raised for want of memory."""
    network: bool = False
    """Whether it called for another host before it raised."""
    over_memory: bool = False
    """Whether it reached its limit of memory."""
    exit: int | None = None
    """Status of its first process, negative for a signal; None where not known."""
    output_tail: str = ""
    """The end of what it printed."""
    memory_peak_bytes: int | None = None
    """Largest memory of its processes together; None where not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxFacts:
    """What a sandbox said of itself when it started."""

    launcher: str
    """``namespaces``, or ``process``: there is no sandbox."""
    primitives: tuple[str, ...]
    """What was found in force around each program, in words."""
    user_namespace: bool
    """Whether programs live in user namespaces; else root gives up its rights per program."""
    python: tuple[int, ...]
    """Version of the interpreter that runs them."""
    preimported: tuple[str, ...]
    """Modules imported once for all."""


class WorkerLostError(RuntimeError):
    """The worker went away in the middle of something."""


class Sandbox:
    """A process that isolates programs (the worker), and its restarts. It starts with the first
    program, and ends with the ``with`` block or `stop`. For one thread at a time: the kernel
    ends the process together with the thread that started it."""

    def __init__(
        self, config: EvaluatorConfig | None = None, *, preimport: Sequence[str] = ()
    ) -> None:
        """`config` has the limits and the Python, `preimport` the modules to import once for
        all programs. Raises ConfigError where that Python does not work."""
        self._config = config or EvaluatorConfig()
        self._interpreter = describe_interpreter(self._config.python)
        self._confined = self._config.isolation is EvaluatorIsolation.sandbox
        self._preimport = list(preimport)
        machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        # Beyond four fifths it is the machine that suffers.
        self.memory_bytes = min(self._config.memory_bytes, machine_bytes * 4 // 5)
        """Limit of a program."""
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._folder: SamplesFolder | None = None
        self._aborted = self._evicted = self._running = False
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> SandboxFacts:
        """Start the worker and wait for its greeting; raises UserError, with the reason and
        the remedy, where the machine does not let it isolate programs."""
        while "start_without" in (greeting := self._greet()):
            unfit = greeting["start_without"]
            _LOGGER.info("%s starts threads when imported: left to each sample", unfit)
            self.stop()
            self._preimport.remove(unfit)
        return SandboxFacts(
            launcher="namespaces" if self._confined else "process",
            primitives=tuple(greeting["primitives"]),
            user_namespace=bool(greeting["user_namespace"]),
            python=tuple(greeting["python"]),
            preimported=tuple(greeting["preimported"]),
        )

    def _greet(self) -> dict[str, Any]:
        if not self._confined:
            self._folder = SamplesFolder()
            # Passable, but not readable, for the user that programs become where we are root.
            self._folder.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        with tempfile.TemporaryFile() as words:
            self._process, self._sock = launch(
                self._interpreter,
                preimport=self._preimport,
                words=words,
                folder=None if self._folder is None else str(self._folder.path),
            )
            self._sock.settimeout(_GREETING_S)
            try:
                greeting = receive_frame(self._sock.recv)
            except OSError:
                greeting = None
            if greeting is not None and "error" not in greeting:
                return greeting
            words.seek(0)
            said = words.read().decode("utf-8", "backslashreplace").strip()
        reason = (greeting or {}).get("error") or said or "the worker ended without a word"
        self.stop()
        if not self._confined:
            raise UserError(f"samples cannot be run: {reason}. {_HOW_TO_ENABLE_PROCESS}")
        raise UserError(f"the sandbox cannot start with namespaces: {reason}. {_HOW_TO_ENABLE}")

    def run(
        self, program: str, tests: str, *, timeout_s: float = 60.0, seed: int = 0,
        name: str = "program", keeps_output: bool = False,
    ) -> Execution:  # fmt: skip
        """Execute `program`, then the class ``TestCases`` of the unittest module `tests`, in one
        module, and say what happened. `seed` is that of its random numbers, `name` what to call
        it in the log; with `keeps_output` megabytes of what it prints are reported. A worker
        that is lost is replaced, which is logged, and the program tried once more."""
        job = {
            "program": program,
            "seed": seed,
            "timeout_s": timeout_s,
            "memory_bytes": self.memory_bytes,
            "tmp_bytes": self._config.tmp_bytes,
            "output_bytes": self._config.output_bytes,
            "tail_bytes": _KEPT_BYTES if keeps_output else _TAIL_BYTES,
        }
        try:
            frames = encode_frame(job) + encode_frame({"tests": tests})
        except ValueError as error:
            return Execution(phase="too large", what=str(error), wall_s=0.0, cpu_s=0.0)
        self._count += 1
        self._evicted = False
        self._running = True
        try:
            return self._try(frames, timeout_s, name)
        finally:
            self._running = False

    def _try(self, frames: bytes, timeout_s: float, name: str) -> Execution:
        start_s = time.monotonic()
        for attempt in range(_ATTEMPTS):
            if self._process is None:
                self.start()
            if self._aborted:
                raise WorkerLostError("aborted")
            try:
                return self._exchange(frames, timeout_s)
            except WorkerLostError as error:
                if self._aborted:
                    raise
                self.stop()
                # The next one may need the memory that this one had.
                time.sleep(_SETTLE_S)
                if self._evicted:
                    break
                again = attempt + 1 < _ATTEMPTS
                then = "trying the sample again" if again else "the sample is a fail"
                _LOGGER.warning("sandbox worker lost on %s (%s): restarted, %s", name, error, then)
        phase = "evicted" if self._evicted else "lost"
        return Execution(phase=phase, wall_s=time.monotonic() - start_s, cpu_s=0.0)

    def _exchange(self, frames: bytes, timeout_s: float) -> Execution:
        sock = self._sock
        assert sock is not None
        sock.settimeout(timeout_s + _PATIENCE_S)
        try:
            sock.sendall(frames)
            report = receive_frame(sock.recv)
        except TimeoutError as error:
            raise WorkerLostError(f"no answer {_PATIENCE_S:.0f} s after the limit") from error
        except (OSError, ValueError) as error:
            raise WorkerLostError(str(error)) from error
        if report is None:
            raise WorkerLostError("it ended")
        tests = {name: (result, text) for name, (result, text) in report.get("tests", {}).items()}
        return Execution(**report | {"tests": tests})

    def stop(self) -> None:
        """End the worker and, with it, everything inside."""
        process, self._process = self._process, None
        if process is not None and self._sock is not None:
            self._sock.close()
            try:
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        folder, self._folder = self._folder, None
        if folder is not None:  # also of a worker that did not start
            folder.delete()

    def abort(self) -> None:
        """From another thread: make a `run` that is under way raise `WorkerLostError` soon,
        instead of waiting for its program."""
        self._aborted = True
        self._strike()

    def evict(self) -> None:
        """From another thread: make a `run` that is under way report, soon, that its program
        was ended to free its memory. The next one gets a new worker."""
        self._evicted = True
        process = self._process
        if process is not None:
            # At once: until the worker's end has reached its program, that takes more.
            kill(tree(process.pid))
        self._strike()

    def progress(self) -> tuple[int, float] | None:
        """From another thread: number of the program that runs, and CPU time of the worker and
        all below it [s]; None if there is none, or that cannot be told."""
        process, count = self._process, self._count
        with contextlib.suppress(OSError, ValueError, IndexError):
            if process is not None and self._running:
                return count, cpu_of_tree_s(process.pid)
        return None

    def taken_bytes(self) -> int:
        """From another thread: memory of the worker and of the present program."""
        process = self._process
        return 0 if process is None else sum(map(proportional_bytes, tree(process.pid)))

    def _strike(self) -> None:
        """Shut our end: the worker then ends its program and itself."""
        sock = self._sock
        with contextlib.suppress(OSError):
            if sock is not None:
                sock.shutdown(socket.SHUT_RDWR)
