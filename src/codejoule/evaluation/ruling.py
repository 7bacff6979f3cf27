"""Turns what happened to one sample in one sandbox into its verdict."""

import dataclasses
import re
import signal
import zlib
from collections.abc import Mapping

from codejoule.config import UserError
from codejoule.domain import EXPECTED_OUTPUT, Status, Verdict
from codejoule.domain.verdict import SHORT_OF_MEMORY
from codejoule.evaluation.sample import Sample, expected_failures, expected_test_ids
from codejoule.sandbox import Execution, Sandbox
from codejoule.sandbox.host_memory import HostMemory

NO_EXPECTED_OUTPUTS = "no expected outputs"
"""Reason where the canonical solution does not tell what the tests expect."""
KEPT_OUTPUT = "OUTPUT"
"""Key of what a sample printed, where its verdict keeps that."""

_ALL = "ALL"
"""BigCodeBench's key for what concerns all tests together."""
_FAILED = (Status.failed, Status.timeout)

_NETWORK = "network"
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


def verdict_on(
    sample: Sample, sandbox: Sandbox, *, timeout_s: float, memory: HostMemory
) -> tuple[Verdict, str]:
    """The verdict on `sample`, and the end of what it printed. Each run of tests may take
    `timeout_s`; further tests are run by themselves, where the sample passes the first. Raises
    UserError where the sandbox fails."""
    base, output = _by(sample.test, sample, sandbox, timeout_s, memory)
    if sample.keeps_output and base.status is Status.passed:
        base = dataclasses.replace(base, details={KEPT_OUTPUT: output})
    if not sample.plus_test:
        return base, output
    if base.status is not Status.passed:
        return dataclasses.replace(base, base=base.status), output
    plus, output = _by(sample.plus_test, sample, sandbox, timeout_s, memory)
    peaks = [v.memory_peak_bytes for v in (base, plus) if v.memory_peak_bytes is not None]
    both = dataclasses.replace(
        plus,
        base=base.status,
        reason=f"plus {plus.reason}" if plus.status in _FAILED else plus.reason,
        evaluation_s=base.evaluation_s + plus.evaluation_s,
        evaluation_cpu_s=base.evaluation_cpu_s + plus.evaluation_cpu_s,
        memory_peak_bytes=max(peaks, default=None),
        tests={**base.tests, **plus.tests},
    )
    return both, output


def _by(
    test: str, sample: Sample, sandbox: Sandbox, timeout_s: float, memory: HostMemory
) -> tuple[Verdict, str]:
    if EXPECTED_OUTPUT in test:
        outputs = sample.expected[sample.reference, test]
        if outputs is None:
            words = "the canonical solution does not tell them within the limits"
            nothing = Execution(phase="no outputs", what=words, wall_s=0.0, cpu_s=0.0)
            return rule(sample, frozenset(), nothing), ""
        told = iter(outputs)
        test = re.sub(EXPECTED_OUTPUT, lambda _: next(told), test)
    kills_before = memory.kills()
    name = f"{sample.task_id}\0{sample.sample}"
    found = sandbox.run(
        sample.program,
        test,
        timeout_s=timeout_s,
        # A program that draws random numbers gets the same verdict from every worker.
        seed=zlib.crc32(name.encode("utf-8", "surrogatepass")),
        name=f"{sample.task_id} sample {sample.sample}",
        keeps_output=sample.keeps_output,
    )
    if found.phase == "stuck":
        raise UserError(f"the sandbox failed while judging {sample.task_id}: {found.what}")
    verdict = rule(dataclasses.replace(sample, test=test), expected_test_ids(test), found)
    killed = memory.kills() > kills_before
    if verdict.status not in _FAILED or found.over_memory:
        return verdict, found.output_tail
    promised = memory.promised_bytes()
    refused = promised is not None and promised < sandbox.memory_bytes
    if found.phase == "evicted" or killed or (verdict.reason == "memory" and refused):
        # The machine's memory ended it, or may have, and not the sample's limit.
        words = (
            "not judged: this machine, or its control group, had too little memory for it, and "
            f"the limit of {sandbox.memory_bytes / 2**20:.0f} MiB was not reached"
        )
        verdict = dataclasses.replace(
            verdict, status=Status.unjudged, reason=SHORT_OF_MEMORY, details={_ALL: words}, tests={}
        )
    return verdict, found.output_tail


def rule(sample: Sample, expected: frozenset[str], found: Execution) -> Verdict:
    """The verdict on `sample`. Only an authenticated result in which exactly the `expected`
    tests ran and passed, at least one, is a pass."""
    # A failure that is expected is a pass where the source of the tests says so, and a fail
    # where only something in the process did.
    is_expected = any(outcome == "xfail" for outcome, _ in found.tests.values())
    known = expected_failures(sample.test) if is_expected else ()
    tests = {
        name: (("pass" if name in known else "fail") if outcome == "xfail" else outcome, text)
        for name, (outcome, text) in found.tests.items()
    }
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
            _printable(name): "fail" if outcome == _NETWORK else outcome
            for name, (outcome, _) in tests.items()
        },
    )


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
        outcome = _NETWORK if found.network else "fail"
        reason = "memory" if found.memory else _reason_for([(outcome, found.what)])
        return Status.failed, reason, {_ALL: found.what}
    reason, words = {
        "syntax": ("syntax", found.what),
        "tampered": ("tampered", f"changed what judges it: {found.what}"),
        "output": ("output", "wrote more output than the limit allows"),
        "too large": ("too large", found.what),
        "no outputs": (NO_EXPECTED_OUTPUTS, found.what),
        "lost": ("crash", "the sandbox worker was lost on it, twice"),
    }.get(found.phase) or ("crash", _last_words(found))
    return Status.failed, reason, {_ALL: words}


def _of_tests(
    expected: frozenset[str], result: Mapping[str, tuple[str, str]]
) -> tuple[Status, str, dict[str, str]]:
    failures = {name: found for name, found in result.items() if found[0] != "pass"}
    failed = {name: text for name, (_, text) in failures.items()}
    outcomes = {outcome for outcome, _ in failures.values()}
    if not expected or not result:
        return Status.failed, "no tests run", {_ALL: "no tests ran: that is not a pass"}
    if "memory" in outcomes:
        return Status.failed, "memory", failed
    if outcomes & {"fail", _NETWORK}:
        return Status.failed, _reason_for(list(failures.values())), failed
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
        outcome == _NETWORK or _NO_NETWORK.search(text) or _NO_DATA.search(text)
        for outcome, text in failures
    ):
        return "needs network"
    return "fail"


def _last_words(found: Execution) -> str:
    if found.exit is None:
        how = "its processes ended before their time"
    elif found.exit < 0:
        names = {number.value: number.name for number in signal.Signals}
        name = names.get(-found.exit, f"signal {-found.exit}")
        how = f"killed by {name} before its tests were finished"
    else:
        how = f"ended with status {found.exit} before its tests were finished"
    tail = found.output_tail[-1000:].strip()
    return f"{how}\n{tail}" if tail else how
