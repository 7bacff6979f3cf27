"""Rows in HumanEval's schema (Chen et al. 2021)."""

import ast
import inspect

from codejoule.domain import Task, source_lines
from codejoule.suites.domains import domains_of, top_modules
from codejoule.suites.grammar import names_asked_of
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
    ``code_prompt`` keeps what stands in front of the function: some tests call helpers there that
    sanitizing drops, as the function itself does not use them."""
    prompt, entry_point = row.text("prompt"), row.text("entry_point")
    helpers, header, words = _split(row, prompt, entry_point)
    program = prompt + row.text("canonical_solution")
    return Task(
        task_id=row.task_id("HumanEval"),
        complete_prompt=prompt,
        instruct_prompt=(
            f"{words}\nYou should write self-contained code starting with:\n```\n{header}```"
        ),
        canonical_solution=row.text("canonical_solution"),
        code_prompt=helpers,
        test=row.text("test").strip("\n") + _TEST_CASES.format(entry_point=entry_point),
        entry_point=entry_point,
        doc_struct="{}",
        libs=top_modules(program),
        domains=domains_of(program),
        tested_names=names_asked_of(entry_point, row.text("test")),
    )


def _split(row: Row, prompt: str, entry_point: str) -> tuple[str, str, str]:
    """Text up to the function, text up to its body, and its docstring."""
    try:
        body = ast.parse(prompt + "\n    pass\n").body
    except (SyntaxError, ValueError) as error:
        raise row.fault(f"prompt does not parse ({error})") from error
    named = [n for n in body if isinstance(n, ast.FunctionDef) and n.name == entry_point]
    if not named:
        raise row.fault(f"prompt defines no function {entry_point}, which entry_point names")
    function, lines = named[-1], source_lines(prompt)
    start = min([function.lineno, *(node.lineno for node in function.decorator_list)])
    helpers, header = ("".join(lines[: line - 1]) for line in (start, function.body[0].lineno))
    return helpers, header, inspect.cleandoc(ast.get_docstring(function) or "")
