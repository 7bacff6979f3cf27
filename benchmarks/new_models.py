"""Energy of a token over the batch for Qwen3-Coder-30B-A3B, Qwen3-8B and gpt-oss-20b in the formats
that are published of them, through `engine=vllm` on one NVIDIA GPU, and where quantization pays.

    python benchmarks/new_models.py --out DIR [--cases qwen3_8b/none ...] [--python PYTHON]

Random weights, 200 prompt and 256 new tokens, no network. Run by a Python that has vLLM beside
codejoule, or with --python. Each case takes one to three minutes; ``new_models.json`` in DIR has
what each found, to which a later call with the same DIR adds. At the end come, for each case and
batch, J/token, tokens/s, what the estimator predicts, kernels and classes as vLLM holds them, and
the batch at which a quantization stops saving energy.
"""

import argparse
import json
import sys
import time
import traceback
from itertools import pairwise
from math import exp, log
from pathlib import Path
from typing import Any

from vllm_engine import NEW, PROMPT, curve

from codejoule.config.compose import compose_experiment, register_schemas
from codejoule.domain import Workload
from codejoule.estimate import ENGINE_SPEEDS, POWER, estimate_generation
from codejoule.experiment.devices import find_card
from codejoule.models import describe_model

SIZES = (1, 8, 32, 128)
CASES = (
    "qwen3_8b/none", "qwen3_8b/fp8", "qwen3_8b/gptq4", "qwen3_8b/fp8_block", "qwen3_8b/w4a16",
    "qwen3_coder_30b/none", "qwen3_coder_30b/fp8", "qwen3_coder_30b/fp8_block",
    "gpt_oss_20b/none", "gpt_oss_20b/mxfp4",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seconds", type=float, default=560, help="begin no case after this")
    parser.add_argument("--python", default=None)
    options = parser.parse_args()
    register_schemas()
    file, began = options.out / "new_models.json", time.monotonic()
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    failed = []
    for case in options.cases:
        if case in found or time.monotonic() - began > options.seconds:
            print(
                f"{case}: {'there' if case in found else 'left out for want of time'}", flush=True
            )
            continue
        options.model, _, quant = case.partition("/")
        try:
            found[case] = curve(quant, options, SIZES, with_mixed=False)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            failed.append(case)
            continue
        file.write_text(json.dumps(found, indent=1) + "\n")
        print(f"after {case}: {time.monotonic() - began:.0f} s", flush=True)
    report(found)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def report(found: dict[str, Any]) -> None:
    print("case                        batch  J/token  predicted   error  tokens/s  of none")
    errors = []
    for case, rows in found.items():
        plain = {row["case"]: row for row in found.get(f"{case.partition('/')[0]}/none", ())}
        ratios = {}
        for row in rows:
            size, j = row["case"], row["j_per_token"]
            guess = predicted(case, size)
            error = "-" if guess is None else f"{guess / j - 1:+.0%}"
            errors += [] if guess is None else [abs(guess / j - 1)]
            if size in plain:
                ratios[size] = j / plain[size]["j_per_token"]
            print(
                f"{case:<28}{size:>5}{j:>9.4f}{guess or float('nan'):>11.4f}{error:>8}"
                f"{row['tokens_per_s']:>10,.0f}{ratios.get(size, float('nan')):>9.2f}"
            )
        print(f"  {case}: {crossing(ratios)}")
    if errors:
        print(f"mean absolute error of {len(errors)} predictions: {sum(errors) / len(errors):.1%}")


def predicted(case: str, size: int) -> float | None:
    """J/token by the estimator, on this machine's card."""
    name, _, quant = case.partition("/")
    experiment = compose_experiment([f"model={name}", f"quant={quant}", "engine=vllm"])
    architecture, quantization, dtype = describe_model(
        None, experiment.model, experiment.quant, device="cuda"
    )
    work = Workload(
        architecture=architecture, quantization=quantization, dtype=dtype, batch=size,
        prompt_tokens=PROMPT, new_tokens=NEW,
    )  # fmt: skip
    speed = ENGINE_SPEEDS[experiment.engine.name.value]
    made = estimate_generation(work, card=find_card(experiment.gpu), engine=speed, power=POWER)
    return None if made is None or made.energy_j is None else made.energy_j / (size * NEW)


def crossing(ratios: dict[int, float]) -> str:
    """Where the ratio to unquantized weights passes 1, between two batches by their logarithms."""
    for (before, low), (after, high) in pairwise(sorted(ratios.items())):
        if low < 1 <= high:
            share = log(1 / low) / log(high / low)
            return f"stops saving at batch {exp(log(before) + share * log(after / before)):.0f}"
    if all(ratio == 1 for ratio in ratios.values()):
        return "what the others are compared with"
    return "saves at every batch" if max(ratios.values()) < 1 else "no crossing from below"


if __name__ == "__main__":
    main()
