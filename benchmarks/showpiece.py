"""The thesis' grid on one NVIDIA GPU, in pieces: each call goes on where the last one ended, also
on another machine.

    python benchmarks/showpiece.py --out DIR [--seconds 560] [--part NAME ...] [--plan]
        [--smollm CHECKPOINT] [--humaneval FILE] [--mbpp FILE]

A cell is one run of codejoule: a model, a quantization, an engine, a batch size and a repeat. Those
that have a loaded model in common make a group, which loads it once. Groups come in the order in
which conclusions need them (shuffled by a seed among those of equal worth), so that any part of the
study is of use; --plan prints them all, with the seconds that each is expected to take. A call
takes the groups that are not in DIR yet and of which it expects that they end within --seconds.

grid      random weights (no network is needed): as many prompt tokens as BigCodeBench's prompts
          have, and 362 new ones, as many as the thesis' runs had per task
smollm    a real model, from --smollm, over the tasks of --humaneval (HumanEval's file, or
          EvalPlus') and --mbpp (MBPP's, or EvalPlus'): five samples per task
starter   the bundled model over `starter_large`, resolved by hydra/sweeper=resolve
again     a tenth of the grid once more, to be run on another day or machine

Everything is an ordinary run in the store in DIR: `codejoule analyze --experiment showpiece` with
CODEJOULE_HOME=DIR compares them. DIR also holds ``cells.csv`` (a row per cell), ``calls.csv`` (what
each call took) and ``tasks.csv.gz`` (a row per task and sample of smollm and starter). `python -m
tools.results` makes the data set and the pages of the documentation from them. A cell that failed
is not tried again unless --again is given. With --smoke the bundled model stands for all others, on
any machine, to see that the script works.
"""

import argparse
import csv
import json
import os
import random
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
SEED = 22
NEW_TOKENS = 362
"""Of each task: throughput x time over tasks in the thesis' tables."""
BIGCODEBENCH_TOKENS = (
    95, 147, 175, 187, 204, 217, 228, 238, 248, 260, 269, 286, 310, 328, 350, 372, 392, 422, 469,
    534, 1427,
)  # fmt: skip
"""Quantiles (0, 5, ... 100 %) of the length of BigCodeBench's complete prompts: 561 of its 1,140
tasks, by the tokenizer of SmolLM2, which has 49,152 tokens."""
PARTS = ("grid", "smollm", "starter", "again")
EXPERIMENT = "showpiece"

