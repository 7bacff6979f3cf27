"""A chain of operations as a program: its prompt, its body, its result."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools.starter.suite.grammar import OPENERS, RETURNS, SOURCES, VARIABLES
from tools.starter.suite.operation import Step

ENTRY_POINT = "task_func"
FAILURES = (ArithmeticError, LookupError, TypeError, ValueError)
"""What an expression of the grammar may raise on an input it was not made for."""


@dataclass(frozen=True, slots=True)
class Program:
    """Operations in order, from a kind of input to a result."""

    source: str
    """Kind of its input, a key of `SOURCES`."""
    parameter: str
    """Name of its parameter."""
    steps: tuple[Step, ...]
    """Its operations with their arguments."""

    @property
    def gives(self) -> str:
        """Kind of its result."""
        return self.steps[-1].operation.gives

    def function(self) -> Callable[[Any], Any]:
        """The program as a function of its input; raises what a step raises."""
        functions = [step.function() for step in self.steps]

        def run(value: Any) -> Any:
            for function in functions:
                value = function(value)
            return value

        return run

    def pairs(self) -> frozenset[frozenset[str]]:
        """Every two operations that occur together, parsing of the input aside."""
        names = [s.operation.name for s in self.steps if s.operation.takes not in OPENERS]
        return frozenset(frozenset((a, b)) for i, a in enumerate(names) for b in names[:i])

    def imports(self) -> tuple[str, ...]:
        """Import statements in the order a formatter would leave them."""
        needed = {line for step in self.steps for line in step.operation.imports}
        return tuple(sorted(needed, key=lambda line: (line.startswith("from"), line)))

    def modules(self) -> tuple[str, ...]:
        """Top-level modules it imports."""
        return tuple(dict.fromkeys(line.split()[1].split(".")[0] for line in self.imports()))

    def body(self) -> str:
        """Its function body, four spaces deep, with a final newline."""
        name, kind, lines = self.parameter, self.source, []
        for step in self.steps[:-1]:
            expression = step.expression(name)
            gives = step.operation.gives
            name = name if gives == kind else self._variable(gives)
            kind = gives
            lines.append(f"    {name} = {expression}\n")
        return "".join(lines) + f"    return {self.steps[-1].expression(name)}\n"

    def _variable(self, kind: str) -> str:
        return self.parameter if kind == self.source else VARIABLES[kind]

    def signature(self) -> str:
        """Its ``def`` line."""
        return f"def {ENTRY_POINT}({self.parameter}):\n"

    def description(self) -> str:
        """What it does, in words."""
        sentence = ", then ".join(step.words() for step in self.steps)
        return sentence[0].upper() + sentence[1:] + "."


@dataclass(frozen=True, slots=True)
class Example:
    """An input and the result on it, as source text."""

    call: str
    result: str


def draw_input(program: Program, *, rng: random.Random, size: int) -> Any:
    """An input for `program` of about `size` items, near the bounds its steps compare with."""
    hints = tuple(
        value for step in program.steps for _, value in step.arguments if isinstance(value, int)
    )
    return SOURCES[program.source].draw(rng, size, hints)


def draw_example(program: Program, *, rng: random.Random) -> Example | None:
    """A short input that `program` accepts, with its result; None if a few draws found none."""
    run = program.function()
    for size in (3, 2, 4, 5):
        value = draw_input(program, rng=rng, size=size)
        try:
            result = run(value)
        except FAILURES:
            continue
        shown = shown_value(result)
        if len(shown) <= 90:
            return Example(f"{ENTRY_POINT}({value!r})", shown)
    return None


def shown_value(value: Any) -> str:
    """Source text of a result; a Counter reads as the dict it equals."""
    return repr(dict(value)) if isinstance(value, dict) else repr(value)


def complete_prompt(program: Program, example: Example) -> str:
    """Imports, signature and docstring, in BigCodeBench's layout."""
    source, (kind, returns) = SOURCES[program.source], RETURNS[program.gives]
    lines = [
        *program.imports(),
        "",
        "",
        program.signature().rstrip(),
        '    """',
        f"    {program.description()}",
        "",
        "    Args:",
        f"    - {program.parameter} ({source.type}): {source.description}",
        "",
        "    Returns:",
        f"    {kind}: {returns}",
        "",
        *(("    Requirements:", *(f"    - {m}" for m in program.modules()), "")
          if program.modules() else ()),
        "    Example:",
        f"    >>> {example.call}",
        f"    {example.result}",
        '    """',
    ]  # fmt: skip
    return "\n".join(lines).lstrip() + "\n"


def code_prompt(program: Program) -> str:
    """Imports and signature."""
    return "".join(line + "\n" for line in program.imports()) + program.signature()


def instruct_prompt(program: Program) -> str:
    """The task as a request in words."""
    kind, returns = RETURNS[program.gives]
    return (
        f"{program.description()}\nThe function should output with:\n    {kind}: {returns}\n"
        "You should write self-contained code starting with:\n"
        f"```\n{code_prompt(program)}```"
    )


def doc_struct(program: Program, example: Example) -> str:
    """The docstring's parts as a JSON object."""
    source, (kind, returns) = SOURCES[program.source], RETURNS[program.gives]
    return json.dumps(
        {
            "description": [program.description()],
            "notes": [],
            "params": [f"{program.parameter} ({source.type}): {source.description}"],
            "returns": [f"{kind}: {returns}"],
            "reqs": list(program.modules()),
            "raises": [],
            "examples": [f">>> {example.call}", example.result],
        }
    )
