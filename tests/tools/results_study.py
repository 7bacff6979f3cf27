"""A study's folder with made-up figures, to see what the pages say of them."""

from pathlib import Path

import numpy as np
import pandas as pd

from codejoule.thesis.results import SIZES
from tools.results.data import CALLS, CELLS, TASKS
from tools.results.measured import SETTINGS

BILLIONS = dict(zip(SIZES, (0.5, 1.5, 3.1, 7.6, 14.8), strict=True))
SAVED = {"none": 1.0, "gptq8": 0.7, "gptq4": 0.55, "awq": 0.55, "fp8": 0.6}
"""With vLLM at batch 1; with `generate` packed weights cost a tenth more."""


def energy_j(size: str, quant: str, engine: str, batch: int) -> float:
    """Of a token: `generate` waits for the host, vLLM for memory, then for products."""
    if engine == "generate":
        return (7 + 0.1 * BILLIONS[size]) * (1.0 if quant == "none" else 1.3)
    fading = 1 - (1 - SAVED[quant]) * (1 - np.log2(batch) / 7 * (quant not in ("none", "fp8")))
    return 0.3 * BILLIONS[size] * fading / batch**0.8


def write_study(folder: Path, *, again: bool = True) -> None:
    """What benchmarks/showpiece.py leaves."""
    rng = np.random.default_rng(1)
    rows = []
    for part in ("grid", "again") if again else ("grid",):
        for size in SIZES if part == "grid" else SIZES[:1]:
            for model, quant in [(f"qwen_{size}", q) for q in SAVED] + [
                (f"qwen_{size}_base", "none")
            ]:
                for setting in SETTINGS:
                    if setting.engine == "generate" and quant == "fp8":
                        continue
                    for repeat in (1, 2):
                        noise = np.exp(rng.normal(scale=0.004))
                        per_token = noise * energy_j(size, quant, setting.engine, setting.batch)
                        rows.append(_row(part, model, quant, setting, repeat, per_token))
    tasks = []
    for quant in SAVED:
        for batch, samples in ((128, 5), (1, 1)) if quant == "none" else ((128, 5),):
            own = _tasks(quant, batch, samples, np.random.default_rng(2))
            tasks.append(own)
            rows.append(
                _row("smollm", "smollm2_135m", quant, SETTINGS[-1], 1, 0.01)
                | {
                    "batch": batch, "suite": "humaneval", "weights": "local", "run_id": own["run_id"].iloc[0],
                    "pass_at_1": (own["verdict"] == "pass").mean(), "pass_at_1_ci_low": 0.1,
                    "pass_at_1_ci_high": 0.3, "energy_per_solved_task_j": 4.0 * SAVED[quant],
                    "stored_as": "Q4_1",
                }
            )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=list(CELLS)).to_csv(folder / "cells.csv", index=False)
    pd.concat(tasks)[list(TASKS)].to_csv(folder / "tasks.csv.gz", index=False)
    calls = [
        (1, "2026-12-01T10:00:00+00:00", 600.0, 90000.0),
        (2, "2026-12-02T10:00:00+00:00", 300.0, 45000.0),
    ]
    pd.DataFrame(calls, columns=list(CALLS)).to_csv(folder / "calls.csv", index=False)
    (folder / "starter.txt").write_text("Decided at 95 %, the Pareto front.\n", encoding="utf-8")


def _row(part: str, model: str, quant: str, setting: object, repeat: int, per_token: float) -> dict:
    tokens, engine, batch = 1000.0, setting.engine, setting.batch
    power_w = 140.0 if engine == "generate" else 500.0
    latency_s = tokens * per_token / power_w
    return {
        "part": part, "model": model, "quant": quant, "engine": engine, "batch": batch,
        "suite": "bigcodebench_lengths", "repeat": repeat, "status": "finished", "call": 1,
        "began": "2026-12-01T10:00:00+00:00", "wall_s": 20.0, "run_id": f"{model}{quant}{engine}{batch}",
        "gpu": "NVIDIA H200", "kernels": "Linear" if quant == "none" else "Packed/Fast, Linear",
        "weights": "random", "length": "fixed", "energy_source": "nvml", "energy_scope": "gpu",
        "tasks": 3.0, "output_tokens": tokens, "latency_s": latency_s,
        "throughput_tokens_per_s": tokens / latency_s, "energy_generation_j": tokens * per_token,
        "energy_gpu_net_j": tokens * per_token - 80 * latency_s, "idle_power_w": 80.0,
        "energy_per_output_token_j": per_token, "mean_power_w": power_w,
        "predicted_energy_gpu_j": 1.1 * tokens * per_token,
    }  # fmt: skip


def _tasks(quant: str, batch: int, samples: int, rng: np.random.Generator) -> pd.DataFrame:
    count = 60
    tokens = rng.integers(40, 380, size=(count, samples)).ravel()
    solved = rng.random(count) < (0.3 if quant != "gptq4" else 0.1)
    return pd.DataFrame(
        {
            "run_id": f"smollm{quant}{batch}", "part": "smollm", "model": "smollm2_135m",
            "quant": quant, "engine": "vllm", "batch": batch, "suite": "humaneval", "repeat": 1,
            "task_id": np.repeat([f"HumanEval/{n}" for n in range(count)], samples),
            "sample": np.tile(range(samples), count), "prompt_tokens": 200.0,
            "output_tokens": tokens, "energy_j": tokens * 0.2 * np.exp(rng.normal(scale=0.02, size=tokens.size)),
            "evaluation_energy_j": 0.1,
            "verdict": np.where(np.repeat(solved, samples), "pass", "fail"),
            "verdict_plus": pd.NA, "domains": "General",
        }
    )  # fmt: skip