METRICS = (
    "tasks", "prompt_tokens", "output_tokens", "latency_s", "ttft_s", "tpot_s",
    "throughput_tokens_per_s", "energy_generation_j", "energy_generation_uncertainty_j",
    "energy_gpu_net_j", "energy_prefill_j", "energy_decode_j", "energy_load_j", "energy_compile_j",
    "energy_quantize_j", "energy_evaluation_j", "energy_per_output_token_j",
    "energy_per_output_token_steady_j", "energy_per_solved_task_j", "energy_crosscheck_rel",
    "idle_power_w", "mean_power_w", "memory_peak_bytes", "pass_at_1", "pass_at_1_ci_low",
    "pass_at_1_ci_high", "pass_at_1_plus", "predicted_latency_s", "predicted_energy_gpu_j",
    "predicted_memory_bytes",
)  # fmt: skip
TAGS = (
    "gpu", "gpu_uuid", "dtype", "kernels", "weights", "stored_as", "length", "energy_source",
    "energy_scope", "validity", "fingerprint",
)  # fmt: skip
KEYS = ("part", "model", "quant", "engine", "batch", "suite", "repeat")
BOOKS = ("status", "error", "call", "began", "wall_s", "run_id")
COLUMNS = (*KEYS, *BOOKS, *TAGS, *METRICS)
TASKS = (
    "task_id", "sample", "prompt_tokens", "output_tokens", "energy_j", "evaluation_energy_j",
    "verdict", "verdict_plus", "domains",
)  # fmt: skip
"""Columns that a row of tasks.csv.gz has of a run's tasks.parquet, where it has them."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run."""

    part: str
    model: str
    quant: str
    engine: str
    batch: int
    suite: str
    repeat: int
    overrides: tuple[str, ...] = field(compare=False)
    """What is composed besides model, quantization, engine, batch and repeat."""
    seconds: float = field(compare=False)
    """That it is expected to take, loading apart."""

    @property
    def key(self) -> tuple[str, ...]:
        """What names it in cells.csv."""
        return tuple(str(getattr(self, name)) for name in KEYS)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Cells that share a loaded model."""

    cells: tuple[Cell, ...]
    """The largest batch is first: an engine is started for it, and has room for the others."""
    start_s: float
    """What loading is expected to take."""

    @property
    def title(self) -> str:
        """In a line."""
        one = self.cells[0]
        batches = ",".join(map(str, dict.fromkeys(cell.batch for cell in self.cells)))
        named = f"{one.part:<8}{one.model:<19}{one.quant:<6}{one.engine:<9}"
        return f"{named}b{batches} x{len(self.cells)}"

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.start_s + sum(cell.seconds for cell in self.cells)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is studied: the real thing, or its small substitute."""

    first: tuple[str, ...]
    """The models that conclusions need most."""
    large: tuple[str, ...]
    """Then."""
    rest: tuple[str, ...]
    """At last."""
    base: tuple[str, ...]
    """Base models: the same architectures as the Instruct ones."""
    others: tuple[str, ...]
    """The thesis' other models, unquantized: of its experiments on tasks and batch size."""
    first_quants: tuple[str, ...]
    """What conclusions need most."""
    quants: tuple[str, ...]
    """The thesis' other quantizations."""
    more_quants: tuple[str, ...]
    """With the serving engine alone."""
    serving: str
    """Engine of a server."""
    tasks: Mapping[int, int]
    """Tasks for each of its batch sizes: some seconds' worth."""
    serving_overrides: tuple[str, ...]
    host_overrides: tuple[str, ...]
    """For `generate`: AWQ's kernels force float16."""
    common: tuple[str, ...]
    real_batch: int
    """Of the real model and of the bundled one."""
    real_overrides: tuple[str, ...]
    real_quants: tuple[str, ...]
    starter_overrides: tuple[str, ...]
    start_s: Mapping[str, float]
    """Seconds to load, compile and capture, by engine."""


SHOWPIECE = Study(
    first=("qwen_0_5b", "qwen_7b"),
    large=("qwen_14b",),
    rest=("qwen_1_5b", "qwen_3b"),
    base=("qwen_14b_base", "qwen_7b_base", "qwen_3b_base", "qwen_1_5b_base", "qwen_0_5b_base"),
    others=("llama_8b", "deepseek_coder_16b"),
    first_quants=("none", "gptq4"),
    quants=("awq", "gptq8"),
    more_quants=("fp8",),
    serving="vllm",
    tasks={128: 256, 32: 64, 8: 16, 1: 3},
    serving_overrides=("model.dtype=bfloat16",),
    host_overrides=("model.dtype=float16",),
    common=("model.weights=random",),
    real_batch=128,
    real_overrides=("model.dtype=float16", "generation.max_new_tokens=384"),
    real_quants=("none", "gptq8", "gptq4", "awq", "fp8"),
    starter_overrides=("quant=none,gptq8,gptq4,awq,fp8", "engine=graph", "batch=b64"),
    start_s={"vllm": 65, "generate": 22},
)
SMOKE = Study(
    first=("starter",),
    large=(),
    rest=(),
    base=(),
    others=(),
    first_quants=("none", "gptq8"),
    quants=(),
    more_quants=(),
    serving="graph",
    tasks={4: 4, 1: 2},
    serving_overrides=(),
    host_overrides=(),
    common=("meter=cpu_estimate",),
    real_batch=8,
    real_overrides=("meter=cpu_estimate", "generation.max_new_tokens=32"),
    real_quants=("none",),
    starter_overrides=(
        "quant=none,gptq8", "batch=b64", "meter=cpu_estimate", "hydra.sweeper.first=64",
        "hydra.sweeper.jobs=2", "evaluator.ground_truth=false",
    ),
    start_s={"graph": 15, "generate": 15},
)  # fmt: skip

