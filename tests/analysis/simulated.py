"""A store with runs whose figures of single tasks are known."""

from pathlib import Path

import numpy as np

from codejoule.config.schema import TrackingConfig
from codejoule.domain import EnergyReading, EnergyScope, EnergySource, Suite, TaskRecord
from codejoule.domain.metrics import RunFacts, WindowFacts, run_metrics
from codejoule.tracking import Store, prepare_store, write_tasks_parquet

DATASET = Suite(
    name="mine", source="/data/mine.jsonl", checksum="cd" * 32, tasks=(), max_new_tokens=1,
    timeout_s=1.0, stop=(), stop_base=(),
)  # fmt: skip


def write_run(
    store: Store,
    folder: Path,
    *,
    quant: str,
    energy_j: np.ndarray,
    passed: np.ndarray,
    repeat: int = 1,
    batch: int = 1,
    engine: str = "generate",
    order: np.ndarray | None = None,
    tags: dict[str, str] | None = None,
    parent: str | None = None,
) -> str:
    """One run of `energy_j.size` tasks, recorded as the main job does."""
    places = np.arange(energy_j.size) if order is None else order
    records = [
        TaskRecord(
            task_id=f"t{i}", sample=0, order=int(places[i]), batch=int(places[i]) // batch,
            batch_size=batch, prompt_tokens=10, output_tokens=20 + i, finish_reason="eos",
            energy_j=float(energy_j[i]), energy_net_j=None, batch_energy_j=None, latency_s=1.0,
            ttft_s=None, verdict="pass" if passed[i] else "fail", verdict_reason=None,
            evaluation_s=0.1, evaluation_cpu_s=0.1, evaluation_energy_j=0.5,
            domains=("General", "Time") if i % 3 == 0 else ("General",),
        )
        for i in range(energy_j.size)
    ]  # fmt: skip
    reading = EnergyReading(
        name="batch", source=EnergySource.nvml, scope=EnergyScope.gpu, start_s=0.0,
        latency_s=float(energy_j.size), energy_j=float(energy_j.sum()),
    )  # fmt: skip
    facts = RunFacts(
        windows=(
            WindowFacts(reading=reading, output_tokens=tuple(r.output_tokens for r in records)),
        ),
        evaluation_energy_j=0.5 * energy_j.size,
        evaluation_source=EnergySource.rapl,
    )
    run = store.start_run(
        name="job",
        parent_run_id=parent,
        tags={
            "codejoule.fingerprint": f"{quant} {batch} {engine} {repeat}",
            "codejoule.energy_source": "nvml", "codejoule.energy_scope": "gpu",
            "codejoule.energy_source_evaluation": "rapl", "codejoule.gpu": "NVIDIA L40S",
            "codejoule.weights": "hub", "codejoule.length": "free",
        } | (tags or {}),
        params={
            "model.name": "qwen_7b", "model.variant": "instruct", "quant.name": quant,
            "batch.size": batch, "engine.name": engine, "generation.name": "greedy",
            "suite.name": "mine", "suite.split": "instruct", "repeat": repeat,
        },
    )  # fmt: skip
    path = folder / "tasks.parquet"
    write_tasks_parquet(records, path)
    run.log(
        metrics=run_metrics(records, facts, rng=np.random.default_rng(0)),
        artifacts=[path],
        dataset=DATASET,
    )
    run.finish("FINISHED")
    return run.run_id


def write_sweep(project: Path, folder: Path, *, tasks: int = 60) -> Store:
    """none, gptq8 (5 % less) and gptq4 (40 % less, worse), one run each."""
    store = prepare_store(TrackingConfig(experiment="simulated", dir=f"{project}/mlruns"))
    rng = np.random.default_rng(3)
    task = np.exp(rng.normal(4, 0.8, tasks))
    ability = rng.random(tasks)
    parent = store.start_sweep("quantizations", overrides=[], tags={})
    for quant, factor, loss in (("none", 1.0, 0.0), ("gptq8", 0.95, 0.0), ("gptq4", 0.6, 0.5)):
        write_run(
            store, folder, quant=quant, parent=parent,
            energy_j=task * factor * np.exp(rng.normal(0, 0.05, tasks)),
            passed=ability > 0.4 + loss * 0.6,
        )  # fmt: skip
    store.end_sweep(parent, "FINISHED")
    return store
