"""Task files of the ML.ENERGY leaderboard: ``public/data/tasks/*.json``."""

from collections.abc import Mapping
from typing import Any

from codejoule.config import UserError
from codejoule.published.figures import PublishedFigure
from codejoule.published.formats.base import Document, Format, Reading, merged, named_row

_ENERGY = "energy_per_token_joules"
_PARALLEL = ("tensor_parallel", "expert_parallel", "data_parallel")
_UNQUANTIZED = {"bfloat16": "bfloat16", "float16": "float16", "fp16": "float16"}


def _recognizes(document: Document) -> bool:
    data = document.data
    return isinstance(data, dict) and isinstance(data.get("configurations"), list)


def _read(document: Document) -> Reading:
    task, rows = str(document.data.get("task", document.path.stem)), document.data["configurations"]
    tokens = [(n, row) for n, row in enumerate(rows, 1) if isinstance(row, dict) and _ENERGY in row]
    if not tokens:
        raise UserError(
            f"{document.path}: none of its {len(rows)} rows has {_ENERGY}; figures of images and "
            "videos have no energy per token"
        )
    figures = []
    for number, row in tokens:
        with named_row(document, number):
            figures.append(_figure(task, row))
    rest = len(rows) - len(tokens)
    left_out = (f"{rest} rows without {_ENERGY}",) if rest else ()
    return Reading(figures=merged(figures), left_out=left_out)


def _figure(task: str, row: Mapping[str, Any]) -> PublishedFigure:
    precision = str(row["weight_precision"])
    # Where no limit was set, the batch is what there was of it.
    slots = row["max_num_seqs"] or row["avg_batch_size"]
    parallel = [f"{name}={row[name]}" for name in _PARALLEL if (row.get(name) or 1) != 1]
    return PublishedFigure(
        model=str(row["model_id"]),
        card=str(row["gpu_model"]),
        cards=int(row["num_gpus"]),
        engine="vllm",
        quantization="none" if precision in _UNQUANTIZED else precision,
        dtype=_UNQUANTIZED.get(precision, ""),
        batch=round(slots),
        energy_per_output_token_j=float(row[_ENERGY]),
        method="NVML's energy counter, GPUs alone, while all slots of the server are busy",
        source=f"ML.ENERGY leaderboard, {task}",
        suite=task,
        output_tokens=float(row["avg_output_len"]),
        throughput_tokens_per_s=float(row["output_throughput_tokens_per_sec"]),
        runs=1,
        weights="hub",
        length="free",
        settings=" ".join(parallel),
    )


ML_ENERGY = Format(
    name="ml_energy",
    what="a task file of the ML.ENERGY leaderboard (public/data/tasks/*.json)",
    recognizes=_recognizes,
    read=_read,
)
