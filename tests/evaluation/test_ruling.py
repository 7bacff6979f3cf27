"""From what happened to a verdict."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.domain import Status
from codejoule.evaluation.ruling import rule
from codejoule.sandbox import Execution
from tests.sandbox.conftest import make_sample

SAMPLE = make_sample("x")
EXPECTED = frozenset({"test_a", "test_b"})
COST: dict[str, Any] = {"wall_s": 1.5, "cpu_s": 0.5, "memory_peak_bytes": 4096}
OUTCOMES = st.sampled_from(["pass", "fail", "skip", "memory"])


def _result(outcomes: dict[str, str]) -> Execution:
    tests = {name: (outcome, "why") for name, outcome in outcomes.items()}
    return Execution(**COST, phase="result", tests=tests)


@given(
    st.dictionaries(st.sampled_from(["test_a", "test_b", "test_c"]), OUTCOMES),
    st.frozensets(st.sampled_from(["test_a", "test_b"])),
)
def test_only_exactly_the_expected_tests_all_passed_are_a_pass(
    outcomes: dict[str, str], expected: frozenset[str]
) -> None:
    verdict = rule(SAMPLE, expected, _result(outcomes))
    whole = bool(expected) and outcomes.keys() == expected
    assert (verdict.status is Status.passed) == (whole and set(outcomes.values()) == {"pass"})
    assert (verdict.reason == "pass") == (verdict.status is Status.passed)
    assert bool(verdict.details) == (verdict.status is not Status.passed)


def test_costs_are_carried_over() -> None:
    verdict = rule(SAMPLE, EXPECTED, _result({"test_a": "pass", "test_b": "pass"}))
    assert (verdict.evaluation_s, verdict.evaluation_cpu_s) == (1.5, 0.5)
    assert verdict.memory_peak_bytes == 4096


def test_memory_that_is_not_known_is_none() -> None:
    verdict = rule(SAMPLE, EXPECTED, Execution(phase="lost", wall_s=1.0, cpu_s=0.0))
    assert verdict.memory_peak_bytes is None
    assert verdict.details == {"ALL": "the sandbox worker was lost on it, twice"}


@pytest.mark.parametrize(
    ("report", "reason", "words"),
    [
        ({"phase": "timeout", "over_memory": True}, "timeout", "the time limit was reached"),
        ({"phase": "ended", "over_memory": True}, "memory", "the memory limit was reached"),
        ({"phase": "raised", "what": "Boom", "memory": False}, "fail", "Boom"),
        ({"phase": "raised", "what": "Boom", "memory": True}, "memory", "Boom"),
        ({"phase": "syntax", "what": "Boom"}, "syntax", "Boom"),
        ({"phase": "tampered", "what": "it"}, "tampered", "changed what judges it: it"),
        ({"phase": "output"}, "output", "wrote more output than the limit allows"),
        ({"phase": "ended", "exit": 3}, "crash", "ended with status 3 before"),
        ({"phase": "ended", "exit": -11}, "crash", "killed by SIGSEGV before"),
        ({"phase": "ended", "exit": -63}, "crash", "killed by signal 63 before"),
        ({"phase": "ended", "exit": None}, "crash", "its processes ended before their time"),
        ({"phase": "ended", "exit": 1, "output_tail": "last words\n"}, "crash", "last words"),
    ],
)
def test_what_happened_is_said(report: dict[str, Any], reason: str, words: str) -> None:
    verdict = rule(SAMPLE, EXPECTED, Execution(**COST, **report))
    assert verdict.reason == reason
    assert words in verdict.details["ALL"]
    assert verdict.status is (Status.timeout if reason == "timeout" else Status.failed)


@given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_can_be_written_to_a_file(text: str) -> None:
    verdict = rule(SAMPLE, EXPECTED, Execution(**COST, phase="raised", what=text))
    json.dumps(dict(verdict.details), ensure_ascii=False).encode("utf-8")