CELL_S = 5.0
"""What a run takes beside its generation: planning, warm-up, idle power, recording."""
STARTER_S = 200.0
CALL_S = 12.0
"""Imports, before the first cell."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seconds", type=float, default=560)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS[:3]))
    parser.add_argument("--plan", action="store_true", help="print what is to come")
    parser.add_argument("--smollm", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--humaneval", type=Path, metavar="FILE")
    parser.add_argument("--mbpp", type=Path, metavar="FILE")
    parser.add_argument("--again", action="store_true", help="try what failed again")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    out: Path = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    # The store, journals and quantized checkpoints.
    os.environ["CODEJOULE_HOME"] = str(out)
    os.environ.setdefault("GPTQMODEL_OFFLINE", "1")
    study = SMOKE if options.smoke else SHOWPIECE
    books = Books(out)
    groups = [
        left
        for group in plan(study, options, out)
        if (left := books.left(group, again=options.again)) is not None
    ]
    if options.plan:
        tell(groups)
        return
    write_tasks(out / "grid.jsonl")
    write_calibration(out / "calibration.txt")
    with books.call() as call:
        for group in groups:
            left_s = options.seconds - (time.monotonic() - began)
            if group.seconds > left_s:
                print(f"left out, {left_s:.0f} s are left: {group.title}", flush=True)
                continue
            print(f"{time.monotonic() - began:.0f} s: {group.title}", flush=True)
            run_group(group, books, call, end=began + options.seconds)
        books.write_tasks()
        left = sum(books.left(group, again=False) is not None for group in groups)
        print(f"{time.monotonic() - began:.0f} s: {left} groups are left", flush=True)


def run_group(group: Group, books: "Books", call: int, *, end: float) -> None:
    """Its cells, as long as there is time for them. After one that failed, the others of the group
    would fail alike."""
    for cell in group.cells:
        if time.monotonic() + cell.seconds > end:
            print(f"left out for want of time: {' '.join(cell.key)}", flush=True)
            break
        start, clock = now(), time.monotonic()
        try:
            run_id = resolve(cell, books, end) if cell.part == "starter" else run(cell)
            status, error = "finished", ""
        except Exception as problem:
            traceback.print_exc(file=sys.stdout)
            run_id, status = "", "failed"
            error = " ".join(f"{type(problem).__name__}: {problem}".split())[:500]
        wall_s = time.monotonic() - clock
        print(f"{status} in {wall_s:.1f} s: {' '.join(cell.key)}", flush=True)
        book = (status, error, call, start, round(wall_s, 2), run_id)
        books.add(cell, dict(zip(BOOKS, book, strict=True)))
        if status == "failed":
            break


def run(cell: Cell) -> str:
    """An ordinary run; its id."""
    import codejoule

    found = codejoule.run(*overrides(cell))
    return found[0].run_id


def overrides(cell: Cell) -> list[str]:
    """Of an ordinary run."""
    return [
        f"+experiment={EXPERIMENT}",
        f"quant={cell.quant}",
        f"engine={cell.engine}",
        f"batch=b{cell.batch}",
        f"repeat={cell.repeat}",
        "tracking.traces=0",
        f"tracking.experiment={experiment_of(cell)}",
        *cell.overrides,
    ]


def experiment_of(cell: Cell) -> str:
    """The experiment of the store that has its runs."""
    return EXPERIMENT if cell.part in ("grid", "again") else f"{EXPERIMENT}-{cell.part}"


def resolve(cell: Cell, books: "Books", end: float) -> str:
    """`resolve` until it has decided or time is up; the id of the sweep. Its answer says which."""
    from mlflow import MlflowClient

    from codejoule.experiment.assignment import _release

    _release()  # the sweep's own process needs the GPU that a loaded model still has
    budget_s = max(end - time.monotonic() - 30, 30)
    command = [
        sys.executable, "-m", "codejoule", "run", "-m", "hydra/sweeper=resolve",
        "hydra.sweeper.goal=front", f"hydra.sweeper.budget_s={budget_s:.0f}",
        "model=starter", "suite=starter_large", "tracking.traces=0",
        f"tracking.experiment={experiment_of(cell)}", *cell.overrides,
    ]  # fmt: skip
    print("$", *command[3:], flush=True)
    subprocess.run(command, check=False)
    client = MlflowClient(books.uri)
    experiment = client.get_experiment_by_name(experiment_of(cell))
    sweeps = client.search_runs(
        [experiment.experiment_id], "tags.`codejoule.kind` = 'sweep'", max_results=1
    )
    answer = sweeps[0].data.tags.get("codejoule.answer", "") if sweeps else ""
    print(answer, flush=True)
    if not answer:
        raise RuntimeError("resolve left no answer")
    (books.out / "starter.txt").write_text(answer + "\n", encoding="utf-8")
    return str(sweeps[0].info.run_id)


# What is to be run


def plan(study: Study, options: argparse.Namespace, out: Path) -> list[Group]:
    """All groups of the chosen parts, in their order."""
    served, hosted = partial(serving_group, study, out), partial(host_group, study, out)

    def again(group: Callable[..., Group], quant: str) -> Group:
        return group(study.first[0], quant, part="again")

    grid = [
        *stratum([served(m, q) for m in study.first for q in study.first_quants]),
        *stratum([hosted(m, q) for m in study.first for q in study.first_quants]),
        *stratum([served(m, q) for m in study.first for q in (*study.quants, *study.more_quants)]),
        *stratum([hosted(m, q) for m in study.first for q in study.quants]),
    ]
    all_quants = (*study.first_quants, *study.quants)
    rest = [
        *stratum([served(m, q) for m in study.large for q in (*all_quants, *study.more_quants)]),
        *stratum([served(m, "none") for m in study.base[:2]]),
        *stratum([hosted(m, q) for m in study.large for q in all_quants]),
        *stratum([group(m, "none") for m in study.others for group in (served, hosted)]),
        *stratum([served(m, q) for m in study.rest for q in (*all_quants, *study.more_quants)]),
        *stratum([hosted(m, q) for m in study.rest for q in all_quants]),
        *stratum([hosted(m, "none") for m in study.base]),
        *stratum([served(m, "none") for m in study.base[2:]]),
        # What is cheap, once more: a start of its own, since a start is a part of how runs differ.
        *stratum([served(m, q, repeats=(3,)) for m in study.first for q in study.first_quants]),
    ]
    parts = {
        "grid": [*grid, *rest],
        "smollm": list(real_groups(study, options, out)),
        "starter": [starter_group(study)],
        "again": [
            *stratum([again(served, quant) for quant in study.first_quants]),
            *stratum([again(hosted, quant) for quant in study.first_quants]),
        ],
    }
    # The real models after what the main conclusions need.
    order = {"grid": grid, "smollm": parts["smollm"], "starter": parts["starter"]}
    chosen = [group for part in PARTS[:3] if part in options.part for group in order[part]]
    return [
        *chosen,
        *(rest if "grid" in options.part else ()),
        *(parts["again"] if "again" in options.part else ()),
    ]


def stratum(groups: Sequence[Group]) -> list[Group]:
    """Groups of equal worth, in random order."""
    return random.Random(SEED).sample(groups, len(groups))


def serving_group(
    study: Study, out: Path, model: str, quant: str, *, part: str = "grid",
    repeats: Sequence[int] = (1, 2),
) -> Group:  # fmt: skip
    """All batch sizes with the serving engine."""
    sizes = [(size, repeat) for size in study.tasks for repeat in repeats]
    first, *others = sizes
    random.Random(SEED).shuffle(others)
    return Group(
        start_s=study.start_s[study.serving],
        cells=tuple(
            grid_cell(
                study, out, part, model, quant, study.serving, size, repeat,
                tasks=study.tasks[size], more=study.serving_overrides,
                step_s=serving_step_s(model, size),
            )
            for size, repeat in (first, *others)
        ),
    )  # fmt: skip


def host_group(
    study: Study, out: Path, model: str, quant: str, *, part: str = "grid",
    repeats: Sequence[int] = (1, 2),
) -> Group:  # fmt: skip
    """One task at a time with `generate`."""
    return Group(
        start_s=study.start_s["generate"],
        cells=tuple(
            grid_cell(
                study, out, part, model, quant, "generate", 1, repeat, tasks=1,
                more=study.host_overrides, step_s=0.1 if size_of(model) > 8 else 0.062,
            )
            for repeat in repeats
        ),
    )  # fmt: skip


def grid_cell(
    study: Study, out: Path, part: str, model: str, quant: str, engine: str, batch: int,
    repeat: int, *, tasks: int, more: Sequence[str], step_s: float,
) -> Cell:  # fmt: skip
    rounds = -(-tasks // batch)
    return Cell(
        part=part,
        model=model,
        quant=quant,
        engine=engine,
        batch=batch,
        suite="bigcodebench_lengths",
        repeat=repeat,
        seconds=CELL_S + rounds * NEW_TOKENS * step_s,
        overrides=(
            f"model={model}",
            # Base and Instruct models get the same prompts, and these have their lengths exactly.
            "model.variant=base",
            "suite=bigcodebench",
            f"suite.path={out / 'grid.jsonl'}",
            f"suite.limit={tasks}",
            f"generation.max_new_tokens={NEW_TOKENS}",
            "evaluator=none",
            *(["on_finished=rerun"] if part == "again" else ()),
            *study.common,
            *more,
        ),
    )


def serving_step_s(model: str, batch: int) -> float:
    """Time of a decode step with vLLM on an H200, on the safe side."""
    billions = size_of(model)
    return 1e-3 * (1.5 + 0.55 * billions + batch * (0.02 + 0.003 * billions))


def size_of(model: str) -> float:
    """Billions of parameters, as the model's name says: 0.5 of ``qwen_0_5b_base``."""
    size = re.search(r"_(\d+(?:_\d+)?)b", model)
    return 0.0 if size is None else float(size[1].replace("_", "."))


