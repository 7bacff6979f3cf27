"""One sandbox worker, as seen from the trusted side."""

import contextlib
import dataclasses
import logging
import os
import socket
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codejoule.config import UserError
from codejoule.config.schema import EvaluatorConfig
from codejoule.evaluation.sample import Sample
from codejoule.sandbox._inside import init
from codejoule.sandbox._inside.frames import (
    FrameTooLargeError,
    encode_frame,
    receive_frame,
)
from codejoule.sandbox._inside.processes import cpu_of_tree_s, kill_tree, memory_of_tree_bytes
from codejoule.sandbox.cgroup import Cgroup, open_cgroup
from codejoule.sandbox.held_folder import HeldFolder, abandoned_folders
from codejoule.sandbox.interpreter import Interpreter
from codejoule.sandbox.launch import Launched, Launcher, launch

_LOGGER = logging.getLogger(__name__)

_GREETING_S = 180.0
"""Importing large libraries from a cold disk takes a while."""

_PATIENCE_S = 10.0
"""How long after a sample's time limit the worker must have answered."""

_FOLDER_PREFIX = "codejoule-samples-"

_TAIL_BYTES = 4096
"""How much of the end of a sample's output is reported ..."""

_KEPT_BYTES = 6 * 2**20
"""... and where it is to be kept: what fits into a frame with the rest of the report."""

_ATTEMPTS = 2
"""How often a sample is tried whose worker is lost on it."""

HOW_TO_ENABLE = (
    "The sandbox needs Linux namespaces. Any one of these provides them: "
    "run as root; or allow user namespaces (`sysctl -w user.max_user_namespaces=15000`, on "
    "Debian `sysctl -w kernel.unprivileged_userns_clone=1`, on Ubuntu 24.04 or later `sysctl "
    "-w kernel.apparmor_restrict_unprivileged_userns=0`); or, in a container, start it with "
    "`docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined` (or "
    "`--privileged`). Untrusted code is never run without it, unless you spell out "
    "evaluator.isolation=process, which protects much less; see docs/sandbox.md"
)

_HOW_TO_ENABLE_PROCESS = (
    "evaluator.isolation=process needs a Python that the samples' user can read (name one with "
    "evaluator.python) and, as root, the right to become user nobody; see docs/sandbox.md"
)


class WorkerLostError(RuntimeError):
    """The worker went away in the middle of something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxFacts:
    """What a worker said of itself when it started, and what counts its costs."""

    launcher: Launcher
    """Who built the sandbox; ``process``: there is none."""
    primitives: tuple[str, ...]
    """What was found in force around each sample, in words."""
    user_namespace: bool
    """Whether samples live in user namespaces; else root gives up its rights per sample."""
    python: tuple[int, ...]
    """Version of the interpreter that judges."""
    preimported: tuple[str, ...]
    """Modules imported once for all samples."""
    cpu_source: str
    """Who counts CPU time: ``cgroup`` or ``processes``."""
    memory_source: str
    """Who measures memory: ``cgroup`` or ``processes``."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self) | {"launcher": self.launcher.value}


