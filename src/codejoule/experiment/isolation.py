"""Runs the generation stage in a child process of its own, or here."""

import json
import os
import signal
import sys
from collections import deque
from io import FileIO
from pathlib import Path

import yaml

from codejoule.common.fork_server import ForkServer, ForkServerError
from codejoule.config import UserError, project_root, write_whole
from codejoule.config.typed import to_plain
from codejoule.experiment import job_process
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.plan import Plan

_LAST_WORDS = 15

_server_of: dict[tuple[int, frozenset[tuple[str, str]]], ForkServer] = {}
"""The one there is, by its process and environment, which libraries read while they are imported.
"""


def generate_isolated(plan: Plan, folder: Path) -> None:
    """Run `generate` where the plan says. In a child, CUDA state, memory and crashes stay with the
    child: one that dies raises `UserError` with its exit status and the last lines it wrote. It is
    forked from a process that has imported its libraries, one for all jobs of this process."""
    if not plan.isolated:
        generate(plan, folder)
        return
    config = yaml.safe_dump(to_plain(plan.experiment), sort_keys=False)
    write_whole(folder / job_process.CONFIG, config)
    (folder / job_process.ERROR).unlink(missing_ok=True)
    order = {"folder": str(folder), "fingerprint": plan.fingerprint, "directory": str(Path.cwd())}
    try:
        read, write = os.pipe()
        with FileIO(read) as stream:
            try:
                job = _server().fork(order, files=[write])
            finally:
                os.close(write)
            with job:
                last_words = _echo(stream)
                code = job.wait()
    except ForkServerError as error:
        raise UserError(
            f"the process that jobs are forked from: {error}. isolation=inline runs them in the "
            "sweep's own process"
        ) from error
    if code != 0:
        raise _death(code, last_words, folder)


def _server() -> ForkServer:
    """This process' own, started when the first job needs it, and again if it has died or the
    environment is another."""
    key = os.getpid(), frozenset(os.environ.items())
    if key not in _server_of or _server_of[key].ended:
        for (process, _), earlier in _server_of.items():
            if process == key[0]:
                earlier.close()
        _server_of.clear()
        source = str(project_root() / "src")
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        _server_of[key] = ForkServer(
            ["-m", job_process.__name__],
            env=dict(os.environ),
            while_importing=job_process.WHILE_IMPORTING | {"PYTHONPATH": path},
        )
    return _server_of[key]


def _echo(stream: FileIO) -> list[str]:
    """Pass the child's stderr on as it comes (progress bars too) and keep its end."""
    kept: deque[bytes] = deque(maxlen=64)
    while chunk := os.read(stream.fileno(), 4096):
        sys.stderr.buffer.write(chunk)
        sys.stderr.flush()
        kept.append(chunk)
    text = b"".join(kept).decode(errors="replace").replace("\r", "\n")
    return [line for line in text.splitlines() if line.strip()][-_LAST_WORDS:]


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
