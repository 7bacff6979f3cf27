"""Rows in BigCodeBench's schema (v0.1.4), the one that `Task` mirrors."""

import ast

from codejoule.domain import Task
from codejoule.suites.domains import domains_of, top_modules
from codejoule.suites.rows import Row

COLUMNS = (
    "task_id",
    "complete_prompt",
    "instruct_prompt",
    "canonical_solution",
    "code_prompt",
    "test",
    "entry_point",
)
OTHER_COLUMNS = ("doc_struct", "libs")


def convert(row: Row) -> Task:
    """The row as it is; ``doc_struct`` may be missing, and ``libs`` too (then: the imports)."""
    program = row.text("complete_prompt") + "\n" + row.text("canonical_solution")
    return Task(
        task_id=row.task_id("BigCodeBench"),
        complete_prompt=row.text("complete_prompt"),
        instruct_prompt=row.text("instruct_prompt"),
        canonical_solution=row.text("canonical_solution"),
        code_prompt=row.text("code_prompt"),
        test=row.text("test"),
        entry_point=row.text("entry_point"),
        doc_struct=row.text("doc_struct") if "doc_struct" in row.values else "{}",
        libs=_libs(row) if "libs" in row.values else top_modules(program),
        domains=domains_of(program),
    )


def _libs(row: Row) -> tuple[str, ...]:
    """The hub's column holds the text of a Python list."""
    if not isinstance(row.values["libs"], str):
        return row.texts("libs")
    try:
        value = ast.literal_eval(row.text("libs"))
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise row.fault(f"libs must be a list of module names, not {row.text('libs')[:40]!r}")
    return tuple(value)
