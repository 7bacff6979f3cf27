"""Rows of HumanEval+ (Liu et al. 2023), as EvalPlus releases them and as the hub has them."""

import dataclasses
import re

from codejoule.domain import Task
from codejoule.suites.evalplus import compare_with_reference, run_program
from codejoule.suites.formats import humaneval
from codejoule.suites.rows import Row

COLUMNS = ("task_id", "prompt", "canonical_solution", "entry_point")
# The release repeats HumanEval's own tests in `test`; a contract says which inputs are valid.
OTHER_COLUMNS = ("test", "base_input", "plus_input", "atol", "contract")

_RELEASE = (*COLUMNS, "base_input", "plus_input", "atol")
_HUB = (*COLUMNS, "test")

_ROOT_OF_POLYNOMIAL = ("_poly(*candidate(*inp), inp)", "abs(_poly(*inp, candidate(*inp)))")
"""What the hub's row of HumanEval/32 asks, which no right solution passes; what EvalPlus asks."""

_INPUTS = re.compile(r"^ +inputs = \[.*\]$", re.MULTILINE)

_BASE_INPUTS = (
    7, 4, 3, 6, 3, 3, 3, 4, 5, 4, 5, 3, 3, 4, 3, 3, 5, 5, 4, 5, 5, 5, 3, 3, 5, 8, 3, 3, 3, 2, 4,
    12, 99, 7, 1, 2, 8, 3, 100, 10, 9, 5, 3, 9, 12, 3, 4, 5, 7, 7, 100, 7, 6, 105, 7, 5, 12, 8, 4,
    5, 5, 12, 5, 7, 7, 5, 8, 7, 8, 25, 9, 9, 6, 8, 9, 4, 10, 9, 7, 4, 8, 6, 16, 5, 5, 4, 7, 6, 7,
    8, 6, 6, 10, 5, 9, 7, 10, 8, 7, 5, 5, 6, 8, 12, 4, 5, 4, 8, 8, 5, 7, 7, 9, 3, 12, 5, 7, 7, 13,
    12, 11, 7, 5, 4, 16, 8, 13, 8, 8, 10, 10, 7, 14, 12, 10, 5, 11, 8, 8, 4, 5, 26, 11, 7, 12, 6,
    7, 4, 7, 7, 10, 7, 4, 9, 6, 8, 14, 11, 10, 6, 3, 8, 4, 4,
)  # fmt: skip
"""How many different inputs HumanEval itself has for each task. The hub's rows have them first,
and do not say where they end."""


def recognizes(row: Row) -> bool:
    """Whether `row` is of one of the two layouts. MBPP+ is released with the same columns, but
    its prompts begin no function."""
    if set(_RELEASE) <= row.values.keys():
        return f"def {row.values['entry_point']}" in str(row.values["prompt"])
    return set(_HUB) <= row.values.keys() and _base_inputs(row) is not None


def convert(row: Row) -> Task:
    """HumanEval's task, whose tests are those of the base and of the plus inputs."""
    if "plus_input" in row.values:
        return _released(row)
    row.require(_HUB)
    count = _base_inputs(row)
    if count is None:
        raise row.fault(
            "test does not tell which of its inputs are HumanEval's own; give them as base_input "
            "and plus_input, or choose suite.format=humaneval, whose pass@1 is over all of them"
        )
    task = humaneval.convert(row)
    test = row.text("test").replace(*_ROOT_OF_POLYNOMIAL)
    plus = f"{test}\n\ncheck({task.entry_point})\n"
    base = _INPUTS.sub(lambda found: f"{found[0]}[:{count}]", plus, count=1)
    return dataclasses.replace(
        task, test=run_program("base", base), plus_test=run_program("plus", plus)
    )


def _released(row: Row) -> Task:
    row.require(_RELEASE)
    task = humaneval.convert(Row(where=row.where, values={**row.values, "test": ""}))
    base, plus = (
        compare_with_reference(
            part, task.entry_point, row.inputs(f"{part}_input"),
            atol=row.number("atol"), benchmark="humaneval",
        )
        for part in ("base", "plus")
    )  # fmt: skip
    return dataclasses.replace(task, test=base, plus_test=plus)


def _base_inputs(row: Row) -> int | None:
    """How many inputs of the hub's `row` are HumanEval's own; None where that is not known."""
    found = re.fullmatch(r"HumanEval/(\d+)", row.task_id("HumanEval"))
    test = row.values["test"]
    number = int(found[1]) if found else len(_BASE_INPUTS)
    shaped = isinstance(test, str) and _INPUTS.search(test)
    return _BASE_INPUTS[number] if shaped and number < len(_BASE_INPUTS) else None
