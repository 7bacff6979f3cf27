"""Rows in MBPP's schema (Austin et al. 2021), sanitized or full."""

import ast
import textwrap
from collections import Counter

from codejoule.domain import Task
from codejoule.suites.domains import domains_of, imported_modules
from codejoule.suites.rows import Row

COLUMNS = ("task_id", "code", "test_list")
# MBPP itself judges without the challenge tests.
OTHER_COLUMNS = ("text", "prompt", "test_imports", "test_setup_code", "challenge_test_list")


def convert(row: Row) -> Task:
    """The row as a task, one test method per assertion.

    MBPP has no signature to start from: as elsewhere, the model gets the request and the
    assertions as a docstring and writes the whole function, so ``code_prompt`` is a stub.
    """
    code, asserts = row.text("code"), row.texts("test_list")
    entry_point = _entry_point(row, code, asserts)
    request = _request(row)
    prompt = '"""\n' + "\n".join([request, *asserts]) + '\n"""\n'
    return Task(
        task_id=f"Mbpp/{row.values['task_id']}",
        complete_prompt=prompt,
        instruct_prompt=(
            f"{request}\nThe function must be named {entry_point} and pass:\n"
            + "\n".join(["```", *asserts, "```"])
        ),
        canonical_solution=code,
        code_prompt=f"def {entry_point}(*args, **kwargs):\n",
        test=_test_cases(row, asserts),
        entry_point=entry_point,
        doc_struct="{}",
        libs=imported_modules(code),
        domains=domains_of(code),
    )


def _request(row: Row) -> str:
    """The sanitized set calls the request ``prompt``, the full one ``text``."""
    column = "text" if "text" in row.values else "prompt"
    row.require((column,))
    return row.text(column).strip()


def _entry_point(row: Row, code: str, asserts: tuple[str, ...]) -> str:
    """The function of `code` that most assertions call."""
    try:
        defined = {n.name for n in ast.parse(code).body if isinstance(n, ast.FunctionDef)}
        trees = [ast.parse(text) for text in asserts]
    except SyntaxError as error:
        raise row.fault(f"code or test_list does not parse ({error.msg})") from error
    called = Counter(
        name
        for tree in trees
        for name in dict.fromkeys(n.id for n in ast.walk(tree) if isinstance(n, ast.Name))
        if name in defined
    )
    if not called:
        raise row.fault("no assertion in test_list calls a function that code defines")
    return called.most_common(1)[0][0]


def _test_cases(row: Row, asserts: tuple[str, ...]) -> str:
    setup = "\n".join(row.texts("test_imports")) if "test_imports" in row.values else ""
    setup = row.text("test_setup_code") if "test_setup_code" in row.values else setup
    lines = [*setup.splitlines(), "import unittest", "", ""]
    lines += ["class TestCases(unittest.TestCase):"]
    for number, text in enumerate(asserts, 1):
        lines += [f"    def test_case_{number}(self):", textwrap.indent(text, " " * 8), ""]
    return "\n".join(lines)
