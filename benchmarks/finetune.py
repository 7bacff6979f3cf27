"""What training a LoRA adapter of Qwen2.5-7B takes on one NVIDIA GPU: energy, J/token, tokens/s,
and whether the ledger's windows add up to the whole.

    python benchmarks/finetune.py --out DIR [--batch 8] [--length 1024] [--steps 60]

Random weights and no network: what is learnt means nothing, energy and speed are real. It is what
a run with stage=finetune does, without MLflow, and takes about two minutes. ``finetune.json`` in
DIR has the figures. Needs peft (extra finetune).
"""

import argparse
import json
import os
import time
from pathlib import Path

from codejoule.config.compose import compose_experiment
from codejoule.domain.finetuning import finetune_metrics
from codejoule.experiment.finetune_stage import train
from codejoule.experiment.plan import make_plan
from codejoule.suites import load_suite_named
from codejoule.tracking import Journal
from codejoule.tracking.entries import Idle, Loaded, Trained, TrainedSteps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="qwen_7b")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--overrides", nargs="*", default=[])
    options = parser.parse_args()
    began, out = time.monotonic(), options.out.absolute()
    folder = out / f"{options.model}-b{options.batch}-l{options.length}-s{options.steps}"
    folder.mkdir(parents=True)
    os.environ["CODEJOULE_HOME"] = str(out)
    texts = folder / "texts.jsonl"
    texts.write_text("".join(_lines(options.batch * options.steps, options.length)))
    experiment = compose_experiment(
        [
            "stage=finetune", "evaluator=none", f"model={options.model}",
            f"model.weights={options.weights}", f"finetune.data={texts}",
            f"finetune.batch={options.batch}", f"finetune.max_length={options.length}",
            f"finetune.steps={options.steps}", *options.overrides,
        ]
    )  # fmt: skip
    plan = make_plan(experiment)
    print(f"{time.monotonic() - began:.0f} s: planned, on {plan.gpu_name or 'the CPU'}", flush=True)
    train(plan, folder)
    print(f"{time.monotonic() - began:.0f} s: trained", flush=True)
    with Journal(folder) as journal:
        (trained,), (loaded,) = journal.entries(Trained), journal.entries(Loaded)
        windows, (idle,) = journal.entries(TrainedSteps), journal.entries(Idle)
    readings = [entry.reading for entry in windows]
    metrics = finetune_metrics(
        readings,
        trained.reading,
        [loss for entry in windows for loss in entry.losses],
        tokens=sum(entry.tokens for entry in windows),
        learned_tokens=sum(entry.learned_tokens for entry in windows),
        positions=sum(entry.positions for entry in windows),
    )
    own = {
        "gpu": plan.gpu_name,
        "source": trained.reading.source.value,
        "trainable_parameters": trained.facts["trainable_parameters"],
        "parameters": trained.facts["parameters"],
        "memory_peak_bytes": trained.memory_peak_bytes,
        "idle_power_w": idle.power_w,
        "energy_load_j": None if loaded.reading is None else loaded.reading.energy_j,
        "whole_j": trained.reading.energy_j,
        "whole_s": trained.reading.latency_s,
        "whole_integrated_j": trained.reading.integrated_j,
        "doubts": sorted({doubt.value for each in readings for doubt in each.doubts}),
        "versions": trained.facts["versions"],
        "windows": [
            {"steps": len(w.losses), "j": w.reading.energy_j, "s": w.reading.latency_s}
            for w in windows
        ],
    }
    (out / "finetune.json").write_text(json.dumps(metrics | own, indent=1) + "\n")
    print(f"{options.model}, batch {options.batch} x {options.length} tokens, {own['gpu']}")
    for name, value in (metrics | own).items():
        if isinstance(value, int | float):
            print(f"  {name:<34}{value:>20,.6g}")
    total_j, whole_j = sum(reading.energy_j for reading in readings), trained.reading.energy_j
    print(
        f"  {len(windows)} windows add up to {total_j:,.3f} J, the window around them has "
        f"{whole_j:,.3f} J ({total_j / whole_j - 1:+.5%}); doubts: {own['doubts'] or 'none'}"
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
