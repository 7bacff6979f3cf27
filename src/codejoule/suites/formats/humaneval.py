"""Rows in HumanEval's schema (Chen et al. 2021)."""

import ast
import inspect

from codejoule.domain import Task
from codejoule.suites.domains import domains_of, imported_modules
from codejoule.suites.rows import Row

COLUMNS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
# HumanEval-X repeats the examples of the prompt there.
OTHER_COLUMNS = ("example_test",)

_TEST_CASES = """

import unittest


class TestCases(unittest.TestCase):
    def test_check(self):
        check({entry_point})
"""


def convert(row: Row) -> Task:
    """The row as a task: ``check(candidate)`` becomes the one test of a `unittest` class.

    ``code_prompt`` keeps the helpers in front of the function: some tests call them, and
    sanitizing drops those that the function itself does not use.
    """
    prompt, entry_point = row.text("prompt"), row.text("entry_point")
    header, words = _split(row, prompt, entry_point)
    program = prompt + row.text("canonical_solution")
    return Task(
        task_id=row.text("task_id"),
        complete_prompt=prompt,
        instruct_prompt=(
            f"{words}\nYou should write self-contained code starting with:\n```\n{header}```"
        ),
        canonical_solution=row.text("canonical_solution"),
        code_prompt=header,
        test=row.text("test").strip("\n") + _TEST_CASES.format(entry_point=entry_point),
        entry_point=entry_point,
        doc_struct="{}",
        libs=imported_modules(program),
        domains=domains_of(program),
    )


def _split(row: Row, prompt: str, entry_point: str) -> tuple[str, str]:
    """Text up to the function's body, and its docstring."""
    try:
        body = ast.parse(prompt + "\n    pass\n").body
    except SyntaxError as error:
        raise row.fault(f"prompt does not parse ({error.msg}, line {error.lineno})") from error
    named = [n for n in body if isinstance(n, ast.FunctionDef) and n.name == entry_point]
    if not named:
        raise row.fault(f"prompt defines no function {entry_point}, which entry_point names")
    header = "".join(prompt.splitlines(keepends=True)[: named[-1].body[0].lineno - 1])
    return header, inspect.cleandoc(ast.get_docstring(named[-1]) or "")
