"""What draining an engine for each accounting window costs, against windows that are cut as
sequences end: tokens/s and J/token of the same requests.

    python benchmarks/windows.py --out DIR [--engine vllm] [--batches 32 128] [--repeats 2]

Qwen2.5-7B in bfloat16 with random weights, requests of mixed lengths (up to 1,024 new tokens), ten
for each slot (--per-slot), no network. Drained: so many calls, each for a window's requests; cut:
one call, whose windows `codejoule.experiment.session` cuts. In turns, each ``--repeats`` times
after one warm-up, all sizes with one engine, which has the slots of the largest. Prints a table
and leaves ``windows.json`` in DIR. With --smoke a tiny model and a
sixteenth of the tokens run on any device, to see that the script works; --engine vllm needs a
Python that has it (--python).
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engines import CUDA, SMOKE, Bench, mixed
from vllm_engine import started

from codejoule.config.compose import register_schemas
from codejoule.config.schema import MeterConfig
from codejoule.domain import Prompt
from codejoule.experiment.session import Session
from codejoule.measurement import Meter, open_meter


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engine", choices=("vllm", "continuous", "graph"), default="vllm")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--per-slot", type=int, default=10)
    parser.add_argument("--python", default=None)
    parser.add_argument("--model", default="qwen_7b")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    register_schemas()
    rows: list[dict[str, Any]] = []
    print(f"{'batch':>6} {'windows':>22} {'tokens/s':>9} {'J/token':>9} {'W':>6} {'s':>7}")
    largest = max(options.batches)
    asked, lengths = mixed(options.per_slot * largest, 48 if options.smoke else 1024)
    with (
        open_meter(
            MeterConfig(),
            gpu_indices=(0,) if CUDA else (),
            processes=() if CUDA else (os.getpid(),),
        ) as meter,
        engine_of(options, asked, lengths, largest) as engine,
    ):
        for size in options.batches:
            own = asked[: options.per_slot * size]
            engine.generate(own[:size], at_once=size, seed=0)
            for repeat in range(options.repeats):
                for tasks in (size // 4, size):
                    found = drained(meter, engine, own, size, tasks)
                    rows.append(told(options, size, f"drained, {tasks} tasks", found, repeat))
                found = cut(meter, engine, own, size)
                rows.append(told(options, size, f"cut, {size} tasks", found, repeat))
    (options.out / "windows.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


@contextmanager
def engine_of(
    options: argparse.Namespace, asked: Sequence[Prompt], lengths: Sequence[int], size: int
) -> Iterator[Any]:
    """The engine, set up for these requests, each of which ends after its length."""
    longest = max(lengths)
    if options.engine == "vllm":
        engine = started("none", options, longest=longest, more=SMOKE * options.smoke)
        engine.lengths = dict(zip((p.task_id for p in asked), lengths, strict=True))
        engine.open([asked], at_once=size)
        engine.prepare([asked], at_once=size)
        yield engine
        engine.close()
        return
    bench = Bench(options.out, smoke=options.smoke)
    with bench._model(options.model, "bfloat16", "none") as loaded:
        engine = bench._engine(options.engine, loaded, new=longest, lengths=lengths)
        engine.prepare([asked], at_once=size)
        yield engine
        engine.close()
    bench.close()


def drained(
    meter: Meter, engine: Any, asked: Sequence[Prompt], size: int, tasks: int
) -> dict[str, float]:
    """A call for each window's requests."""
    tokens = 0
    with meter.window("run") as window:
        for i in range(0, len(asked), tasks):
            decoded = engine.generate(asked[i : i + tasks], at_once=size, seed=0)
            tokens += sum(c.output_tokens for c in decoded.completions)
    return {"tokens": tokens, "s": window.reading.latency_s, "j": window.reading.energy_j}


def cut(meter: Meter, engine: Any, asked: Sequence[Prompt], size: int) -> dict[str, float]:
    """One call, in windows that are cut as sequences end."""
    windows = []
    with meter.slices("run") as slices:
        session = Session(
            slices,
            places=range(len(asked)),
            at_once=size,
            window_tasks=size,
            shortest_s=meter.shortest_s,
            first=0,
        )
        for ended in engine.stream(asked, at_once=size, seed=0, mark=slices.mark):
            session.take(ended)
            windows += session.settled()
    windows += session.rest()
    return {
        "tokens": sum(c.output_tokens for entry in windows for c in entry.completions),
        "s": sum(entry.reading.latency_s for entry in windows),
        "j": sum(entry.reading.energy_j for entry in windows),
        "windows": len(windows),
    }


def told(
    options: argparse.Namespace, size: int, windows: str, found: dict[str, float], repeat: int
) -> dict[str, Any]:
    """One line, and the row that is kept."""
    tokens, seconds, energy_j = found["tokens"], found["s"], found["j"]
    print(
        f"{size:>6} {windows:>22} {tokens / seconds:>9.1f} {energy_j / tokens:>9.4f} "
        f"{energy_j / seconds:>6.0f} {seconds:>7.2f}",
        flush=True,
    )
    return {
        "engine": options.engine, "batch": size, "windows": windows, "repeat": repeat,
        "tokens_per_s": tokens / seconds, "j_per_token": energy_j / tokens, **found,
    }  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("GPTQMODEL_OFFLINE", "1")
    main()
