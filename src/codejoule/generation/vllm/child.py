"""The process that vLLM runs in, and the pipe to it."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from codejoule.config import UserError

_WORKER = Path(__file__).parent / "worker.py"
_LAST_WORDS = 15
_PATIENCE_S = 20

_SETTINGS = {
    # In the child itself: the pipe is all there is between us and the model.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # Nothing from outside of the run.
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_PLUGINS": "",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOOPBACK_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    # Libraries that compile or download kernels when they are first used.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


class Child:
    """vLLM at work. Whatever it writes is kept for the message of its end."""

    def __init__(self, python: str, settings: Mapping[str, str]) -> None:
        """`settings` are variables of its environment beside those that are always set."""
        ours, its = socket.socketpair()
        self._pipe = ours
        self._lines: IO[str] = ours.makefile("r", encoding="utf-8")
        self._written = tempfile.TemporaryFile()  # noqa: SIM115
        environment = {**os.environ, **_SETTINGS, **settings}
        if python != sys.executable:
            # It is meant for this interpreter and names modules of other versions.
            environment.pop("PYTHONPATH", None)
        with its:
            self._process = subprocess.Popen(
                [python, str(_WORKER), str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._written,
                stderr=subprocess.STDOUT,
                env=environment,
                # Its processes for further GPUs would heed a terminal's Ctrl-C.
                start_new_session=True,
            )

    def say(self, message: Mapping[str, Any]) -> None:
        """Send one message; that it has ended is told by what is heard next."""
        try:
            self._pipe.sendall((json.dumps(message) + "\n").encode())
        except OSError:
            return

    def hear(self) -> dict[str, Any]:
        """The next message. Raises `UserError` for an error there, and where it has ended."""
        try:
            line = self._lines.readline()
        except OSError:
            line = ""
        message: dict[str, Any] = json.loads(line) if line.endswith("\n") else {"error": None}
        if "error" in message:
            raise self._death(message)
        return message

    def close(self) -> None:
        """End it."""
        self._lines.close()
        self._pipe.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Where this process' own libraries write, too: a job's log file.
        self._written.seek(0)
        sys.stderr.write(self._written.read().decode(errors="replace"))
        self._written.close()

    def _death(self, message: Mapping[str, Any]) -> UserError:
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = None
        self._written.seek(0)
        said = self._written.read().decode(errors="replace").replace("\r", "\n")
        words = "\n  ".join([line for line in said.splitlines() if line.strip()][-_LAST_WORDS:])
        what = message["error"] or f"its process ended with status {code}"
        if message.get("memory"):
            return UserError(
                f"engine=vllm: memory does not suffice ({what}); lower batch.size or "
                "generation.max_new_tokens, free the GPU of other processes, or choose a smaller "
                f"model or quant; finished windows are kept. Its last words:\n  {words}"
            )
        return UserError(
            f"engine=vllm: vLLM gave up: {what}. Mend what it names, or choose another engine, and "
            "run the same command again, which continues after the windows that are finished. Its "
            f"last words:\n  {words}"
        )
