"""How near each engine comes to what the memory of one NVIDIA GPU allows, and what that costs.

    python benchmarks/engines.py --out DIR [--parts one many curve job same profile] [--seconds 560]

Random weights of Qwen2.5, no network. Each part is complete in itself, the bandwidth it is
compared with measured in the same call; parts for which too little of ``--seconds`` is left are
named and left out, and a later call with the same DIR goes on. What fails is told, and the
other parts are done. Prints tables, and leaves
``engines.json`` in DIR:

one      one sequence: tokens/s and J/token of 7B and 0.5B in bfloat16 with every engine, and of
         7B in float16 unquantized and gptq4, beside the bandwidth bound;
many     128 requests of mixed lengths, 7B, bfloat16, all at once; the bound's time is that of the
         steps in which they run, each reading the keys and values of those that have not ended;
curve    J/token and tokens/s of `graph` for batches of 1 to 128, unquantized and gptq4 (float16);
job      as many prompts as BigCodeBench has, 362 new tokens each;
same     the share of sequences that are the same with every engine, bfloat16;
profile  where the time of one step of 7B goes.

The bound: the bytes of all weights that a step reads and of the keys and values of half of the
new tokens, over the bandwidth at which this GPU reads memory. With --smoke tiny models run on any
device, to see that the script works.
"""

import argparse
import gc
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from codejoule.config.compose import register_schemas
from codejoule.config.schema import EngineConfig, GenerationConfig, MeterConfig
from codejoule.config.typed import to_experiment
from codejoule.domain import Prompt
from codejoule.domain.engines import EngineName
from codejoule.generation import Decoded, Decoding, make_engine
from codejoule.measurement import Meter, open_meter
from codejoule.models import LoadedModel, load_model, locate_checkpoint, prepare_libraries