def real_groups(study: Study, options: argparse.Namespace, out: Path) -> Iterator[Group]:
    """The real model over each suite there is a file of: five samples per task of each
    quantization, and unquantized one task at a time, for the energy of each task by itself."""
    for path in (options.humaneval, options.mbpp):
        if options.smollm is None or path is None:
            continue
        suite, tasks = suite_of(path)

        def cell(
            quant: str, batch: int, samples: int, task_s: float, path: Path = path,
            suite: str = suite, tasks: int = tasks,
        ) -> Cell:  # fmt: skip
            return Cell(
                part="smollm",
                model="smollm2_135m",
                quant=quant,
                engine=study.serving,
                batch=batch,
                suite=suite,
                repeat=1,
                seconds=CELL_S + task_s * tasks,
                overrides=(
                    f"model={options.smollm.absolute()}",
                    f"suite={suite}",
                    f"suite.path={path.absolute()}",
                    "generation=sample",
                    "generation.temperature=0.2",
                    f"generation.n_samples={samples}",
                    f"quant.calibration.path={out / 'calibration.txt'}",
                    *study.real_overrides,
                ),
            )

        for quant in study.real_quants:
            start_s = study.start_s[study.serving] + (0 if quant in ("none", "fp8") else 90)
            cells = [cell(quant, study.real_batch, 5, 0.3)]
            if quant == "none":
                cells.append(cell(quant, 1, 1, 0.7))
            yield Group(start_s=start_s, cells=tuple(cells))