class Worker:
    """A worker process and its restarts. Not for use by several threads at once: the kernel
    ends the process together with the thread that started it."""

    def __init__(
        self, config: EvaluatorConfig, interpreter: Interpreter, launcher: Launcher, *,
        preimport: Sequence[str],
    ) -> None:  # fmt: skip
        self._config = config
        self._interpreter = interpreter
        self._launcher = launcher
        self._preimport = preimport
        self.memory_bytes = min(config.memory_bytes, _most_memory_bytes())
        """Limit of a sample."""
        self._launched: Launched | None = None
        self._cgroup: Cgroup | None = None
        self._folder: HeldFolder | None = None
        self._aborted = False
        self._evicted = False
        self._own_bytes = 0
        self._count = 0
        self._judging = False

    def start(self) -> SandboxFacts:
        """Start the process and wait for its greeting; raises UserError, with the reason and
        the remedy, where the machine does not let it build its sandbox."""
        while "start_without" in (greeting := self._greet()):
            unfit = greeting["start_without"]
            _LOGGER.info("%s starts threads when imported: left to each sample", unfit)
            self.stop()
            self._preimport = [name for name in self._preimport if name != unfit]
        if not greeting["in_cgroup"]:
            self._close_cgroup()
        self._own_bytes = self._tree_bytes()
        measures_memory = self._cgroup is not None and self._cgroup.measures_memory
        return SandboxFacts(
            launcher=self._launcher,
            primitives=tuple(greeting["primitives"]),
            user_namespace=bool(greeting["user_namespace"]),
            python=tuple(greeting["python"]),
            preimported=tuple(greeting["preimported"]),
            cpu_source="processes" if self._cgroup is None else "cgroup",
            memory_source="cgroup" if measures_memory else "processes",
        )

    def _greet(self) -> dict[str, Any]:
        words = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `stop`)
        self._cgroup = open_cgroup()
        if self._launcher is Launcher.process:
            self._folder = _make_folder()
        self._launched = launch(
            self._interpreter, self._launcher, preimport=self._preimport, words=words,
            folder=None if self._folder is None else self._folder.path,
            cgroup=None if self._cgroup is None else self._cgroup.procs,
        )  # fmt: skip
        self._launched.sock.settimeout(_GREETING_S)
        try:
            greeting = receive_frame(self._launched.sock)
        except OSError:
            greeting = None
        if greeting is not None and "error" not in greeting:
            return greeting
        words.seek(0)
        said = words.read().decode("utf-8", "backslashreplace").strip()
        reason = (greeting or {}).get("error") or said or "the worker ended without a word"
        self.stop()
        if self._launcher is Launcher.process:
            raise UserError(f"samples cannot be run: {reason}. {_HOW_TO_ENABLE_PROCESS}")
        raise UserError(
            f"the sandbox cannot start with {self._launcher.value}: {reason}. {HOW_TO_ENABLE}"
        )

    def judge(self, sample: Sample, timeout_s: float) -> dict[str, Any]:
        """What happened to `sample`, as `ruling` reads it. A worker that is lost is replaced,
        which is logged, and the sample tried once more."""
        try:
            frames = self._frames_for(sample, timeout_s)
        except FrameTooLargeError as error:
            return {"phase": "too large", "what": str(error), "wall_s": 0.0, "cpu_s": 0.0}
        self._count += 1
        self._evicted = False
        self._judging = True
        try:
            return self._attempt(sample, frames, timeout_s)
        finally:
            self._judging = False

    def progress(self) -> tuple[int, float] | None:
        """For another thread: number of the sample that is being judged, and CPU time of the
        worker and all below it [s]; None if there is none, or that cannot be told."""
        launched, group, count = self._launched, self._cgroup, self._count
        if launched is None or not self._judging:
            return None
        try:
            cpu_s = cpu_of_tree_s(launched.process.pid) if group is None else group.cpu_s()
        except (OSError, ValueError, IndexError, StopIteration):
            return None
        return count, cpu_s

    def _attempt(self, sample: Sample, frames: bytes, timeout_s: float) -> dict[str, Any]:
        start_s = time.monotonic()
        for attempt in range(_ATTEMPTS):
            if self._launched is None:
                self.start()
            if self._aborted:
                raise WorkerLostError("aborted")
            try:
                return self._counted(frames, timeout_s)
            except WorkerLostError as error:
                if self._aborted:
                    raise
                if self._evicted:
                    self.stop()
                    break
                again = attempt + 1 < _ATTEMPTS
                _LOGGER.warning(
                    "sandbox worker lost on %s sample %d (%s): restarted, %s",
                    sample.task_id, sample.sample, error,
                    "trying the sample again" if again else "the sample is a fail",
                )  # fmt: skip
                self.stop()
        phase = "evicted" if self._evicted else "lost"
        return {"phase": phase, "wall_s": time.monotonic() - start_s, "cpu_s": 0.0}

    def stop(self) -> None:
        """End the worker and, with it, everything inside."""
        if self._launched is None:
            return
        launched, self._launched = self._launched, None
        launched.sock.close()
        try:
            launched.process.wait(timeout=2)
        except Exception:
            launched.process.kill()
            launched.process.wait()
        launched.words.close()
        self._close_cgroup()
        if self._folder is not None:
            init.remove_tree(str(self._folder.path))
            self._folder.release()
            self._folder = None

    def abort(self) -> None:
        """From another thread: make a `judge` that is under way raise `WorkerLostError` soon,
        instead of waiting for its sample."""
        self._aborted = True
        self._strike()

    def evict(self) -> None:
        """From another thread: make a `judge` that is under way report, soon, that its sample
        was ended to free its memory. The next sample gets a new process."""
        self._evicted = True
        if self._launched is not None:
            # At once: until the worker's end has reached its sample, that takes more.
            with contextlib.suppress(OSError):
                kill_tree(self._launched.process.pid)
        self._strike()

    def sample_bytes(self) -> int:
        """From another thread: memory that the present sample has taken."""
        return self._tree_bytes() - self._own_bytes

    def _tree_bytes(self) -> int:
        launched = self._launched
        try:
            return 0 if launched is None else memory_of_tree_bytes(launched.process.pid)
        except OSError:
            return 0

    def _strike(self) -> None:
        launched = self._launched
        if launched is None:
            return
        if self._launcher is Launcher.process:
            # Nothing dies with the worker then: it ends its sample when our end is shut.
            with contextlib.suppress(OSError):
                launched.sock.shutdown(socket.SHUT_RDWR)
        else:
            launched.process.kill()

    def _frames_for(self, sample: Sample, timeout_s: float) -> bytes:
        # Deterministic per sample, so that a program that draws random numbers gets the same
        # verdict whichever worker it meets.
        seed = zlib.crc32(f"{sample.task_id}\0{sample.sample}".encode("utf-8", "surrogatepass"))
        job = {
            "program": sample.program,
            "seed": seed,
            "timeout_s": timeout_s,
            "memory_bytes": self.memory_bytes,
            "tmp_bytes": self._config.tmp_bytes,
            "output_bytes": self._config.output_bytes,
            "tail_bytes": _KEPT_BYTES if sample.keeps_output else _TAIL_BYTES,
        }
        return encode_frame(job) + encode_frame({"tests": sample.test})

    def _close_cgroup(self) -> None:
        if self._cgroup is not None:
            self._cgroup.close()
            self._cgroup = None

    def _counted(self, frames: bytes, timeout_s: float) -> dict[str, Any]:
        """The report, with the costs as the control group counts them where there is one."""
        group = self._cgroup
        if group is None:
            report = self._exchange(frames, timeout_s)
            return report | {"cpu_source": "processes", "memory_source": "processes"}
        before_s = group.start()
        report = self._exchange(frames, timeout_s)
        report |= {
            "cpu_s": group.cpu_s() - before_s,
            "cpu_source": "cgroup",
            "memory_source": "processes",
        }
        peak_bytes = group.memory_peak_bytes()
        if peak_bytes is not None:
            report |= {"memory_peak_bytes": peak_bytes, "memory_source": "cgroup"}
        return report

    def _exchange(self, frames: bytes, timeout_s: float) -> dict[str, Any]:
        assert self._launched is not None
        sock = self._launched.sock
        sock.settimeout(timeout_s + _PATIENCE_S)
        try:
            sock.sendall(frames)
            report = receive_frame(sock)
        except TimeoutError as error:
            raise WorkerLostError(f"no answer {_PATIENCE_S:.0f} s after the limit") from error
        except (OSError, ValueError, FrameTooLargeError) as error:
            raise WorkerLostError(str(error)) from error
        if report is None:
            raise WorkerLostError("it ended")
        return report


def _make_folder() -> HeldFolder:
    """Where samples live that have no file system of their own. Those that killed processes
    have left are removed."""
    parent = Path(tempfile.gettempdir()).resolve()
    for left in abandoned_folders(parent, prefix=_FOLDER_PREFIX):
        init.remove_tree(str(left))
    folder = HeldFolder(parent, prefix=_FOLDER_PREFIX)
    if os.geteuid() == 0:
        # Passable, but not readable, for the user that samples become.
        folder.path.chmod(0o711)
    return folder


def _most_memory_bytes() -> int:
    """Four fifths of the machine's memory: beyond, it is the machine that suffers."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 4 // 5