ROOT = Path(__file__).parents[1]
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
BIGCODEBENCH_TASKS = 1140
TOKENS_PER_TASK = 362
THESIS = "174 minutes and 0.79 kWh (7B, L40S)"
SMOKE = (
    "++model.architecture.num_hidden_layers=2", "++model.architecture.hidden_size=128",
    "++model.architecture.intermediate_size=256", "++model.architecture.num_attention_heads=4",
    "++model.architecture.num_key_value_heads=2", "++model.architecture.max_window_layers=2",
)  # fmt: skip
NEEDED_S = {"one": 190, "many": 280, "curve": 110, "job": 100, "same": 90, "profile": 45}
"""Room that each part is given, compilation included."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=NEEDED_S, default=list(NEEDED_S))
    parser.add_argument("--seconds", type=float, default=560)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    register_schemas()
    bench = Bench(options.out, smoke=options.smoke)
    print(json.dumps(bench.machine), flush=True)
    failed = []
    for part in options.parts:
        left_s = options.seconds - (time.monotonic() - began)
        if left_s < NEEDED_S[part] and not options.smoke:
            print(f"left out, {left_s:.0f} s are left: {part}", flush=True)
            continue
        start = time.monotonic()
        try:
            bench.keep(part, getattr(bench, part)())
        except Exception:
            traceback.print_exc(file=sys.stdout)
            failed.append(part)
        print(f"part {part} took {time.monotonic() - start:.0f} s", flush=True)
    bench.close()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


class Bench:
    """One call: a meter, the bandwidth, and whichever model is loaded."""

    def __init__(self, out: Path, *, smoke: bool) -> None:
        self._out = out
        self._smoke = smoke
        self._meter: Meter = open_meter(MeterConfig(), gpu_indices=(0,) if CUDA else ())
        self.bandwidth = read_bandwidth(2**20 if smoke else 2**32)
        self.machine = {
            "device": torch.cuda.get_device_name() if CUDA else "cpu",
            "torch": torch.__version__,
            "bandwidth_bytes_per_s": self.bandwidth,
        }

    def close(self) -> None:
        self._meter.close()

    def keep(self, part: str, rows: list[dict[str, Any]]) -> None:
        """Add to what earlier calls left."""
        file = self._out / "engines.json"
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        found[part] = {"machine": self.machine, "rows": rows}
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    def one(self) -> list[dict[str, Any]]:
        rows = []
        new = 12 if self._smoke else 512
        for model, dtype, quant, engines in (
            ("qwen_7b", "bfloat16", "none", ("graph", "generate", "static", "continuous")),
            ("qwen_0_5b", "bfloat16", "none", ("graph", "generate", "static", "continuous")),
            ("qwen_7b", "float16", "none", ("graph",)),
            ("qwen_7b", "float16", "gptq4", ("graph", "generate")),
        ):
            with self._model(model, dtype, quant) as loaded:
                bound = self._bound(loaded, rows=1, tokens=200 + new // 2)
                for engine in engines:
                    few = min(new, 48) if engine in ("generate", "continuous") else new
                    row = self._run(engine, loaded, prompts([200]), at_once=1, new=few)
                    row |= {"model": model, "quant": quant, "bound_tokens_per_s": bound}
                    row["of_bound"] = row["tokens_per_s"] / bound
                    rows.append(row)
                    print_rows([row])
        print("\none sequence, 200 prompt tokens")
        print_rows(rows)
        return rows

    def many(self) -> list[dict[str, Any]]:
        count = 9 if self._smoke else 128
        longest = 24 if self._smoke else 1024
        asked, lengths = mixed(count, longest)
        rows = []
        with self._model("qwen_7b", "bfloat16", "none") as loaded:
            bound = self._mixed_bound(loaded, [len(prompt.text) for prompt in asked], lengths)
            for engine in ("graph", "continuous", "generate"):
                row = self._run(engine, loaded, asked, at_once=count, new=longest, lengths=lengths)
                row |= {"model": "qwen_7b", "quant": "none", "bound_tokens_per_s": bound}
                rows.append(row | {"of_bound": row["tokens_per_s"] / bound})
                print_rows(rows[-1:])
        print(f"\n{count} requests, {sum(lengths) / len(lengths):.0f} new tokens on average")
        print_rows(rows)
        return rows

    def curve(self) -> list[dict[str, Any]]:
        rows = []
        sizes = (1, 2, 4) if self._smoke else (1, 2, 4, 8, 16, 32, 64, 128)
        new = 12 if self._smoke else 256
        for quant in ("none", "gptq4"):
            with self._model("qwen_7b", "float16", quant) as loaded:
                engine = self._engine("graph", loaded, new=new)
                asked = prompts([200] * sizes[-1])
                engine.prepare([asked], at_once=sizes[-1])
                for size in sizes:
                    engine.warm_up(asked[:size], tokens=8)
                    row = self._measure(engine, asked[:size], at_once=size)
                    bound = self._bound(loaded, rows=size, tokens=200 + new // 2)
                    row |= {"engine": "graph", "model": "qwen_7b", "quant": quant}
                    rows.append(row | {"of_bound": row["tokens_per_s"] / bound})
                engine.close()
        print("\ngraph, 200 prompt and 256 new tokens")
        print_rows(rows)
        return rows

    def job(self) -> list[dict[str, Any]]:
        rng = random.Random(1)
        count, new = (11, 12) if self._smoke else (BIGCODEBENCH_TASKS, TOKENS_PER_TASK)
        asked = prompts(
            [min(900, max(60, int(rng.lognormvariate(5.2, 0.5)))) for _ in range(count)]
        )
        with self._model("qwen_7b", "bfloat16", "none") as loaded:
            row = self._run("graph", loaded, asked, at_once=4 if self._smoke else 128, new=new)
        row |= {"model": "qwen_7b", "quant": "none", "kwh": row["energy_j"] / 3.6e6}
        print(f"\n{count} prompts, {new} new tokens each; the thesis: {THESIS}")
        print_rows([row])
        print(f"{row['latency_s'] / 60:.2f} minutes, {row['kwh']:.4f} kWh", flush=True)
        return [row]

    def same(self) -> list[dict[str, Any]]:
        new = 12 if self._smoke else 128
        rng = random.Random(2)
        asked = prompts([rng.randint(20, 300) for _ in range(8 if self._smoke else 64)])
        at_once = 4 if self._smoke else 16
        texts: dict[str, list[str]] = {}
        with self._model("qwen_0_5b", "bfloat16", "none") as loaded:
            for name in ("generate", "static", "graph", "continuous"):
                engine = self._engine(name, loaded, new=new)
                batches = cut(name, asked, at_once)
                engine.prepare(batches, at_once=at_once)
                decoded = [decode(engine, batch, at_once) for batch in batches]
                texts[name] = [c.text for part in decoded for c in part.completions]
                engine.close()
        rows = []
        for name, found in texts.items():
            equal = sum(a == b for a, b in zip(found, texts["generate"], strict=True))
            rows.append({"engine": name, "same_as_generate": equal / len(found)})
        print(
            f"\n{len(asked)} prompts, {new} tokens, bfloat16, random weights of 0.5B: the share "
            "that is the same as generate's"
        )
        print(json.dumps(rows), flush=True)
        return rows

    def profile(self) -> list[dict[str, Any]]:
        from torch.profiler import ProfilerActivity, profile

        new = 12 if self._smoke else 96
        with self._model("qwen_7b", "bfloat16", "none") as loaded:
            engine = self._engine("graph", loaded, new=new)
            asked = prompts([200])
            engine.prepare([asked], at_once=1)
            decode(engine, asked, 1)
            pace = decode(engine, asked, 1).completions[0].pace
            with profile(
                activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * CUDA]
            ) as seen:
                decode(engine, asked, 1)
            bound_s = 1 / self._bound(loaded, rows=1, tokens=200 + new // 2)
            engine.close()
        assert pace is not None
        steps = new - 1
        # Kernels of one step are those that ran once or oftener for each; prefill ran once.
        times: dict[str, list[float]] = {}
        for event in seen.events():
            if event.device_type.name == "CUDA":
                times.setdefault(event.name, []).append(event.time_range.elapsed_us())
        rows = [
            {"kernel": name[:110], "us": sum(each) / steps, "calls": len(each) / steps}
            for name, each in times.items()
            if len(each) >= steps
        ]
        rows.sort(key=lambda row: -row["us"])
        found = {
            "step_us": pace.decode_s / steps * 1e6,
            "bound_us": bound_s * 1e6,
            "kernels_us": sum(row["us"] for row in rows),
            "kernels": sum(row["calls"] for row in rows),
        }
        print("\none step of 7B, the profiler aside:", json.dumps(found))
        for row in rows[:30]:
            print(f"{row['us']:>10.1f} us {row['calls']:>6.1f} x  {row['kernel']}", flush=True)
        return [found, *rows]

    @contextmanager
    def _model(self, model: str, dtype: str, quant: str) -> Iterator[LoadedModel]:
        """Random weights on the device, which are gone afterwards."""
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            overrides = [
                f"model={model}",
                f"quant={quant}",
                "model.weights=random",
                f"model.dtype={dtype if CUDA else 'float32'}",
            ]
            experiment = to_experiment(compose("config", [*overrides, *SMOKE * self._smoke]))
        packing = prepare_libraries(experiment.model, experiment.quant, device=DEVICE)
        found = locate_checkpoint(experiment.model, experiment.quant, cache_dir=Path("unused"))
        loaded = [load_model(found, experiment.model, packing, device=DEVICE)]
        print(f"loaded {model} {quant} {dtype}, kernel {loaded[0].facts.kernel}", flush=True)
        try:
            yield loaded[0]
        finally:
            loaded.clear()
            gc.collect()
            if CUDA:
                torch.cuda.empty_cache()

    def _engine(
        self, name: str, loaded: LoadedModel, *, new: int, lengths: Sequence[int] | None = None
    ) -> Any:
        return make_engine(
            EngineConfig(name=EngineName[name]),
            loaded.model,
            loaded.tokenizer,
            Decoding(
                generation=GenerationConfig(name="greedy"),
                max_new_tokens=new,
                fixed_length=lengths is None,
                program_end=None if lengths is None else ends_after(lengths),
            ),
        )

    def _run(
        self,
        name: str,
        loaded: LoadedModel,
        asked: Sequence[Prompt],
        *,
        at_once: int,
        new: int,
        lengths: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Set up, warm up, and measure."""
        engine = self._engine(name, loaded, new=new, lengths=lengths)
        start = time.monotonic()
        engine.prepare(cut(name, asked, at_once), at_once=at_once)
        compile_s = time.monotonic() - start
        engine.warm_up(asked[:at_once], tokens=8)
        try:
            row = self._measure(engine, asked, at_once=at_once)
        finally:
            facts = engine.facts()
            engine.close()
        return {"engine": name, **row, "compile_s": compile_s, "facts": facts}

    def _measure(self, engine: Any, asked: Sequence[Prompt], *, at_once: int) -> dict[str, Any]:
        with self._meter.window("run") as window:
            decoded = decode(engine, asked, at_once, mark=window.mark)
        reading = window.reading
        tokens = sum(c.output_tokens for c in decoded.completions)
        first = reading.marks_s.get("first_token")
        longest = max(c.output_tokens for c in decoded.completions)
        one_batch = len(asked) <= at_once and tokens == len(asked) * longest
        decode_s = reading.latency_s - first if first is not None and one_batch else None
        return {
            "batch": at_once,
            "tokens": tokens,
            "latency_s": reading.latency_s,
            "ttft_s": first,
            # Of the decode steps alone where one batch has both phases, else of the whole.
            "tokens_per_s": (tokens - len(asked)) / decode_s
            if decode_s
            else tokens / reading.latency_s,
            "whole_tokens_per_s": tokens / reading.latency_s,
            "energy_j": reading.energy_j,
            "j_per_token": reading.energy_j / tokens,
            "power_w": reading.energy_j / reading.latency_s,
            "uncertainty_j": reading.uncertainty_j,
        }

    def _bound(self, loaded: LoadedModel, *, rows: int, tokens: int) -> float:
        """Tokens per second if reading weights, keys and values were all there is."""
        return rows * self.bandwidth / step_bytes(loaded, cached_tokens=rows * tokens)

    def _mixed_bound(
        self, loaded: LoadedModel, prompt_tokens: Sequence[int], new_tokens: Sequence[int]
    ) -> float:
        """The same of sequences that begin together and end apart; prompts take no time."""
        each = list(zip(prompt_tokens, new_tokens, strict=True))
        read = sum(
            step_bytes(loaded, cached_tokens=sum(p + step for p, new in each if new > step))
            for step in range(max(new_tokens))
        )
        return sum(new_tokens) * self.bandwidth / read