def suite_of(path: Path) -> tuple[str, int]:
    """The suite whose file this is, and how many tasks it has."""
    from codejoule.suites.formats import recognize
    from codejoule.suites.rows import read_rows

    rows = read_rows(path)
    return recognize(rows[0]).name, len(rows)


def starter_group(study: Study) -> Group:
    cell = Cell(
        part="starter", model="starter", quant="all", engine="graph", batch=64,
        suite="starter_large", repeat=1, seconds=STARTER_S, overrides=study.starter_overrides,
    )  # fmt: skip
    return Group(cells=(cell,), start_s=0.0)


def tell(groups: Sequence[Group]) -> None:
    """The plan, and when each group would be done if calls took up all of their time."""
    total_s = 0.0
    for number, group in enumerate(groups, start=1):
        total_s += group.seconds
        print(f"{number:>4} {group.title:<60} {group.seconds:>6.0f} s {total_s:>8.0f} s")
    print(f"{len(groups)} groups, {sum(len(g.cells) for g in groups)} cells, {total_s:.0f} s")


# What the models are asked


def write_tasks(file: Path) -> None:
    """The grid's tasks: their prompts have as many bytes as BigCodeBench's have tokens, and random
    weights take a byte for a token. Each first few are spread over all lengths alike."""
    if file.exists():
        return
    rng = np.random.default_rng(SEED)
    count = max(SHOWPIECE.tasks.values())
    shares = [van_der_corput(number) for number in range(1, count + 1)]
    lengths = np.interp(shares, np.linspace(0, 1, len(BIGCODEBENCH_TOKENS)), BIGCODEBENCH_TOKENS)
    with file.open("w", encoding="utf-8") as stream:
        for number, length in enumerate(lengths.round().astype(int)):
            prompt = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz    \n"), size=length))
            row = {
                "task_id": f"BigCodeBench/{number}",
                "complete_prompt": prompt,
                "instruct_prompt": prompt,
                "canonical_solution": "    pass\n",
                "code_prompt": "def task_func():\n",
                "test": "import unittest\nclass TestCases(unittest.TestCase):\n    pass\n",
                "entry_point": "task_func",
            }
            stream.write(json.dumps(row) + "\n")


