"""What `engine=vllm` costs beside vLLM itself, and the energy of a token over the batch, on one
NVIDIA GPU. Run by a Python that has vLLM beside codejoule, or with --python.

    python benchmarks/vllm_engine.py --out DIR [--parts none gptq4 fp8] [--seconds 560]
    python benchmarks/vllm_engine.py --out DIR --draw

Random weights of Qwen2.5-7B, 200 prompt and 256 new tokens, no network; each case is repeated
for some seconds. Leaves ``vllm.json`` in DIR, to which a later call with the same DIR adds; --draw
makes ``engines.svg`` there from what tests/golden keeps of such a call and of one of engines.py.

none    bfloat16: vLLM's own `LLM.generate` in a process of its own with one sequence, 32, and 128
        requests of mixed lengths, then the same and batches of 1 to 128 through `engine=vllm`;
        energy from the same counter;
gptq4   batches of 1 to 128 with 4 bits, and
fp8     with W8A8.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from engines import CUDA, DEVICE, ROOT, mixed, prompts
from hydra import compose, initialize_config_dir

from codejoule.config.compose import register_schemas
from codejoule.config.schema import GenerationConfig, MeterConfig
from codejoule.config.typed import to_experiment
from codejoule.domain import Prompt
from codejoule.generation import Decoding, ModelSource
from codejoule.generation.engine import engine_class
from codejoule.generation.vllm.worker import fill
from codejoule.measurement import Meter, open_meter
from codejoule.models import write_config
from codejoule.models.declared import with_group_size
from codejoule.models.quantization import quantizer_of
from codejoule.models.tokenizer import byte_tokenizer

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
PROMPT, NEW, MOST, LONGEST = 200, 256, 128, 1024
AT_LEAST_S = 3.0
NEEDED_S = {"none": 210, "gptq4": 120, "fp8": 120}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=NEEDED_S, default=list(NEEDED_S))
    parser.add_argument("--seconds", type=float, default=560)
    parser.add_argument("--python", default=None)
    parser.add_argument("--model", default="qwen_7b")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        directly(json.loads(options.child.read_text()), options.out)
        return
    if options.draw:
        draw(options.out)
        return
    began = time.monotonic()
    register_schemas()
    file = options.out / "vllm.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    failed = []
    for part in options.parts:
        if options.seconds - (time.monotonic() - began) < NEEDED_S[part]:
            print(f"left out for want of time: {part}", flush=True)
            continue
        try:
            found[part] = (
                direct(options) if part == "none" else curve(part, options, SIZES, with_mixed=False)
            )
        except Exception:
            traceback.print_exc(file=sys.stdout)
            failed.append(part)
            continue
        file.write_text(json.dumps(found, indent=1) + "\n")
        print(f"after {part}: {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def curve(
    quant: str, options: argparse.Namespace, sizes: Sequence[int], *, with_mixed: bool
) -> list[dict[str, Any]]:
    """`engine=vllm` over some batches; `with_mixed` adds the requests of mixed lengths."""
    engine = started(quant, options, longest=LONGEST if with_mixed else NEW)
    asked, (various, lengths) = prompts([PROMPT] * MOST), mixed(MOST, LONGEST)
    engine.open([asked, various] if with_mixed else [asked], at_once=MOST)
    engine.prepare([asked], at_once=MOST)
    print(json.dumps(engine.facts()), flush=True)
    print({k: v for k, v in engine.model_facts().items() if k != "layers"}, flush=True)
    rows = []
    with open_meter(MeterConfig(), gpu_indices=(0,)) as meter:
        for size in sizes:

            def batch(size: int = size) -> int:
                return tokens_of(engine, asked[:size], size, NEW)

            rows.append({"quant": quant, "case": size, **measured(meter, batch)})
            print(json.dumps(rows[-1]), flush=True)
        if with_mixed:

            def many() -> int:
                return tokens_of(engine, various, MOST, LONGEST, lengths)

            rows.append({"quant": quant, "case": "mixed", **measured(meter, many)})
            print(json.dumps(rows[-1]), flush=True)
    engine.close()
    return rows


def tokens_of(
    engine: Any, asked: Sequence[Prompt], at_once: int, new: int, lengths: Sequence[int] = ()
) -> int:
    engine.lengths = dict(zip((p.task_id for p in asked), lengths, strict=False))
    found = engine.generate(asked, at_once=at_once, seed=0, max_new_tokens=new)
    return sum(c.output_tokens for c in found.completions)


def measured(meter: Meter, run: Callable[[], int]) -> dict[str, float]:
    """Tokens per second and J/token of so many runs that they take some seconds."""
    run()
    tokens, began = 0, time.monotonic()
    with meter.window("run") as window:
        while time.monotonic() - began < AT_LEAST_S:
            tokens += run()
    reading = window.reading
    return {
        "tokens_per_s": tokens / reading.latency_s,
        "j_per_token": reading.energy_j / tokens,
        "power_w": reading.energy_j / reading.latency_s,
    }


def started(
    quant: str, options: argparse.Namespace, *, longest: int, more: Sequence[str] = ()
) -> Any:
    """The engine with random weights; `more` are further overrides."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        overrides = [
            f"model={options.model}",
            f"quant={quant}",
            "engine=vllm",
            "model.weights=random",
            *more,
        ]
        experiment = to_experiment(compose("config", overrides))
    config, model = experiment.engine, experiment.model
    config.python = options.python
    chosen = with_group_size(experiment.quant, model.architecture)
    folder = Path(tempfile.mkdtemp())
    declared = quantizer_of(chosen.method.name).declaration(chosen, model.architecture)
    write_config(model.architecture, declared, folder)
    kind = engine_class(config.name)
    source = ModelSource(
        folder=folder, random_seed=0, quant=chosen, dtype="bfloat16", device=DEVICE,
        gpus=(0,) * CUDA,
        cpu_threads=None, vocabulary=model.architecture["vocab_size"], context_tokens=None,
        kv_cache_bytes=None if CUDA else 2**30,
    )  # fmt: skip
    decoding = Decoding(
        generation=GenerationConfig(name="greedy"), max_new_tokens=longest, fixed_length=True
    )
    tokenizer = byte_tokenizer(model.architecture["vocab_size"])

    class Mixed(kind):  # type: ignore[misc, valid-type]
        """Each request with a length of its own."""

        lengths: dict[str, int]

        def _sampling(self, window: Any, prompt: Prompt) -> dict[str, Any]:
            settings: dict[str, Any] = super()._sampling(window, prompt)
            return settings | {
                "max_tokens": self.lengths.get(prompt.task_id, settings["max_tokens"])
            }

    served = kind.locate(config)
    return Mixed(replace(served, source=source), tokenizer, decoding, config)


