"""The data set: what its files and columns are, and how it comes from a study's folder."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

DATA = "data"
"""Its folder, beside the pages."""
SUMS = "SHA256SUMS"

CELLS: Mapping[str, tuple[str, str]] = {
    "part": (
        "str",
        "grid, smollm, starter, or again (the same once more, on another day or machine)",
    ),
    "model": ("str", "model, as `conf/model` names it"),
    "quant": (
        "str",
        "quantization, as `conf/quant` names it; `all` is a sweep that chose among them",
    ),
    "engine": ("str", "engine"),
    "batch": ("int", "sequences decoded together"),
    "suite": ("str", "tasks; `bigcodebench_lengths` are texts of BigCodeBench's lengths"),
    "repeat": ("int", "number of the repeat"),
    "status": ("str", "finished or failed"),
    "error": ("str", "why it failed"),
    "call": ("int", "the call of `calls.csv` that it ran in"),
    "began": ("str", "when, in UTC"),
    "wall_s": ("float", "wall time of the whole run, loading included"),
    "run_id": ("str", "MLflow's id of it"),
    "gpu": ("str", "model of the GPU"),
    "gpu_uuid": ("str", "the GPU whose counter was read"),
    "dtype": ("str", "dtype of everything unquantized"),
    "kernels": ("str", "classes of the linear layers, as found in the loaded model"),
    "weights": ("str", "random, local or bundled"),
    "stored_as": ("str", "how the weights of a GGUF file were stored before they were dequantized"),
    "length": ("str", "fixed with random weights, else free"),
    "energy_source": ("str", "nvml is the GPU's counter"),
    "energy_scope": ("str", "devices whose energy counts"),
    "validity": ("str", "ok, or doubts"),
    "fingerprint": ("str", "hash of what can change the result"),
    "tasks": ("float", "tasks"),
    "prompt_tokens": ("float", "prompt tokens of all of them"),
    "output_tokens": ("float", "output tokens of all samples"),
    "latency_s": ("float", "time of generation"),
    "ttft_s": ("float", "mean time to the first token"),
    "tpot_s": ("float", "mean time per further token"),
    "throughput_tokens_per_s": ("float", "output tokens over `latency_s`"),
    "energy_generation_j": ("float", "energy of generation"),
    "energy_generation_uncertainty_j": ("float", "its standard uncertainty, from the meter"),
    "energy_gpu_net_j": ("float", "energy of the GPU less idle power x time"),
    "energy_prefill_j": ("float", "up to the first token of each batch"),
    "energy_decode_j": ("float", "after it"),
    "energy_load_j": ("float", "loading; absent where an earlier run had loaded the model"),
    "energy_compile_j": ("float", "compiling and capturing"),
    "energy_quantize_j": ("float", "quantizing on that machine"),
    "energy_evaluation_j": ("float", "running the tests"),
    "energy_per_output_token_j": ("float", "`energy_generation_j` over `output_tokens`"),
    "energy_per_output_token_steady_j": ("float", "the same while all slots were busy"),
    "energy_per_solved_task_j": ("float", "energy of generation and evaluation over solved tasks"),
    "energy_crosscheck_rel": ("float", "integrated power over the counter's energy, minus 1"),
    "idle_power_w": ("float", "idle power with the model loaded"),
    "mean_power_w": ("float", "energy over time of generation"),
    "memory_peak_bytes": ("float", "peak of allocated memory"),
    "pass_at_1": ("float", "pass@1"),
    "pass_at_1_ci_low": ("float", "lower end of its 95 % interval"),
    "pass_at_1_ci_high": ("float", "upper end"),
    "pass_at_1_plus": ("float", "pass@1 by the base and the plus tests"),
    "predicted_latency_s": ("float", "the estimator's word on `latency_s`"),
    "predicted_energy_gpu_j": ("float", "the estimator's word on the GPU's energy"),
    "predicted_memory_bytes": ("float", "the estimator's word on memory"),
}
"""Type and meaning of each column of ``cells``: a row per run."""
CALLS: Mapping[str, tuple[str, str]] = {
    "call": ("int", "number of the call of `benchmarks/showpiece.py`"),
    "began": ("str", "when, in UTC"),
    "seconds": ("float", "its wall time"),
    "gpu_j": ("float", "energy of the GPU from its beginning to its end, by the counter"),
}
"""The same of ``calls``: a row per call."""
TASKS: Mapping[str, tuple[str, str]] = {
    "run_id": ("str", "the run in `cells`"),
    **{
        name: CELLS[name]
        for name in ("part", "model", "quant", "engine", "batch", "suite", "repeat")
    },
    "task_id": ("str", "task"),
    "sample": ("int", "number of the sample"),
    "prompt_tokens": ("float", "tokens of the prompt"),
    "output_tokens": ("float", "tokens of the answer"),
    "energy_j": ("float", "its share of the energy of generation"),
    "evaluation_energy_j": ("float", "its share of the energy of running the tests"),
    "verdict": ("str", "pass, fail or timeout, by the base tests"),
    "verdict_plus": ("str", "by the base and the plus tests"),
    "domains": ("str", "domains of the task"),
}
"""The same of ``tasks``: a row per task and sample of the parts smollm and starter."""
SCHEMA = {"cells": CELLS, "calls": CALLS, "tasks": TASKS}
_DTYPES = {"str": "string", "int": "Int64", "float": "float64"}


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data set as it is committed."""

    cells: pd.DataFrame
    calls: pd.DataFrame
    tasks: pd.DataFrame
    starter: str
    """What `resolve` said in the end of the bundled model; empty if it has not run."""
    checksum: str
    """SHA-256 of its list of checksums."""


def collect(study: Path, folder: Path) -> None:
    """Make the data set from the folder in which benchmarks/showpiece.py has left a study. Raises
    FileNotFoundError where there is none, and ValueError for columns that the schema lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "cells": pd.read_csv(study / "cells.csv"),
        "calls": pd.read_csv(study / "calls.csv"),
        "tasks": pd.read_csv(study / "tasks.csv.gz")
        if (study / "tasks.csv.gz").exists()
        else pd.DataFrame(columns=list(TASKS)),
    }
    starter = study / "starter.txt"
    write(found, starter.read_text("utf-8") if starter.exists() else "", folder)


def write(found: Mapping[str, pd.DataFrame], starter: str, folder: Path) -> None:
    """The tables as CSV and Parquet, and the checksums of all files."""
    for name, schema in SCHEMA.items():
        if unknown := set(found[name]) - set(schema):
            raise ValueError(f"{name}: the schema has no {', '.join(sorted(map(str, unknown)))}")
        table = found[name].reindex(columns=list(schema))
        table = table.astype({column: _DTYPES[kind] for column, (kind, _) in schema.items()})
        if name != "tasks":  # of thousands of rows; as Parquet alone
            table.to_csv(folder / f"{name}.csv", index=False)
        table.to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "starter.txt").write_text(starter, encoding="utf-8")
    files = sorted(file for file in folder.iterdir() if file.name != SUMS)
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def load(folder: Path) -> Data:
    """The data set in `folder`."""
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in SCHEMA}
    return Data(
        **tables,
        starter=(folder / "starter.txt").read_text("utf-8").strip(),
        checksum=hashlib.sha256((folder / SUMS).read_bytes()).hexdigest(),
    )