def step_bytes(loaded: LoadedModel, *, cached_tokens: int) -> int:
    """Bytes of the weights, keys and values (of all rows together) that one step reads."""
    config = loaded.model.config
    table = loaded.model.get_input_embeddings().weight
    read = int(loaded.facts.memory_bytes)
    if not config.tie_word_embeddings:
        read -= table.numel() * table.element_size()
    width = config.hidden_size // config.num_attention_heads
    return read + cached_tokens * 4 * config.num_hidden_layers * config.num_key_value_heads * width


def decode(
    engine: Any,
    asked: Sequence[Prompt],
    at_once: int,
    mark: Callable[[str], None] = lambda name: None,
) -> Decoded:
    decoded: Decoded = engine.generate(asked, at_once=at_once, seed=0, mark=mark)
    return decoded


def cut(name: str, asked: Sequence[Prompt], at_once: int) -> list[Sequence[Prompt]]:
    """Windows as a run would make them."""
    if name in ("graph", "continuous"):
        return [asked]
    return [asked[i : i + at_once] for i in range(0, len(asked), at_once)]


def prompts(lengths: Sequence[int]) -> list[Prompt]:
    """Prompts of so many tokens each: the tokenizer of random weights has one per byte."""
    rng = random.Random(0)
    return [
        Prompt(
            task_id=f"p/{i}",
            sample=0,
            text="".join(rng.choices("abcdefghij \n", k=n)),
            add_special_tokens=False,
        )
        for i, n in enumerate(lengths)
    ]


