"""What a model is asked to do."""

from dataclasses import dataclass

DOMAINS = (
    "Computation",
    "General",
    "Visualization",
    "System",
    "Time",
    "Network",
    "Cryptography",
)
"""The seven domains of BigCodeBench (Zhuo et al. 2024, table 1; thesis table 5.1)."""

EXPECTED_OUTPUT = "@expected@"
"""Stands in tests for each text that only a run of the canonical solution can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One programming task in BigCodeBench's schema."""

    task_id: str
    """Unique within its suite, e.g. ``BigCodeBench/13``."""
    complete_prompt: str
    """Imports, signature and docstring; the model continues it (split ``complete``)."""
    instruct_prompt: str
    """The same task as a request in words (split ``instruct``)."""
    canonical_solution: str
    """The body that, appended to ``complete_prompt``, passes the tests."""
    code_prompt: str
    """Imports and signature without the docstring; the evaluator calibrates with it. Schemas
    without that precedent have the helpers alone: a stub would answer for a missing function."""
    test: str
    """Source of a ``unittest`` module with a ``TestCases`` class."""
    entry_point: str
    """Name of the function that the tests call."""
    doc_struct: str
    """The docstring's parts as a JSON object (BigCodeBench's field)."""
    libs: tuple[str, ...]
    """Top-level modules the task uses."""
    domains: tuple[str, ...]
    """Members of `DOMAINS` that its imports belong to."""
    tested_names: tuple[str, ...] = ()
    """Names beside ``entry_point`` that the tests expect of the program, so that sanitizing
    keeps them; empty where the benchmark's own rule knows the entry point alone."""
    plus_test: str = ""
    """Source of a further module of the same form, with tests beyond the benchmark's own
    (EvalPlus); empty where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The tasks of one benchmark, as loaded."""

    name: str
    """Name of the suite, e.g. ``bigcodebench_hard``."""
    tasks: tuple[Task, ...]
    """The selected tasks, in the suite's order."""
    checksum: str
    """SHA-256 (hex) over the selected tasks' contents."""
    source: str
    """Where the tasks came from: a path, or ``hub:ID@COMMIT``."""
    max_new_tokens: int
    """The suite's own limit on new tokens per completion."""
    timeout_s: float
    """The suite's own time limit for the tests of one sample [s]."""
    stop: tuple[str, ...]
    """Stop strings of the benchmark that hold for every model."""
    stop_base: tuple[str, ...]
    """Further stop strings for base models."""
