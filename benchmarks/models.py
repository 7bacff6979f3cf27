"""What quantization costs and saves in energy: random weights, one NVIDIA GPU, no network.

    python benchmarks/models.py --out DIR [--seconds 540] [--steps 0 1 2 3 4]

Prints, and leaves in DIR as ``models.json`` and ``models.csv``:

1. how long a packed 7B and 14B model takes from nothing to ready and to its first token, the
   compilation of the kernels apart (it is done before, and then a model of one layer);
2. sweeps of `python src/main.py -m ...` over two models and four quantizations, at batch 32 and
   at batch 1: J/token, tokens/s, memory and kernel of each run, read back from MLflow.

Steps run in the order of their worth; those that no longer fit into ``--seconds`` are named and
left out. Compiling needs nvcc; set TORCH_CUDA_ARCH_LIST to the GPU's compute capability, and
GPTQMODEL_TORCH_EXTENSIONS_DIR to keep the build.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
READY = (("qwen_7b", "gptq4"), ("qwen_14b", "gptq4"))
COMMON = ("model.weights=random", "suite=starter")
# What each sweep is, its overrides, and the seconds it needs at most on an H200.
SWEEPS = (
    (
        "as it comes, batch 32",
        ("model=qwen_0_5b,qwen_7b", "quant=none,gptq4", "suite.limit=32", "batch=b32",
         "generation.max_new_tokens=128"),
        170,
    ),
    (
        "float16, batch 32",
        ("model=qwen_0_5b,qwen_7b", "quant=none,gptq8,awq", "suite.limit=32", "batch=b32",
         "generation.max_new_tokens=128", "model.dtype=float16", "evaluator=none",
         "meter.idle_s=3"),
        160,
    ),
    (
        "float16, batch 1, 7B",
        ("model=qwen_7b", "quant=none,gptq4,gptq8,awq", "suite.limit=2", "batch=b1",
         "generation.max_new_tokens=128", "model.dtype=float16", "evaluator=none",
         "meter.idle_s=3"),
        140,
    ),
    (
        "float16, batch 1, 0.5B",
        ("model=qwen_0_5b", "quant=none,gptq4,gptq8,awq", "suite.limit=2", "batch=b1",
         "generation.max_new_tokens=128", "model.dtype=float16", "evaluator=none",
         "meter.idle_s=3"),
        140,
    ),
)  # fmt: skip
METRICS = {
    "energy_per_output_token_j": "J/token",
    "throughput_tokens_per_s": "tokens/s",
    "memory_peak_bytes": "peak GB",
    "predicted_memory_bytes": "predicted",
    "mean_power_w": "W",
    "energy_load_j": "load J",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--seconds", type=float, default=540, help="leave out what takes longer")
    parser.add_argument(
        "--steps", nargs="*", type=int, default=range(len(SWEEPS) + 1), metavar="N",
        help="0: time to first token; 1 and up: the sweeps, in order. What --out holds is\n"
        "kept, and a sweep's finished runs are not done again",
    )  # fmt: skip
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--ready", nargs=2, metavar=("MODEL", "QUANT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ready:
        print(json.dumps(time_to_first_token(*options.ready, overrides=options.set)))
        return
    began = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    store = options.out / "mlruns"
    found = before(options.out)
    for model, quant in READY if 0 in options.steps else ():
        found["ready"].append(in_a_process(model, quant, options.set))
        save(found, options.out)
    for number, (name, overrides, needed_s) in enumerate(SWEEPS, start=1):
        if number not in options.steps:
            continue
        left_s = options.seconds - (time.monotonic() - began)
        if left_s < needed_s:
            found["left_out"].append(name)
            print(f"left out, {left_s:.0f} s are left: {name}", flush=True)
            continue
        command = [sys.executable, "src/main.py", "-m", *overrides, *COMMON,
                   f"tracking.dir={store}", f"hydra.sweep.dir={options.out / 'multirun'}",
                   *options.set]  # fmt: skip
        print("$", *command[1:], flush=True)
        start = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, check=False)
        found["sweeps"].append(
            {"name": name, "command": command[1:], "exit_code": done.returncode,
             "wall_s": round(time.monotonic() - start, 1)}
        )  # fmt: skip
        found["runs"] = finished_runs(store)
        save(found, options.out)
    print_table(found["runs"])
    print(f"all of it took {time.monotonic() - began:.0f} s", flush=True)


def before(out: Path) -> dict[str, Any]:
    """What an earlier call left in `out`."""
    file = out / "models.json"
    if not file.exists():
        return {"ready": [], "sweeps": [], "left_out": [], "runs": []}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found | {"left_out": []}


def in_a_process(model: str, quant: str, overrides: list[str]) -> dict[str, Any]:
    """`time_to_first_token` in a fresh process, whose memory goes with it."""
    command = [sys.executable, __file__, "--out", ".", "--ready", model, quant, "--set", *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        failure = {"model": model, "quant": quant, "error": done.stderr[-2000:]}
        print(failure, flush=True)
        return failure
    result: dict[str, Any] = json.loads(lines[-1])
    print(json.dumps(result), flush=True)
    return result


def time_to_first_token(model: str, quant: str, overrides: list[str]) -> dict[str, Any]:
    """Seconds of each step from a bare Python to the first token."""
    from hydra import compose, initialize_config_dir

    from codejoule.config.compose import register_schemas
    from codejoule.config.typed import to_experiment
    from codejoule.models import prepare_libraries

    steps = [("begin", time.monotonic())]
    register_schemas()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        choices = [f"model={model}", f"quant={quant}", *COMMON, *overrides]
        experiment = to_experiment(compose("config", overrides=choices))
        one_layer = [*choices, "++model.architecture.num_hidden_layers=1"]
        small = to_experiment(compose("config", overrides=one_layer))
    # Without a GPU nothing is compiled.
    prepare_libraries(experiment.model, experiment.quant, device="cpu")
    steps.append(("import", time.monotonic()))
    experiment.quant = prepare_libraries(experiment.model, experiment.quant, device=device)
    small.quant = experiment.quant
    steps.append(("kernels", time.monotonic()))
    # What CUDA sets up once for a process is no part of any model's time either.
    first_token(load(small, device), device)
    steps.append(("one_layer", time.monotonic()))
    loaded = load(experiment, device)
    if device == "cuda":
        torch.cuda.synchronize()
    steps.append(("ready", time.monotonic()))
    first_token(loaded, device)
    steps.append(("first_token", time.monotonic()))
    took = {name: round(end - begin, 2) for (_, begin), (name, end) in pairwise(steps)}
    return {
        "model": model,
        "quant": quant,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "import_s": took["import"],
        "kernels_s": took["kernels"],
        "one_layer_s": took["one_layer"],
        "ready_s": took["ready"],
        "first_token_s": took["first_token"],
        "wall_to_first_token_s": round(sum(took.values()) - took["kernels"] - took["one_layer"], 2),
        "parameters": loaded.facts.n_parameters,
        "weights_gb": round(loaded.facts.memory_bytes / 1e9, 2),
        "kernel": loaded.facts.kernel,
        "quantization": loaded.facts.quantization,
        "linear_quantized": loaded.facts.linear_quantized,
    }


def load(experiment: Any, device: str) -> Any:
    """The proven model of a configuration."""
    from codejoule.models import load_model, locate_checkpoint

    found = locate_checkpoint(experiment.model, experiment.quant, cache_dir=Path("unused"))
    return load_model(found, experiment.model, experiment.quant, device=device)


def first_token(loaded: Any, device: str) -> None:
    """One new token after 200, on the device to its end; the logits must be finite."""
    import torch

    ids = torch.arange(200, device=device)[None] % 256
    with torch.inference_mode():
        logits = loaded.model(ids).logits[:, -1]
        assert bool(torch.isfinite(logits).all()), "the logits are not finite"
        loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False
        )
    if device == "cuda":
        torch.cuda.synchronize()


def finished_runs(store: Path) -> list[dict[str, Any]]:
    """All jobs of the store, finished or not."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    rows = []
    for run in mlflow.search_runs(search_all_experiments=True, output_format="list"):
        params, metrics, tags = run.data.params, run.data.metrics, run.data.tags
        if "model.name" not in params:
            continue
        rows.append(
            {
                "model": params["model.name"],
                "quant": params["quant.name"],
                "batch": int(params["batch.size"]),
                "dtype": tags.get("codejoule.dtype"),
                "status": run.info.status,
                "source": tags.get("codejoule.energy_source"),
                "gpu": tags.get("codejoule.gpu"),
                "kernels": tags.get("codejoule.kernels"),
                "error": tags.get("codejoule.error"),
                **{name: metrics.get(name) for name in METRICS},
                "ttft_s": metrics.get("ttft_s"),
                "energy_crosscheck_rel": metrics.get("energy_crosscheck_rel"),
            }
        )
    return sorted(rows, key=lambda row: (row["batch"], row["model"], str(row["dtype"])))


def print_table(rows: list[dict[str, Any]]) -> None:
    """The runs, one a line."""
    print(f"\n{'model':<11}{'quant':<7}{'batch':>5} {'dtype':<9}{'status':<9}{'source':<7}", end="")
    print("".join(f"{title:>10}" for title in METRICS.values()), " kernels")
    for row in rows:
        print(
            f"{row['model']:<11}{row['quant']:<7}{row['batch']:>5} {row['dtype'] or '-':<9}"
            f"{row['status']:<9}{row['source'] or '-':<7}",
            end="",
        )
        for name in METRICS:
            value = row[name]
            value = value / 1e9 if value is not None and name.endswith("_bytes") else value
            print(f"{'-' if value is None else f'{value:.4g}':>10}", end="")
        print(f"  {row['kernels'] or row['error']}")


def save(found: dict[str, Any], out: Path) -> None:
    """What is known so far, on disk."""
    (out / "models.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if found["runs"]:
        with (out / "models.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(found["runs"][0]))
            writer.writeheader()
            writer.writerows(found["runs"])


if __name__ == "__main__":
    os.environ.setdefault("GPTQMODEL_OFFLINE", "1")
    main()
