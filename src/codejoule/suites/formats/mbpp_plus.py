"""Rows of MBPP+ (Liu et al. 2023), as EvalPlus releases them and as the hub has them."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from codejoule.domain import Task
from codejoule.suites.domains import domains_of, top_modules
from codejoule.suites.evalplus import compare_with_reference, run_program
from codejoule.suites.formats import mbpp
from codejoule.suites.rows import Row

COLUMNS = ("task_id", "prompt")
# An assertion repeats the base inputs; a contract says which inputs are valid.
OTHER_COLUMNS = (
    *mbpp.COLUMNS, *mbpp.OTHER_COLUMNS, "test",
    "base_input", "plus_input", "atol", "contract", "assertion",
)  # fmt: skip

_RELEASE = (
    "task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol",
)  # fmt: skip
_HUB = (*mbpp.COLUMNS, "test")


def recognizes(row: Row) -> bool:
    """Whether `row` is of one of the two layouts."""
    return any(set(layout) <= row.values.keys() for layout in (_RELEASE, _HUB))


def convert(row: Row) -> Task:
    """The row as a task, whose tests are those of the base and of the plus inputs."""
    if "plus_input" in row.values:
        return _released(row)
    row.require(_HUB)
    task = mbpp.convert(row)
    # EvalPlus shows the first assertion alone.
    prompt = f'"""\n{row.text("prompt")}\n{row.texts("test_list")[0]}\n"""\n'
    imports = row.texts("test_imports") if "test_imports" in row.values else ()
    return dataclasses.replace(
        task,
        complete_prompt=prompt,
        instruct_prompt=_request(prompt, task.entry_point),
        plus_test=run_program("plus", "\n".join([*imports, row.text("test")])),
    )


def _released(row: Row) -> Task:
    row.require(_RELEASE)
    task_id, entry_point = row.task_id("Mbpp"), row.text("entry_point")
    prompt, code = row.text("prompt"), row.text("canonical_solution")
    base, plus = (
        compare_with_reference(
            part, entry_point, _arguments(task_id, row.inputs(f"{part}_input")),
            atol=row.number("atol"), benchmark="mbpp",
        )
        for part in ("base", "plus")
    )  # fmt: skip
    return Task(
        task_id=task_id,
        complete_prompt=prompt,
        instruct_prompt=_request(prompt, entry_point),
        canonical_solution=code,
        code_prompt="",
        test=base,
        plus_test=plus,
        entry_point=entry_point,
        doc_struct="{}",
        libs=top_modules(code),
        domains=domains_of(code),
    )


def _request(prompt: str, entry_point: str) -> str:
    words = prompt.strip().strip('"').strip()
    return f"{words}\nThe function must be named {entry_point}."


def _arguments(task_id: str, inputs: list[list[Any]]) -> list[list[Any]]:
    """The inputs as EvalPlus made them: JSON has no tuples, sets and complex numbers."""
    found = re.fullmatch(r"Mbpp/(\d+)", task_id)
    for turn, which, tasks in _TURNS:
        if found and int(found[1]) in tasks:
            inputs = [
                [turn(v) if which in (None, place) else v for place, v in enumerate(arguments)]
                for arguments in inputs
            ]
    return inputs


def _list_of_tuples(value: Any) -> list[Any]:
    return [tuple(item) for item in value]


def _tuple_throughout(value: Any) -> Any:
    return tuple(map(_tuple_throughout, value)) if isinstance(value, list) else value


_TURNS: tuple[tuple[Callable[[Any], Any], int | None, frozenset[int]], ...] = (
    (tuple, None, frozenset({
        2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630,
        726, 740, 744, 809,
    })),
    (tuple, 0, frozenset({250, 307, 405, 446, 617, 720, 763, 808})),
    (tuple, 1, frozenset({106, 750})),
    (_list_of_tuples, None, frozenset({
        63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780,
    })),
    (_list_of_tuples, 0, frozenset({75, 413, 444, 753})),
    (lambda v: tuple(tuple(i) if isinstance(i, list) else i for i in v), None, frozenset({
        259, 278, 401, 445,
    })),
    (_tuple_throughout, None, frozenset({580, 615, 791})),
    (lambda v: {key: tuple(i) for key, i in v.items()}, 0, frozenset({722})),
    # An empty one is a dict, as the literal {} is.
    (lambda v: [set(i) if isinstance(i, list) and i else {} for i in v], 0, frozenset({115})),
    (float, 0, frozenset({124})),
    (complex, 0, frozenset({252})),
    (complex, 1, frozenset({124})),
)  # fmt: skip
"""What becomes of which argument (None: of each) in which tasks."""
