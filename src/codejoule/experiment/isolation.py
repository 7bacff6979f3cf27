"""Runs the generation stage in a fresh child process, or here."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import IO

import yaml

from codejoule.config import UserError, project_root, write_whole
from codejoule.config.explain import explain
from codejoule.config.typed import from_plain, to_plain
from codejoule.experiment.generation_stage import generate
from codejoule.experiment.plan import Plan, make_plan

_CONFIG = "config.yaml"
_ERROR = "generation_error.json"
_LAST_WORDS = 15
_PR_SET_PDEATHSIG = 1


def generate_isolated(plan: Plan, folder: Path) -> None:
    """Run `generate` where the plan says. In a child, CUDA state, memory and crashes stay with the
    child: one that dies raises `UserError` with its exit status and the last lines it wrote."""
    if not plan.isolated:
        generate(plan, folder)
        return
    config = yaml.safe_dump(to_plain(plan.experiment), sort_keys=False)
    write_whole(folder / _CONFIG, config)
    (folder / _ERROR).unlink(missing_ok=True)
    source = str(project_root() / "src")
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder), plan.fingerprint, str(os.getpid())],
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    ) as child:
        assert child.stderr is not None
        last_words = _echo(child.stderr)
        code = child.wait()
    if code != 0:
        raise _death(code, last_words, folder)


def _echo(stream: IO[bytes]) -> list[str]:
    """Pass the child's stderr on as it comes (progress bars too) and keep its end."""
    kept: deque[bytes] = deque(maxlen=64)
    while chunk := os.read(stream.fileno(), 4096):
        sys.stderr.buffer.write(chunk)
        sys.stderr.flush()
        kept.append(chunk)
    text = b"".join(kept).decode(errors="replace").replace("\r", "\n")
    return [line for line in text.splitlines() if line.strip()][-_LAST_WORDS:]


def _death(code: int, last_words: list[str], folder: Path) -> Exception:
    said = folder / _ERROR
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


def _child(folder: Path, fingerprint: str, parent: int) -> int:
    """The child's main: generate, or leave the error's text behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the line above
        return 1
    plain = yaml.safe_load((folder / _CONFIG).read_text(encoding="utf-8"))
    try:
        plan = make_plan(from_plain(plain))
        if plan.fingerprint != fingerprint:
            raise UserError(
                "tasks or weights changed on disk while the job was starting; run it again"
            )
        generate(plan, folder)
    except Exception as error:
        message = explain(error, ())
        if message is None:
            raise
        try:
            write_whole(folder / _ERROR, json.dumps({"message": message}))
        except UserError:  # the disk is full: the parent quotes what is said here
            print(message, file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # the parent was interrupted too, and says so
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_child(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
