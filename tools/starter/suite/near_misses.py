"""Programs that are almost right, and inputs that tell them from the right one."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tools.starter.suite.grammar import BY_KIND
from tools.starter.suite.operation import Step, draw_step
from tools.starter.suite.program import FAILURES, Program, draw_input

Case = tuple[Any, Any]
"""An input and the right result on it."""
EMPTY = ("[]", "''", "{}", "Counter()")
"""Results that say little of how they came about."""


def near_misses(program: Program) -> tuple[list[Program], list[Program]]:
    """Wrong programs that the tests must reject, and reorderings, some of which are right.

    The first list drops each step that can be dropped, replaces each step by every other
    operation between the same kinds, and changes each argument (numbers by one both ways);
    the second swaps neighbouring steps. New arguments depend on the program alone.
    """
    rng = random.Random(program.description())
    wrong, swapped = [], []
    for place, step in enumerate(program.steps):
        operation = step.operation
        if operation.takes == operation.gives and len(program.steps) > 1:
            wrong.append(_with(program, place))
        for other in BY_KIND[operation.takes]:
            if other.gives == operation.gives and other is not operation:
                wrong.append(_with(program, place, draw_step(other, rng=rng)))
        wrong += [_with(program, place, changed) for changed in _changed_arguments(step, rng=rng)]
        if place and len({_kind(s) for s in program.steps[place - 1 : place + 1]}) == 1:
            before = program.steps[place - 1]
            if operation.takes == operation.gives:
                steps = (*program.steps[: place - 1], step, before, *program.steps[place + 1 :])
                swapped.append(replace(program, steps=steps))
    return wrong, swapped


def _kind(step: Step) -> tuple[str, str]:
    return step.operation.takes, step.operation.gives


def _with(program: Program, place: int, *instead: Step) -> Program:
    return replace(program, steps=(*program.steps[:place], *instead, *program.steps[place + 1 :]))


def _changed_arguments(step: Step, *, rng: random.Random) -> list[Step]:
    changed = []
    for name, value in step.arguments:
        if isinstance(value, int):
            others: list[int | str] = [value - 1, value + 1]
        else:
            draws = (step.operation.parameters[name](rng) for _ in range(20))
            others = [next(other for other in draws if other != value)]
        for other in others:
            arguments = tuple((n, other if n == name else v) for n, v in step.arguments)
            changed.append(replace(step, arguments=arguments))
    return changed


def discriminating_inputs(
    program: Program, *, rng: random.Random, least: int = 3, most: int = 6
) -> list[Any] | None:
    """`least` to `most` inputs on which every near miss goes wrong somewhere.

    None if `program` refuses inputs, gives dull results, or a near miss cannot be told from
    it. A swap that agrees on 40 inputs is taken to be right.
    """
    cases = _cases(program, rng=rng, draws=12)
    if len(cases) < 9 or len({repr(result) for _, result in cases}) < 4:
        return None
    wrong, swapped = near_misses(program)
    if len(wrong) < 5:
        return None
    alive = [miss.function() for miss in wrong]
    chosen: list[Case] = []
    for case in cases:
        left = [other for other in alive if not differs(other, case)]
        if len(left) < len(alive) or (not alive and len(chosen) < least):
            chosen.append(case)
        alive = left
    swaps = [swap.function() for swap in swapped]
    swaps = [swap for swap in swaps if not any(differs(swap, case) for case in chosen)]
    if swaps:
        cases += _cases(program, rng=rng, draws=40)
    for swap in swaps:
        chosen += [case for case in cases if differs(swap, case)][:1]
    enough = not alive and least <= len(chosen) <= most
    return [value for value, _ in chosen] if enough else None


def _cases(program: Program, *, rng: random.Random, draws: int) -> list[Case]:
    """Inputs with their results; inputs that fail or give nothing are left out."""
    run, cases = program.function(), []
    for number in range(draws):
        value = draw_input(program, rng=rng, size=rng.randint(6, 12))
        try:
            result = run(value)
        except FAILURES:
            result = []
        shown = repr(result)
        if len(shown) <= 300 and shown not in EMPTY:
            cases.append((value, result))
        if number == 5 and len(cases) < 4:
            break
    return cases


def differs(function: Callable[[Any], Any], case: Case) -> bool:
    """Whether `function` gives another result than the case's, or none."""
    value, right = case
    try:
        result = function(value)
    except FAILURES:
        return True
    if isinstance(right, float):
        return not isinstance(result, int | float) or abs(result - right) > 1e-6
    return bool(result != right)
