"""The outcome of each test method."""

# ruff: noqa: N802 (the interface of unittest's own results)
import unittest
from collections.abc import Sequence
from typing import Any

from .messages import tell_failure
from .snapshot import TESTS_FILE

_JUDGING_METHODS = frozenset(
    name
    for name in dir(unittest.TestCase)
    if name.startswith(("assert", "fail", "run", "_callTest", "skipTest", "subTest"))
)
_STEPS_OF_A_TEST = type(vars(unittest.case)["_Outcome"](None))


class Outcomes(unittest.TestResult):
    """Collects, per test method, ``pass``, ``fail``, ``network``, ``memory``, ``skip`` or
    ``xfail`` (failed where that is expected) with its text. A failure stays one, whatever is
    reported of the same method later, and is told through the descriptor `failures` at once;
    it is ``network`` if meanwhile `calls`, the attempts to reach another host, grew."""

    def __init__(self, calls: Sequence[str] = (), failures: int | None = None) -> None:
        super().__init__()
        self._failures = failures
        self._calls = calls
        self._calls_before = len(calls)
        self.outcomes: dict[str, tuple[str, str]] = {}
        self._rebound: str | None = None

    def tampering(self) -> str | None:
        """An assertion or a method of this collector that an instance itself carries: only
        code that walked the stack can have put it there."""
        methods = [name for name in vars(self) if callable(getattr(type(self), name, None))]
        return self._rebound or next((f"TestResult.{name}" for name in methods), None)

    def _note(self, test: Any, outcome: str, text: str = "") -> None:
        name = str(getattr(test, "_testMethodName", None) or test.id())
        if self.outcomes.get(name, ("pass", ""))[0] == "pass":
            self.outcomes[name] = (outcome, text)
        if outcome not in ("pass", "xfail") and self._failures is not None:
            tell_failure(self._failures, name)

    def _text_of(self, err: Any, test: Any) -> str:
        try:
            return str(self._exc_info_to_string(err, test))  # type: ignore[attr-defined]
        except BaseException:
            return str(err[0].__name__)

    def startTest(self, test: Any) -> None:
        # What is called from here on is this test's.
        self._calls_before = len(self._calls)
        self._class = type(test)

    def stopTest(self, test: Any) -> None:
        """Look whether the solution has reached the instance that tests it."""
        for name in vars(test):
            if name in _JUDGING_METHODS:
                self._rebound = f"TestCases.{name}"
        if type(test) is not self._class:
            self._rebound = "TestCases"
        for kind, function in vars(test).get("_type_equality_funcs", {}).items():
            code = getattr(function, "__code__", None)
            if not isinstance(function, str) and code is not None:
                file = code.co_filename
                if file != TESTS_FILE and not file.startswith("/"):
                    self._rebound = f"the comparison of {kind.__name__}"

    def addSuccess(self, test: Any) -> None:
        # Passed, unless something that walked the stack has told unittest to swallow.
        steps = test._outcome
        if (
            type(steps) is not _STEPS_OF_A_TEST
            or "testPartExecutor" in vars(steps)
            or steps.expectedFailure is not None
            or not steps.success
        ):
            self._rebound = "the outcome of a test"
        self._note(test, "pass")

    def addError(self, test: Any, err: Any) -> None:
        called = len(self._calls) > self._calls_before
        outcome = "network" if called else "fail"
        if issubclass(err[0], MemoryError):
            outcome = "memory"
        self._note(test, outcome, self._text_of(err, test))

    def addFailure(self, test: Any, err: Any) -> None:
        self.addError(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        # A subtest that passed does not decide yet.
        if err is not None:
            self.addError(test, err)

    def addSkip(self, test: Any, reason: str) -> None:
        self._note(test, "skip", str(reason))

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        # The host knows whether the tests expect it.
        self._note(test, "xfail", self._text_of(err, test))

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._note(test, "fail", "passed, though marked as an expected failure")
