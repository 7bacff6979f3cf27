"""An interpreter that has imported what a job imports, and forks for every job it is told of.

Run by `tests.warm` alone, which says why.
"""

import os
import runpy
import socket
import sys
from pathlib import Path
from typing import Any

from codejoule.common.forking import leave, serve

OWN = ("codejoule", "hydra_plugins")


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


def become(job: dict[str, Any], files: tuple[int, ...]) -> int:
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
    if job["copy"] is not None:
        sys.path.insert(0, job["copy"])
        for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
            del sys.modules[name]
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
    found = serve(socket.socket(fileno=int(sys.argv[1])), import_libraries)
    leave(0 if found is None else become(found.order, found.files))
