"""From what happened in the sandbox to a verdict."""

import re
import signal
from typing import Any

from codejoule.domain import Status, Verdict
from codejoule.evaluation.expected import expected_failures
from codejoule.evaluation.sample import Sample

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


def rule(sample: Sample, expected: frozenset[str], report: dict[str, Any]) -> Verdict:
    """The verdict on `sample`. Only an authenticated result in which exactly the `expected`
    tests ran and passed, at least one, is a pass."""
    if report["phase"] == "result":
        report = report | {"result": _settled(sample.test, report["result"])}
    status, reason, details = _decide(expected, report)
    peak = report.get("memory_peak_bytes")
    return Verdict(
        task_id=sample.task_id,
        sample=sample.sample,
        status=status,
        reason=reason,
        details={_printable(name): _printable(text) for name, text in details.items()},
        evaluation_s=float(report["wall_s"]),
        evaluation_cpu_s=float(report["cpu_s"]),
        memory_peak_bytes=int(peak) if peak else None,
        tests=_outcomes(report),
        evaluation_cpu_source=report.get("cpu_source"),
        memory_source=report.get("memory_source") if peak else None,
    )


def _settled(test: str, result: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """A failure that is expected is a pass where the source of the tests says so, and a fail
    where only something in the process did."""
    known = expected_failures(test) if any(o == "xfail" for o, _ in result.values()) else ()
    return {
        name: (("pass" if name in known else "fail"), text) if outcome == "xfail"
        else (outcome, text)
        for name, (outcome, text) in result.items()
    }  # fmt: skip


def _outcomes(report: dict[str, Any]) -> dict[str, str]:
    result = report["result"] if report["phase"] == "result" else {}
    return {
        _printable(name): "fail" if outcome == UNREACHED else outcome
        for name, (outcome, _) in result.items()
    }


def _printable(text: str) -> str:
    """Text of untrusted origin may hold lone surrogates, which no file can."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _decide(expected: frozenset[str], report: dict[str, Any]) -> tuple[Status, str, dict[str, str]]:
    phase, what = report["phase"], report.get("what", "")
    if phase == "result":
        return _of_tests(expected, report["result"])
    if phase == "timeout":
        return Status.timeout, "timeout", {_ALL: "the time limit was reached"}
    if report.get("over_memory"):
        return Status.failed, "memory", {_ALL: "the memory limit was reached"}
    if phase == "raised":
        outcome = UNREACHED if report.get("network") else "fail"
        reason = "memory" if report.get("memory") else _reason_for([(outcome, what)])
        return Status.failed, reason, {_ALL: what}
    if phase == "syntax":
        return Status.failed, "syntax", {_ALL: what}
    if phase == "tampered":
        return Status.failed, "tampered", {_ALL: f"changed what judges it: {what}"}
    if phase == "output":
        return Status.failed, "output", {_ALL: "wrote more output than the limit allows"}
    if phase == "too large":
        return Status.failed, "too large", {_ALL: what}
    if phase == "lost":
        return Status.failed, "crash", {_ALL: "the sandbox worker was lost on it, twice"}
    return Status.failed, "crash", {_ALL: _last_words(report)}


def _of_tests(
    expected: frozenset[str], result: dict[str, Any]
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


def _last_words(report: dict[str, Any]) -> str:
    code = report.get("exit")
    if report.get("init_error") or report["phase"] == "stuck":
        how = f"the sandbox could not be set up: {report.get('init_error') or report.get('what')}"
    elif code is None:
        how = "its processes ended before their time"
    elif code < 0:
        how = f"killed by {_signal_name(-code)} before its tests were finished"
    else:
        how = f"ended with status {code} before its tests were finished"
    tail = str(report.get("output_tail", ""))[-1000:].strip()
    return f"{how}\n{tail}" if tail else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
