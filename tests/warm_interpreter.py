"""An interpreter that has imported what a job imports, and forks for every job it is told of.

Run by `tests.warm` alone, which says why.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any


def import_libraries() -> None:
    """What a job of the bundled model imports."""
    # The product sets this before it imports MLflow, whose telemetry is a thread otherwise.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import hydra
    import matplotlib.backends.backend_svg
    import matplotlib.figure
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking
    import pandas
    import pyarrow.parquet
    import scipy.optimize
    import scipy.stats
    import torch
    import transformers.models.qwen2.modeling_qwen2
    import transformers.models.qwen2.tokenization_qwen2
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import codejoule.cli.summary
    import codejoule.experiment.run

    assert codejoule and hydra and matplotlib and mlflow and pandas and pyarrow and scipy and torch
    assert transformers and AutoModelForCausalLM and AutoTokenizer
    assert threading.active_count() == 1, "a fork has one thread: imports must have started none"
    # Shared memory stays shared, and no job's collector walks through it.
    gc.freeze()


def next_job(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Serve until there is a job to become (in the fork), or nobody to serve any more (None)."""
    running: set[int] = set()
    while True:
        text, files, _, _ = socket.recv_fds(channel, 2**20, 2)
        if not text:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            return None
        order = json.loads(text)
        if "argv" in order:
            pid = os.fork()
            if pid == 0:
                channel.close()
                return order, files
            running.add(pid)
            for file in files:
                os.close(file)
            answer: int | None = pid
        else:
            ended, status = os.waitpid(order["pid"], os.WNOHANG)
            running.discard(ended)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        with suppress(BrokenPipeError):  # then nothing comes any more, either
            channel.send(json.dumps(answer).encode())


def become(job: dict[str, Any], files: list[int]) -> int:
    """Turn this process into ``python argv[0] argv[1:]``; its exit code."""
    for number, file in enumerate(files, start=1):
        os.dup2(file, number)
        os.close(file)
    if job["new_session"]:
        os.setsid()
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv = job["argv"]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0)
    except Exception:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    import_libraries()
    found = next_job(socket.socket(fileno=int(sys.argv[1])))
    if found is not None:
        code = become(*found)
        # What a process does at its end, but for taking five thousand modules apart, for which
        # every page shared with the other processes would be copied.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
