"""Evaluation tasks: programs with a combination that training never saw, and their tests."""

import json
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from codejoule.domain import DOMAINS
from tools.starter.suite.near_misses import EMPTY, discriminating_inputs
from tools.starter.suite.program import (
    ENTRY_POINT,
    Example,
    Program,
    code_prompt,
    complete_prompt,
    doc_struct,
    draw_example,
    instruct_prompt,
    shown_value,
)
from tools.starter.suite.sampling import Pairs, draw_program

_LIBRARIES = {
    "Computation": "math statistics",
    "General": "collections fnmatch functools heapq itertools operator re textwrap",
    "Visualization": "colorsys",
    "System": "csv io json os pathlib",
    "Time": "calendar datetime",
    "Network": "html http ipaddress urllib",
    "Cryptography": "base64 binascii codecs hashlib hmac",
}
DOMAIN_OF = {module: domain for domain, line in _LIBRARIES.items() for module in line.split()}
"""Domain of each module that the grammar imports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationTask:
    """A program with what its tests and its docstring need."""

    program: Program
    example: Example
    inputs: tuple[Any, ...]
    """Inputs of its unit tests."""

    def row(self, task_id: str) -> dict[str, str]:
        """The task in BigCodeBench's schema."""
        return {
            "task_id": task_id,
            "complete_prompt": complete_prompt(self.program, self.example),
            "instruct_prompt": instruct_prompt(self.program),
            "canonical_solution": self.program.body(),
            "code_prompt": code_prompt(self.program),
            "test": _tests(self.program, self.inputs),
            "entry_point": ENTRY_POINT,
            "doc_struct": doc_struct(self.program, self.example),
            "libs": str(list(self.program.modules())),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How many tasks of which length make up a part of a suite."""

    tasks: int
    lengths: tuple[int, ...]
    """Operations per program, parsing of the input aside."""
    rare_weight: float = 0.25
    """How often rare operations are drawn, relative to others."""


STARTER = (Part(tasks=63, lengths=(3, 4, 5)),)
"""Nine tasks of each domain."""
STARTER_LARGE = (
    Part(tasks=203, lengths=(3, 4, 5)),
    Part(tasks=203, lengths=(5, 6), rare_weight=1.0),
)
"""A part like `STARTER`, and a harder one."""


def draw_tasks(
    parts: tuple[Part, ...], *, held_out: Pairs, rng: random.Random
) -> list[EvaluationTask]:
    """Tasks of `parts`, domains in turn, each with a pair of operations from `held_out`."""
    tasks: list[EvaluationTask] = []
    seen: Counter[str] = Counter()
    for part in parts:
        for number in range(part.tasks):
            task = _draw_task(part, DOMAINS[number % 7], held_out=held_out, rng=rng, seen=seen)
            seen.update(step.operation.name for step in task.program.steps)
            tasks.append(task)
    return tasks


def _draw_task(
    part: Part, domain: str, *, held_out: Pairs, rng: random.Random, seen: Counter[str]
) -> EvaluationTask:
    while True:
        length = rng.choice(part.lengths)
        program = draw_program(rng=rng, length=length, seen=seen, rare_weight=part.rare_weight)
        if program.pairs().isdisjoint(held_out):
            continue
        if domain not in {DOMAIN_OF[module] for module in program.modules()}:
            continue
        inputs = discriminating_inputs(program, rng=rng)
        example = _telling_example(program, rng=rng) if inputs else None
        if inputs and example:
            return EvaluationTask(program=program, example=example, inputs=tuple(inputs))


def _telling_example(program: Program, *, rng: random.Random) -> Example | None:
    drawn = (draw_example(program, rng=rng) for _ in range(20))
    return next((example for example in drawn if example and example.result not in EMPTY), None)


def _tests(program: Program, inputs: tuple[Any, ...]) -> str:
    lines = ["import unittest", "class TestCases(unittest.TestCase):"]
    run = program.function()
    for number, value in enumerate(inputs, 1):
        result = run(value)
        check = "assertAlmostEqual" if isinstance(result, float) else "assertEqual"
        lines += [
            f"    def test_case_{number}(self):",
            f"        self.{check}({ENTRY_POINT}({value!r}), {shown_value(result)})",
        ]
    return "\n".join(lines) + "\n"


def dump_rows(tasks: list[EvaluationTask], *, prefix: str) -> str:
    """The tasks as JSON lines, numbered from 0."""
    return "".join(
        json.dumps(task.row(f"{prefix}/{number}")) + "\n" for number, task in enumerate(tasks)
    )