def direct(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Both, one after the other, the same arguments and the same prompts."""
    engine = started("none", options, longest=LONGEST)
    various, lengths = mixed(MOST, LONGEST)
    asked = [prompts([PROMPT] * MOST), various]
    rows = [engine._tokens.rows(each, max_new_tokens=1) for each in asked]
    longest = max(len(ids) for each in rows for ids in each) + LONGEST
    job = {
        "arguments": engine._arguments(MOST, longest),
        "cases": [
            {"case": 1, "ids": rows[0][:1], "lengths": [NEW]},
            {"case": 32, "ids": rows[0][:32], "lengths": [NEW] * 32},
            {"case": "mixed", "ids": rows[1], "lengths": lengths},
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(job))
        out = Path(folder) / "rows.json"
        subprocess.run(
            [options.python or sys.executable, __file__, "--child", str(file), "--out", str(out)],
            check=True,
        )
        own = json.loads(out.read_text())
    ours = curve("none", options, SIZES, with_mixed=True)
    of_case = {row["case"]: row for row in ours}
    for other in own:
        row = of_case[other["case"]]
        for name in ("tokens_per_s", "j_per_token"):
            row[f"direct_{name}"] = other[name]
            row[f"ratio_{name}"] = row[name] / other[name]
        print(json.dumps(row), flush=True)
    return ours


def weights_like_ours(model: Any) -> None:
    """What a multiplication costs depends on the numbers."""
    fill(model, 0)


def directly(job: dict[str, Any], out: Path) -> None:
    """In the child: vLLM as its users call it."""
    from codejoule.generation.vllm.child import _SETTINGS

    os.environ.update(_SETTINGS)
    from vllm import LLM, SamplingParams

    llm = LLM(**job["arguments"])
    llm.apply_model(weights_like_ours)
    rows = []
    with open_meter(MeterConfig(), gpu_indices=(0,)) as meter:
        for case in job["cases"]:
            asked = [{"prompt_token_ids": ids} for ids in case["ids"]]
            params = [
                SamplingParams(temperature=0.0, max_tokens=n, ignore_eos=True, detokenize=False)
                for n in case["lengths"]
            ]

            def run(asked: Any = asked, params: Any = params) -> int:
                found = llm.generate(asked, params, use_tqdm=False)
                return sum(len(each.outputs[0].token_ids) for each in found)

            rows.append({"case": case["case"], **measured(meter, run)})
            print("direct", json.dumps(rows[-1]), flush=True)
    out.write_text(json.dumps(rows))
    sys.stdout.flush()
    os._exit(0)


def draw(out: Path) -> None:
    """J/token over the batch, a line per engine and quantization."""
    import matplotlib

    golden = ROOT / "tests" / "golden"
    vllm = pd.read_csv(golden / "h200_vllm.csv").assign(engine="vllm")
    vllm = vllm[vllm["case"] != "mixed"].assign(batch=lambda rows: rows["case"].astype(int))
    graph = pd.read_csv(golden / "h200_engines_held_out.csv")
    graph = graph[graph["part"] == "curve"]
    graph = graph.assign(j_per_token=graph["energy_j"] / graph["output_tokens"])
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    colours = {"none": "tab:blue", "gptq4": "tab:orange", "fp8": "tab:green"}
    for rows, style in ((vllm, "-"), (graph, "--")):
        for (engine, quant), group in rows.groupby(["engine", "quant"], sort=False):
            axes.plot(
                group["batch"], group["j_per_token"], style, marker="o", markersize=4,
                color=colours[quant], label=f"engine={engine} quant={quant}",
            )  # fmt: skip
    axes.set(
        xscale="log", yscale="log", xlabel="batch (sequences decoded together)",
        ylabel="energy per output token [J]", title="Qwen2.5-7B on one NVIDIA H200",
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(out / "engines.svg")


if __name__ == "__main__":
    main()
