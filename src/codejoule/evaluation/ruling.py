"""From what happened in the sandbox to a verdict."""

import re
import signal
from collections.abc import Mapping

from codejoule.domain import Status, Verdict
from codejoule.evaluation.expected import expected_failures
from codejoule.evaluation.sample import Sample
from codejoule.sandbox import Execution

_ALL = "ALL"
"""BigCodeBench's key for what concerns no single test."""

UNREACHED = "network"
"""Outcome of a test that failed and during which another host was called for."""

_NO_NETWORK = re.compile(
    r"Temporary failure in name resolution|Name or service not known|No address associated with "
    r"hostname|Network is unreachable|Could not resolve host|Failed to resolve '"
)
"""What the C library, requests and programs such as curl say where there is no network."""

_NO_DATA = re.compile(
    r"Resource .{0,80} not found\.\s+Please use the NLTK Downloader"
    r"|Looks like you are missing some required data for this feature"
    r"|\[E050\] Can't find model",
    re.DOTALL,
)
"""What NLTK, TextBlob and spaCy say where their data is not installed."""


def rule(sample: Sample, expected: frozenset[str], found: Execution) -> Verdict:
    """The verdict on `sample`. Only an authenticated result in which exactly the `expected`
    tests ran and passed, at least one, is a pass."""
    tests = _settled(sample.test, found.tests)
    status, reason, details = _decide(expected, found, tests)
    return Verdict(
        task_id=sample.task_id,
        sample=sample.sample,
        status=status,
        reason=reason,
        details={_printable(name): _printable(text) for name, text in details.items()},
        evaluation_s=found.wall_s,
        evaluation_cpu_s=found.cpu_s,
        memory_peak_bytes=found.memory_peak_bytes or None,
        tests={
            _printable(name): "fail" if outcome == UNREACHED else outcome
            for name, (outcome, _) in tests.items()
        },
    )


def _settled(test: str, found: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """A failure that is expected is a pass where the source of the tests says so, and a fail
    where only something in the process did."""
    known = expected_failures(test) if any(o == "xfail" for o, _ in found.values()) else ()
    return {
        name: (("pass" if name in known else "fail") if outcome == "xfail" else outcome, text)
        for name, (outcome, text) in found.items()
    }


def _printable(text: str) -> str:
    """Text of untrusted origin may hold lone surrogates, which no file can."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _decide(
    expected: frozenset[str], found: Execution, tests: Mapping[str, tuple[str, str]]
) -> tuple[Status, str, dict[str, str]]:
    if found.phase == "result":
        return _of_tests(expected, tests)
    if found.phase == "timeout":
        return Status.timeout, "timeout", {_ALL: "the time limit was reached"}
    if found.over_memory:
        return Status.failed, "memory", {_ALL: "the memory limit was reached"}
    if found.phase == "raised":
        outcome = UNREACHED if found.network else "fail"
        reason = "memory" if found.memory else _reason_for([(outcome, found.what)])
        return Status.failed, reason, {_ALL: found.what}
    reason, words = {
        "syntax": ("syntax", found.what),
        "tampered": ("tampered", f"changed what judges it: {found.what}"),
        "output": ("output", "wrote more output than the limit allows"),
        "too large": ("too large", found.what),
        "lost": ("crash", "the sandbox worker was lost on it, twice"),
    }.get(found.phase) or ("crash", _last_words(found))
    return Status.failed, reason, {_ALL: words}


def _of_tests(
    expected: frozenset[str], result: Mapping[str, tuple[str, str]]
) -> tuple[Status, str, dict[str, str]]:
    failed = {name: text for name, (outcome, text) in result.items() if outcome != "pass"}
    outcomes = {outcome for outcome, _ in result.values()}
    if not expected or not result:
        return Status.failed, "no tests run", {_ALL: "no tests ran: that is not a pass"}
    if "memory" in outcomes:
        return Status.failed, "memory", failed
    if outcomes & {"fail", UNREACHED}:
        failures = [(outcome, text) for outcome, text in result.values() if outcome != "pass"]
        return Status.failed, _reason_for(failures), failed
    if failed:
        skipped = {name: f"skipped: {text}" for name, text in failed.items()}
        return Status.failed, "skipped", skipped
    missing, extra = expected - result.keys(), result.keys() - expected
    if missing or extra:
        told = dict.fromkeys(sorted(missing), "did not run")
        told.update(dict.fromkeys(sorted(extra), "is not among the tests"))
        return Status.failed, "tampered", told
    return Status.passed, "pass", {}


def _reason_for(failures: list[tuple[str, str]]) -> str:
    """Why all of the `failures` (outcome and traceback) happened, where it is no fault of the
    program. Whoever fakes this gains nothing: it remains a fail."""
    if all(_NO_DATA.search(text) for _, text in failures):
        return "needs data"
    if all(
        outcome == UNREACHED or _NO_NETWORK.search(text) or _NO_DATA.search(text)
        for outcome, text in failures
    ):
        return "needs network"
    return "fail"


def _last_words(found: Execution) -> str:
    if found.exit is None:
        how = "its processes ended before their time"
    elif found.exit < 0:
        how = f"killed by {_signal_name(-found.exit)} before its tests were finished"
    else:
        how = f"ended with status {found.exit} before its tests were finished"
    tail = found.output_tail[-1000:].strip()
    return f"{how}\n{tail}" if tail else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
