import ast
import inspect
import statistics
import string
import textwrap
import tokenize
import types

import pytest

from codejoule.suites.program_end import Nesting


def open_after(text: str) -> bool:
    nesting = Nesting()
    for line in text.split("\n"):
        nesting.take(line)
    return nesting.is_open


@pytest.mark.parametrize("module", [statistics, string, textwrap, tokenize, ast, inspect])
def test_real_modules_are_open_just_inside_their_simple_statements(
    module: types.ModuleType,
) -> None:
    check_open_inside_simple_statements(inspect.getsource(module))


def test_compound_statements_of_every_kind_are_told_from_simple_ones() -> None:
    check_open_inside_simple_statements(
        "match x:\n    case [1,\n        2]:\n        y = (1,\n            2)\n"
        "try:\n    z = 1\nexcept* E:\n    pass\nwith a as b:\n    del c\n"
    )


def check_open_inside_simple_statements(source: str) -> None:
    nesting, open_before = Nesting(), []
    for line in source.split("\n"):
        open_before.append(nesting.is_open)
        nesting.take(line)
    inside, begins = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            begins.add(node.lineno)
            blocks = (ast.stmt, ast.match_case, ast.ExceptHandler)
            if not any(isinstance(child, blocks) for child in ast.iter_child_nodes(node)):
                assert node.end_lineno is not None
                inside |= set(range(node.lineno + 1, node.end_lineno + 1))
    assert inside, "the module has statements of several lines"
    assert {n for n in inside if not open_before[n - 1]} == set()
    assert {n for n in begins if open_before[n - 1]} == set()


@pytest.mark.parametrize(
    "text",
    [
        'x = """',
        'x = """ \' # "" \\"""',
        "x = '''\n\"\"\"",
        "x = (1,",
        "x = [{",
        "x = 1 + \\",
        "x = 'a\\",
        'f(r"""\\',
    ],
)
def test_what_is_open_is_open(text: str) -> None:
    assert open_after(text)


@pytest.mark.parametrize(
    "text",
    [
        'x = """a"""',
        "x = '(' # ([{ '''",
        "x = {(1, [2])}",
        "x = 'it\\'s'",
        "# a comment with a backslash \\",
        "it's prose with one quote",
        "x = ''",
        'x = """\n# not a comment"""',
        "x = 'a\\\nb'",
        ")))",
    ],
)
def test_what_is_closed_is_closed(text: str) -> None:
    assert not open_after(text)