def mixed(count: int, longest: int) -> tuple[list[Prompt], list[int]]:
    """Requests of mixed lengths, and how many new tokens each has."""
    rng = random.Random(0)
    asked = prompts([min(900, max(60, int(rng.lognormvariate(5.4, 0.6)))) for _ in range(count)])
    return asked, [min(longest, max(8, int(rng.lognormvariate(5.6, 0.7)))) for _ in asked]


def ends_after(lengths: Sequence[int]) -> Callable[[Prompt], Callable[[str], int | None]]:
    """Ends each sequence after so many tokens, as the end of a program would."""

    def begin(prompt: Prompt) -> Callable[[str], int | None]:
        left = iter(range(lengths[int(prompt.task_id[2:])] - 1, -1, -1))
        return lambda piece: 0 if next(left, 0) == 0 else None

    return begin


def read_bandwidth(count: int) -> float:
    """Bytes per second at which memory is read: the best of several kernels and runs."""
    best = 0.0
    data = torch.ones(count // 4, dtype=torch.float32, device=DEVICE)
    kernels: tuple[Callable[[], Any], ...] = (
        data.sum,
        data.amax,
        lambda: torch.dot(data, data),
        lambda: torch.linalg.vector_norm(data),
    )
    for kernel in kernels:
        for _ in range(5):
            seconds = timed(kernel)
            best = max(best, data.numel() * data.element_size() / seconds)
    target = torch.empty_like(data)
    for _ in range(5):
        best = max(best, 2 * data.numel() * data.element_size() / timed(lambda: target.copy_(data)))
    return best


def timed(work: Callable[[], Any]) -> float:
    if not CUDA:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    columns = {
        "model": 10, "quant": 6, "engine": 11, "batch": 6, "tokens_per_s": 13, "of_bound": 9,
        "j_per_token": 12, "power_w": 8, "ttft_s": 8, "latency_s": 10, "compile_s": 10,
    }  # fmt: skip
    print("".join(f"{name:>{width}}" for name, width in columns.items()))
    for row in rows:
        cells = []
        for name, width in columns.items():
            value = row.get(name)
            text = (
                "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
            )
            cells.append(f"{text:>{width}}")
        print("".join(cells), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("GPTQMODEL_OFFLINE", "1")
    main()
