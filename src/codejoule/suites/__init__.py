"""Task sources: what models are asked, and how their answers become programs."""

from codejoule.suites.domains import domains_of
from codejoule.suites.load import load_suite, load_suite_named
from codejoule.suites.program_end import ProgramEnd
from codejoule.suites.prompts import build_prompt, raw_solution, solution_of, stops_for
from codejoule.suites.repair import MOST_OUTPUT, FailedProgram, told_by_tests
from codejoule.suites.sanitize import sanitize
from codejoule.suites.shown_tests import split_tests

__all__ = [
    "MOST_OUTPUT",
    "FailedProgram",
    "ProgramEnd",
    "build_prompt",
    "domains_of",
    "load_suite",
    "load_suite_named",
    "raw_solution",
    "sanitize",
    "solution_of",
    "split_tests",
    "stops_for",
    "told_by_tests",
]
