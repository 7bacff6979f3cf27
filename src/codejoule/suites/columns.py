"""Columns that a schema does not read, though they may hold what decides a verdict."""

import re

from codejoule.suites.formats import Format, recognize
from codejoule.suites.rows import Row

_TESTS = re.compile(
    r"tests?|testcases?|asserts?|assertions?|inputs?|outputs?|expected|oracle|checker|check|setup"
    r"|contract"
)
"""Words in the names of columns that hold tests, or parts of them."""

_BOUNDS = re.compile(r"[ar]?tol|tolerance|timeout|time_?limit|memory_?limit|limits?")
"""Words in the names of columns that hold a bound: there a number counts, too."""


def refuse_unread(row: Row, file_format: Format) -> None:
    """Raise `ConfigError` for a column that `file_format` does not read, if its name is that of
    tests, tolerances or limits and its cell is not empty: without it verdicts would be others.

    Columns of other names are the user's own, and so is a mere number under a test's name
    (``test_count``), and a name that begins with an underscore.
    """
    read = {*file_format.columns, *file_format.other_columns}
    for column, value in row.values.items():
        if column not in read and value and _decides(column, value):
            raise row.fault(f"column {column} {_advice(row, column, file_format)}")


def _decides(column: str, value: object) -> bool:
    if column.startswith("_"):
        return False
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column).lower()
    words = re.split(r"[^a-z0-9]+", name)
    holds_tests = isinstance(value, str | list | dict) and any(map(_TESTS.fullmatch, words))
    return holds_tests or any(map(_BOUNDS.fullmatch, [*words, name]))


def _advice(row: Row, column: str, file_format: Format) -> str:
    better = recognize(row).name
    if better != file_format.name:
        return f"is not read by suite.format={file_format.name}; suite.format={better} reads it"
    return (
        f"may hold what decides a verdict, and suite.format={file_format.name} does not read it: "
        f"put its tests where that schema has them, or, if no verdict depends on it, call it "
        f"_{column} or leave it out"
    )