def van_der_corput(number: int) -> float:
    """1/2, 1/4, 3/4, 1/8, ..."""
    return sum(int(bit) / 2**place for place, bit in enumerate(f"{number:b}"[::-1], start=1))


def write_calibration(file: Path) -> None:
    """Texts for quantizing the real model: tasks and solutions of the bundled suite."""
    from codejoule.suites import load_suite_named

    tasks = load_suite_named("starter_large").tasks
    texts = (f"{task.complete_prompt}{task.canonical_solution}" for task in tasks)
    # A blank line would end a text.
    lines = ("\n".join(line for line in text.splitlines() if line.strip()) for text in texts)
    file.write_text("\n\n".join(lines) + "\n", encoding="utf-8")


# What is known


def key_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """As `Cell.key`."""
    return tuple(row[name] for name in KEYS)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Books:
    """What DIR knows of cells and calls."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._rows = read_csv(out / "cells.csv")

    @property
    def uri(self) -> str:
        """Of the store."""
        return f"sqlite:///{self.out / 'mlruns' / 'mlflow.db'}"

    def left(self, group: Group, *, again: bool) -> Group | None:
        """What of it is still to be run; None if nothing is. `again` counts what failed as such."""
        done = {key_of(row) for row in self._rows if row["status"] == "finished" or not again}
        failed = {key_of(row) for row in self._rows if row["status"] == "failed"}
        if not again and any(cell.key in failed for cell in group.cells):
            return None
        cells = tuple(cell for cell in group.cells if cell.key not in done)
        return replace(group, cells=cells) if cells else None

    def add(self, cell: Cell, book: Mapping[str, Any]) -> None:
        """A cell that has ended."""
        names = dict(zip(KEYS, cell.key, strict=True))
        self._rows = [row for row in self._rows if any(row[k] != v for k, v in names.items())]
        rows = [{**names, **book}]
        if book["status"] == "finished":
            rows = self._looks(cell, book) if cell.part == "starter" else [
                {**rows[0], **self._facts(str(book["run_id"]))}
            ]  # fmt: skip
        self._rows += rows
        write_csv(self.out / "cells.csv", COLUMNS, self._rows)

    def _client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def _facts(self, run_id: str) -> dict[str, Any]:
        """What the store has of a run."""
        data = self._client().get_run(run_id).data
        tags = {name: data.tags.get(f"codejoule.{name}") for name in TAGS}
        return tags | {name: data.metrics.get(name) for name in METRICS}

    def _looks(self, cell: Cell, book: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A row for the cell, and one for each of the sweep's runs."""
        client = self._client()
        experiment = client.get_experiment_by_name(experiment_of(cell))
        rows = [dict(zip(KEYS, cell.key, strict=True)) | dict(book)]
        for run in client.search_runs([experiment.experiment_id], max_results=1000):
            params = run.data.params
            if "model.name" not in params:
                continue
            names = {
                "part": cell.part, "model": "starter", "quant": params["quant.name"],
                "engine": cell.engine, "batch": params["batch.size"], "suite": cell.suite,
                "repeat": params.get("repeat", "1"),
            }  # fmt: skip
            info = run.info
            began = datetime.fromtimestamp(info.start_time / 1e3, UTC)
            own = {
                "status": info.status.lower(),
                "error": run.data.tags.get("codejoule.error", ""),
                "call": book["call"],
                "began": began.isoformat(timespec="seconds"),
                "wall_s": round((info.end_time - info.start_time) / 1e3, 2),
                "run_id": info.run_id,
            }
            rows.append(names | own | self._facts(run.info.run_id))
        return rows

    def write_tasks(self) -> None:
        """The tasks of the runs in which a task is a real one."""
        client, frames = self._client(), []
        for row in self._rows:
            if row["part"] not in ("smollm", "starter") or row["quant"] == "all":
                continue
            if row["status"] != "finished":
                continue
            found = pd.read_parquet(client.download_artifacts(str(row["run_id"]), "tasks.parquet"))
            found = found[[name for name in TASKS if name in found]]
            if "domains" in found:
                found["domains"] = [",".join(each) for each in found["domains"]]
            for place, name in enumerate(("run_id", *KEYS)):
                found.insert(place, name, row[name])
            frames.append(found)
        if frames:
            pd.concat(frames).to_csv(self.out / "tasks.csv.gz", index=False)

    def call(self) -> "Call":
        """A new one."""
        return Call(self.out / "calls.csv")


class Call:
    """Books what a call takes, whichever way it ends."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> int:
        self._rows = read_csv(self._file)
        self._clock, self._j = time.monotonic(), gpu_j()
        self._rows.append({"call": len(self._rows) + 1, "began": now()})
        self._write()
        return len(self._rows)

    def __exit__(self, *_: object) -> None:
        end_j = gpu_j()
        own = self._rows[-1]
        own["seconds"] = round(time.monotonic() - self._clock, 1)
        if self._j is not None and end_j is not None:
            own["gpu_j"] = round(end_j - self._j, 1)
        self._write()

    def _write(self) -> None:
        write_csv(self._file, ("call", "began", "seconds", "gpu_j"), self._rows)


def gpu_j() -> float | None:
    """Counter of the first visible GPU; None without one. The runs' own figures come from
    codejoule's meter; this counts what lies between them, too."""
    from codejoule.measurement import detect_gpus

    gpus, *_ = detect_gpus()
    if not gpus:
        return None
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(gpus[0].uuid)
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3


def read_csv(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write_csv(file: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Whole or not at all: a call may be ended while it writes."""
    part = file.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(file)


if __name__ == "__main__":
    main()
