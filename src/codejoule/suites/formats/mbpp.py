"""Rows in MBPP's schema (Austin et al. 2021), sanitized or full."""

import ast
from collections import Counter

from codejoule.domain import Task, join_sources, source_lines
from codejoule.suites.domains import domains_of, top_modules
from codejoule.suites.grammar import names_asked_of, parse
from codejoule.suites.rows import Row

COLUMNS = ("task_id", "code", "test_list")
# MBPP itself judges without the challenge tests.
OTHER_COLUMNS = ("text", "prompt", "test_imports", "test_setup_code", "challenge_test_list")


def convert(row: Row) -> Task:
    """The row as a task, one test method per assertion. MBPP has no signature to start from: as
    elsewhere, the model gets the request and the assertions as a docstring and writes the whole
    function, so ``code_prompt`` is empty."""
    code, asserts = row.text("code"), row.texts("test_list")
    entry_point = _entry_point(row, code, asserts)
    test = _test_cases(row, asserts)
    complete_prompt, instruct_prompt = prompts(row, len(asserts))
    return Task(
        task_id=row.task_id("Mbpp"),
        complete_prompt=complete_prompt,
        instruct_prompt=instruct_prompt,
        canonical_solution=code,
        code_prompt="",
        test=test,
        entry_point=entry_point,
        doc_struct="{}",
        libs=top_modules(code),
        domains=domains_of(code),
        tested_names=names_asked_of(entry_point, test),
    )


def prompts(row: Row, shown: int) -> tuple[str, str]:
    """The prompts of both splits, with the first `shown` assertions alone."""
    request, asserts = _request(row), row.texts("test_list")
    entry_point = _entry_point(row, row.text("code"), asserts)
    words = f"{request}\nThe function must be named {entry_point} and pass:\n"
    return (
        _docstring("\n".join([request, *asserts[:shown]])),
        words + "\n".join(["```", *asserts[:shown], "```"]),
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
    except (SyntaxError, ValueError) as error:
        raise row.fault(f"code or test_list does not parse ({error})") from error
    called = Counter(
        name
        for tree in trees
        for name in dict.fromkeys(n.id for n in ast.walk(tree) if isinstance(n, ast.Name))
        if name in defined
    )
    if not called:
        raise row.fault("no assertion in test_list calls a function that code defines")
    return called.most_common(1)[0][0]


def _docstring(text: str) -> str:
    """`text` between triple quotes, with escapes where it could not stand there otherwise."""
    plain = f'"""\n{text}\n"""\n'
    try:
        parse(plain)  # fails on what an assertion may say and a docstring not, such as r"\x"
        if '"""' not in text:
            return plain
    except SyntaxError:
        pass
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\n{escaped}\n"""\n'


def _test_cases(row: Row, asserts: tuple[str, ...]) -> str:
    imports = row.texts("test_imports") if "test_imports" in row.values else ()
    setup = row.text("test_setup_code") if "test_setup_code" in row.values else ""
    lines = ["import unittest", "", "", "class TestCases(unittest.TestCase):"]
    for number, text in enumerate(asserts, 1):
        lines += [f"    def test_case_{number}(self):", _indented(text), ""]
    return join_sources((*imports, setup, "\n".join(lines)))


def _indented(statements: str) -> str:
    """The statements as the body of a method; what a string holds is not indented with them."""
    inside = {
        line
        for node in ast.walk(ast.parse(statements))
        if isinstance(node, ast.JoinedStr | ast.Constant) and node.end_lineno is not None
        for line in range(node.lineno + 1, node.end_lineno + 1)
    }
    return "".join(
        line if number in inside else f"        {line}"
        for number, line in enumerate(source_lines(statements), 1)
    )
