"""The tests of a task in EvalPlus' formats, as a module with one `unittest` method."""

import ast
import importlib.resources
import re
from functools import cache

from codejoule.domain import EXPECTED_OUTPUT

_BY_REFERENCE = """\
import unittest

_rules = {{"__name__": "evalplus_rules"}}
exec(compile({rules!r}, "tests.py", "exec"), _rules)


class TestCases(unittest.TestCase):
    def test_{part}(self):
        raise NotImplementedError

    exec(compile({method!r}, "tests.py", "exec"))


del _rules
__import__("gc").collect()  # after which it lists no tuples of constants
"""
"""The method that runs the calls is kept as text: parsing a thousand calls wherever tests are
looked at would take longer than judging."""

_METHOD = """\
def test_{part}(
    self,
    _read=_rules["read"],
    _check=_rules["checker"](atol={atol!r}, rule={rule!r}),
):
    pass
"""
_CALL = """\
    _given = {given!r}
    _check({entry_point}(*_read(_given)), _given, "{expected}")
"""
"""An expected output is a constant of the code alone, and is taken from there after the call that
it is compared with: while the solution runs, no variable holds it."""

_BY_PROGRAM = """\
import unittest


class TestCases(unittest.TestCase):
    def test_{part}(self):
        {imports}
        exec(compile({program!r}, "tests.py", "exec"), {{**globals()}})
"""
"""The program's own names go into a copy of the module's, which the solution does not share."""

_CALLS = re.compile(r"^(?=    _given = )", re.MULTILINE)
_INPUTS = re.compile(r"^(?P<list> +inputs = \[.*\])\[:(?P<count>\d+)\]$", re.MULTILINE)
_RESULTS = re.compile(r"^ +results = \[.*\]$", re.MULTILINE)

_IMPORT = re.compile(r"^(?:import|from) +(\w+)", re.MULTILINE)


def compare_with_reference(
    part: str, entry_point: str, inputs: list[list[object]], *, atol: float, benchmark: str
) -> str:
    """Calls `entry_point` with each of `inputs`, and compares by the rules of `benchmark`
    (``humaneval`` or ``mbpp``) with the outputs of the canonical solution, for each of
    which `EXPECTED_OUTPUT` stands. `part` is ``base`` or ``plus``."""
    method = _METHOD.format(part=part, atol=atol, rule=f"{benchmark}.{entry_point}")
    method += "".join(
        _CALL.format(given=repr(given), entry_point=entry_point, expected=EXPECTED_OUTPUT)
        for given in inputs
    )
    return _BY_REFERENCE.format(rules=_rules(), part=part, method=method)


def run_program(part: str, program: str) -> str:
    """Runs `program`, which calls the solution and raises where it is wrong."""
    modules = ", ".join(sorted({"unittest", *_IMPORT.findall(program)}))
    return _BY_PROGRAM.format(part=part, program=program, imports=f"import {modules}")


def split_inputs(test: str, shown: int) -> tuple[str, str] | None:
    """The same tests with the first `shown` inputs and with the others; None where there are no
    more than those, or where `test` is of neither of the two forms above."""
    programs = [
        node.args[0].value
        for node in ast.walk(ast.parse(test if "exec(compile(" in test else ""))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "compile"
        and isinstance(node.args[0], ast.Constant)
    ]
    for program in programs:
        assert isinstance(program, str)
        parts = _split_calls(program, shown) or _split_lists(program, shown)
        if parts is not None:
            one, other = (test.replace(repr(program), repr(part)) for part in parts)
            return one, other
    return None


def _split_calls(program: str, shown: int) -> tuple[str, str] | None:
    head, *calls = _CALLS.split(program)
    if not head.startswith("def test_") or len(calls) <= shown:
        return None
    return head + "".join(calls[:shown]), head + "".join(calls[shown:])


def _split_lists(program: str, shown: int) -> tuple[str, str] | None:
    """Of a program with lists of inputs and results, of which the first so many count."""
    found = _INPUTS.search(program)
    if found is None or (count := int(found["count"])) <= shown:
        return None
    first = _INPUTS.sub(lambda inputs: f"{inputs['list']}[:{shown}]", program, count=1)
    others = _INPUTS.sub(lambda inputs: f"{inputs['list']}[{shown}:{count}]", program, count=1)
    return first, _RESULTS.sub(lambda results: f"{results[0]}[{shown}:]", others, count=1)


@cache
def _rules() -> str:
    file = importlib.resources.files("codejoule.suites") / "evalplus_rules.py"
    return file.read_text(encoding="utf-8")
