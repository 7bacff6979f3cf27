"""How long `codejoule analyze` takes for a thousand runs of BigCodeBench's size.

    python benchmarks/analysis.py make FOLDER [--runs 1000] [--tasks 1140] [--repeats 5]
    python benchmarks/analysis.py time FOLDER

`make` writes runs as the main job does, with synthetic figures (4 models x 5 quantizations x 10
batch sizes x repeats). `time` reads and analyses them, and says how long each part took.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

from codejoule.config.schema import TrackingConfig

TASKS, RUNS = 1140, 1000
MODELS = ("qwen_0_5b", "qwen_1_5b", "qwen_3b", "qwen_7b")
QUANTS = ("none", "gptq8", "gptq4", "awq", "bnb_nf4")
DOMAINS = ("Computation", "Cryptography", "General", "Network", "System", "Time", "Visualization")


def make(folder: Path, runs: int, tasks: int, repeats: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from mlflow.tracking import MlflowClient

    from codejoule.tracking import DatasetFacts, prepare_store

    rng = np.random.default_rng(0)
    store = prepare_store(TrackingConfig(experiment="many"), project_root=folder)
    client = MlflowClient(store.uri)
    dataset = DatasetFacts(name="bigcodebench", source="synthetic", checksum="ab" * 32)
    task = np.exp(rng.normal(4, 0.6, tasks))
    tokens = rng.integers(60, 620, tasks)
    ability = rng.beta(0.6, 0.8, tasks)
    members = [[d for d in DOMAINS if d == "General" or rng.random() < 0.3] for _ in range(tasks)]
    configurations = runs // repeats
    sizes = [2**i for i in range(-(-configurations // (len(MODELS) * len(QUANTS))))]
    chosen = [(m, q, b) for b in sizes for q in QUANTS for m in MODELS][:configurations]
    start = time.monotonic()
    for number, (model, quant, batch) in enumerate(chosen):
        factor = 0.6 ** MODELS.index(model) * 0.9 ** QUANTS.index(quant) / batch**0.3
        for repeat in range(1, repeats + 1):
            energy = task * factor * np.exp(rng.normal(0, 0.1, tasks) + rng.normal(0, 0.01))
            ok = rng.random(tasks) < ability
            window = np.arange(tasks) // batch
            table = pa.table(
                {
                    "task_id": [f"BigCodeBench/{i}" for i in range(tasks)],
                    "sample": np.zeros(tasks, dtype=int),
                    "order": np.arange(tasks),
                    "batch": window,
                    "batch_size": np.full(tasks, batch),
                    "prompt_tokens": np.full(tasks, 200),
                    "output_tokens": tokens,
                    "finish_reason": ["eos"] * tasks,
                    "energy_j": energy,
                    "energy_net_j": energy * 0.7,
                    "batch_energy_j": energy,
                    "latency_s": energy / 200,
                    "ttft_s": np.full(tasks, 0.1),
                    "verdict": np.where(ok, "pass", "fail").tolist(),
                    "verdict_reason": pa.nulls(tasks, pa.string()),
                    "evaluation_s": np.full(tasks, 0.5),
                    "evaluation_cpu_s": np.full(tasks, 0.4),
                    "evaluation_energy_j": np.full(tasks, 4.0),
                    "domains": members,
                }
            )
            params = {
                "model.name": model, "model.variant": "instruct", "quant.name": quant,
                "batch.size": batch, "engine.name": "generate", "generation.name": "greedy",
                "suite.name": "bigcodebench", "suite.split": "instruct", "repeat": repeat,
            } | {f"model.setting_{i}": i for i in range(80)}  # fmt: skip
            run = store.start_run(
                name="job", parent_run_id=None, params=params,
                tags={
                    "codejoule.fingerprint": f"{model} {quant} {batch} {repeat}",
                    "codejoule.energy_source": "nvml", "codejoule.energy_scope": "gpu",
                    "codejoule.energy_source_evaluation": "rapl", "codejoule.gpu": "NVIDIA L40S",
                    "codejoule.weights": "hub", "codejoule.length": "free",
                },
            )  # fmt: skip
            total_kwh = (energy.sum() + 4.0 * tasks) / 3.6e6
            run.log(
                metrics={
                    "energy_generation_j": energy.sum(), "energy_total_kwh": total_kwh,
                    "energy_per_task_j": energy.mean(), "pass_at_1": ok.mean(),
                    "energy_per_output_token_j": energy.sum() / tokens.sum(),
                    "energy_per_solved_task_j": total_kwh * 3.6e6 / ok.sum(),
                    "pass_at_1_per_kwh": ok.mean() / total_kwh, "tasks": float(tasks),
                    "latency_s": energy.sum() / 200, "output_tokens": float(tokens.sum()),
                    "throughput_tokens_per_s": tokens.sum() / (energy.sum() / 200),
                } | {f"figure_{i}": float(i) for i in range(25)},
                dataset=dataset,
            )  # fmt: skip
            artifacts = Path(client.get_run(run.run_id).info.artifact_uri.removeprefix("file://"))
            artifacts.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, artifacts / "tasks.parquet")
            run.finish("FINISHED")
        if number % 20 == 0:
            print(f"{number * repeats} runs, {time.monotonic() - start:.0f} s", flush=True)


def measure(folder: Path) -> None:
    from codejoule.analysis import Goal, Options, analyse, load_runs
    from codejoule.report import write_tables

    uri = f"sqlite:///{folder.resolve()}/mlruns/mlflow.db"
    begin, begin_cpu = time.monotonic(), time.process_time()
    loaded = load_runs(uri, "many")
    read, read_cpu = time.monotonic(), time.process_time()
    analysis = analyse(loaded, Options(goal=Goal(min_pass_at_1=0.3)))
    done, done_cpu = time.monotonic(), time.process_time()
    write_tables(analysis, folder / "out")
    end, end_cpu = time.monotonic(), time.process_time()
    (group,) = analysis.groups
    figures = group.evidence.figures
    print(f"{len(figures.run_ids)} runs of {len(figures.task_ids)} tasks; wall (CPU) time:")
    print(f"  load_runs {read - begin:.1f} s ({read_cpu - begin_cpu:.1f} s)")
    print(f"  analyse {done - read:.1f} s ({done_cpu - read_cpu:.1f} s)")
    print(f"  read and analysed {done - begin:.1f} s ({done_cpu - begin_cpu:.1f} s)")
    print(f"  write_tables {end - done:.1f} s ({end_cpu - done_cpu:.1f} s)")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    for name, table in analysis.groups[0].tables.items():
        print(f"  {name}: {len(table.frame)} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["make", "time"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.what == "make":
        make(args.folder, args.runs, args.tasks, args.repeats)
    else:
        measure(args.folder)


if __name__ == "__main__":
    main()
