"""What a model is asked to do, and what that implies for generating and judging."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
"""A placeholder in tests for each text that only a run of the canonical solution can give."""


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
    """Imports and signature without the docstring; the evaluator calibrates with it. Other
    schemas have the helpers alone, because a stub would hide a missing function."""
    test: str
    """Source of a ``unittest`` module with a ``TestCases`` class: what gives the verdict."""
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
    shown_test: str = ""
    """Source of a module of the same form with the tests that a model may be shown, which are then
    not in ``test`` (``suite.shown_tests``); empty where none are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteLimits:
    """Where generation ends, and how long tests may take, by a benchmark's schema."""

    max_new_tokens: int
    """Limit on new tokens per completion."""
    timeout_s: float
    """Time limit for all tests of one sample; for EvalPlus' formats once for the base and once
    for the further inputs [s]."""
    stop: tuple[str, ...]
    """Strings that end a completion, for every model."""
    stop_base: tuple[str, ...]
    """Further strings that end a completion of a base model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite(SuiteLimits):
    """The tasks of one benchmark, as loaded."""

    name: str
    """Name of the suite, e.g. ``bigcodebench_hard``."""
    tasks: tuple[Task, ...]
    """The selected tasks, in the suite's order."""
    checksum: str
    """SHA-256 (hex) over the selected tasks' contents."""
    source: str
    """Where the tasks came from: a path, or ``hub:ID@COMMIT``."""


_BIGCODEBENCH = SuiteLimits(
    max_new_tokens=1280,
    timeout_s=240.0,
    stop=("<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint("),
    stop_base=("\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert "),
)
_HUMANEVAL = replace(_BIGCODEBENCH, max_new_tokens=512, timeout_s=10.0)
# The model writes the signature itself, so that no `def` may end it.
_MBPP = replace(_HUMANEVAL, stop_base=('\n"""', "\nassert "))
_STARTER = SuiteLimits(
    max_new_tokens=160,
    timeout_s=10.0,
    stop=("\nif __name__", "\nprint("),
    # A base model would go on to the next program.
    stop_base=("\ndef ", "\nclass "),
)

_LIMITS_OF_FORMATS: Mapping[str, SuiteLimits] = {
    "bigcodebench": _BIGCODEBENCH,
    "humaneval": _HUMANEVAL,
    "humaneval_plus": replace(_HUMANEVAL, max_new_tokens=768, timeout_s=60.0),
    "mbpp": _MBPP,
    # One canonical solution (Mbpp/599) takes 40 s on an idle core.
    "mbpp_plus": replace(_MBPP, max_new_tokens=768, timeout_s=120.0),
}
"""By schema."""

LIMITS_OF_BUNDLED: Mapping[str, SuiteLimits] = {
    "starter": _STARTER,
    "starter_large": replace(_STARTER, max_new_tokens=200),
}
"""By name of the suite."""


def limits_of(schema: str, *, bundled: str | None) -> SuiteLimits:
    """Limits of the suite that ships as `bundled`, where there is one, else of rows in `schema`;
    a schema that has none of its own has BigCodeBench's."""
    own = LIMITS_OF_BUNDLED.get(bundled) if bundled else None
    return own or _LIMITS_OF_FORMATS.get(schema, _BIGCODEBENCH)
