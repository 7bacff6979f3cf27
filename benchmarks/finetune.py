"""What training a LoRA adapter of Qwen2.5-7B takes on one NVIDIA GPU: energy, J/token, tokens/s,
and whether the ledger's windows add up to the whole.

    python benchmarks/finetune.py --out DIR [--batch 8] [--length 1024] [--steps 60]

Random weights and no network: what is learnt means nothing, energy and speed are real. It is one
run with stage=finetune, of about two minutes; its store is made in DIR, and ``finetune.json`` there
has the figures. Needs peft (extra finetune).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from mlflow.tracking import MlflowClient

from codejoule.suites import load_suite_named

SHOWN = (
    "energy_finetune_j", "energy_finetune_net_j", "energy_finetune_uncertainty_j",
    "energy_finetune_windows_rel", "energy_per_trained_token_j", "trained_tokens",
    "throughput_trained_tokens_per_s", "finetune_s", "finetune_steps", "finetune_windows",
    "mean_power_w", "idle_power_w", "energy_load_j", "memory_peak_bytes", "trainable_parameters",
    "padding_share", "loss_first", "loss_last",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="qwen_7b")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--overrides", nargs="*", default=[])
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    texts = out / "texts.jsonl"
    texts.write_text("".join(_lines(options.batch * options.steps, options.length)))
    command = [
        sys.executable, "-m", "codejoule", "run", "stage=finetune", f"model={options.model}",
        "model.weights=random", f"finetune.data={texts}", f"finetune.batch={options.batch}",
        f"finetune.max_length={options.length}", f"finetune.steps={options.steps}",
        f"tracking.dir={out / 'mlruns'}", "progress=plain", "on_finished=rerun", *options.overrides,
    ]  # fmt: skip
    print(" ".join(command), flush=True)
    subprocess.run(command, check=True)
    client = MlflowClient(f"sqlite:///{out / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("codejoule")
    run = client.search_runs(
        [experiment.experiment_id], "tags.`codejoule.kind` = 'finetune'", max_results=1
    )[0]
    windows = pq.read_table(
        client.download_artifacts(run.info.run_id, "windows.parquet", str(out))
    ).to_pydict()
    metrics, whole_j = run.data.metrics, sum(windows["energy_j"])
    whole_j /= 1 + metrics["energy_finetune_windows_rel"]
    found = {
        "gpu": run.data.tags.get("codejoule.gpu"),
        "validity": run.data.tags["codejoule.validity"],
        "windows_j": windows["energy_j"],
        "windows_s": windows["latency_s"],
        "whole_j": whole_j,
        **{name: metrics[name] for name in SHOWN if name in metrics},
    }
    (out / "finetune.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{options.model}, batch {options.batch} x {options.length} tokens, {found['gpu']}")
    for name in SHOWN:
        print(f"  {name:<34}{metrics.get(name, float('nan')):>18,.6g}")
    print(
        f"  {len(windows['energy_j'])} windows add up to {sum(windows['energy_j']):,.3f} J, the "
        f"window around them has {whole_j:,.3f} J; validity {found['validity']}"
    )


def _lines(texts: int, length: int) -> list[str]:
    """Programs, put together until each text is longer than is read of it."""
    tasks = load_suite_named("starter_large").tasks
    programs = [task.complete_prompt + task.canonical_solution for task in tasks]
    lines = []
    for number in range(texts):
        text, place = "", number
        while len(text) <= length:
            text += programs[place % len(programs)] + "\n\n"
            place += 1
        lines.append(json.dumps({"text": text}) + "\n")
    return lines


if __name__ == "__main__":
    main()
