"""One sample before one worker: the verdict by all its tests."""

import dataclasses
import re
from typing import Any

from codejoule.config import UserError
from codejoule.domain import EXPECTED_OUTPUT, Status, Verdict
from codejoule.domain.verdict import SHORT_OF_MEMORY
from codejoule.evaluation.expected import expected_test_ids
from codejoule.evaluation.ruling import rule
from codejoule.evaluation.sample import Sample
from codejoule.sandbox.host_memory import Memory
from codejoule.sandbox.sandbox import Worker

NO_EXPECTED_OUTPUTS = "no expected outputs"
"""Reason where the canonical solution does not tell what the tests expect."""

_FAILED = (Status.failed, Status.timeout)


def try_sample(
    sample: Sample, worker: Worker, timeout_s: float, memory: Memory
) -> tuple[Verdict, str]:
    """The verdict on `sample`, and the end of what it printed. Further tests are run by
    themselves, under the same limits, where it passes the first. Raises UserError where the
    sandbox fails."""
    base, output = _try(sample, sample.test, worker, timeout_s, memory)
    if not sample.plus_test:
        return base, output
    if base.status is not Status.passed:
        return dataclasses.replace(base, base=base.status), output
    plus, output = _try(sample, sample.plus_test, worker, timeout_s, memory)
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


def _try(
    sample: Sample, test: str, worker: Worker, timeout_s: float, memory: Memory
) -> tuple[Verdict, str]:
    if EXPECTED_OUTPUT in test:
        outputs = sample.expected[sample.reference, test]
        if outputs is None:
            return _without_expected_outputs(sample), ""
        told = iter(outputs)
        test = re.sub(EXPECTED_OUTPUT, lambda _: next(told), test)
    sample = dataclasses.replace(sample, test=test)
    kills_before = memory.kills()
    report = worker.judge(sample, timeout_s)
    if report["phase"] == "stuck" or report.get("init_error"):
        words = report.get("init_error") or report.get("what")
        raise UserError(f"the sandbox failed while judging {sample.task_id}: {words}")
    verdict = rule(sample, expected_test_ids(test), report)
    if verdict.status in _FAILED and _short_of_memory(
        verdict, report, worker, memory, memory.kills() > kills_before
    ):
        verdict = _unjudged(verdict, worker)
    return verdict, str(report.get("output_tail", ""))


def _short_of_memory(
    verdict: Verdict, report: dict[str, Any], worker: Worker, memory: Memory, killed: bool
) -> bool:
    """Whether the machine's memory, rather than the sample's limit, may have ended it."""
    if report.get("over_memory"):
        return False
    promised = memory.promised_bytes()
    refused = promised is not None and promised < worker.memory_bytes
    return report["phase"] == "evicted" or killed or (verdict.reason == "memory" and refused)


def _unjudged(verdict: Verdict, worker: Worker) -> Verdict:
    words = (
        "not judged: this machine, or its control group, had too little memory for it, and the "
        f"limit of {worker.memory_bytes / 2**20:.0f} MiB was not reached"
    )
    return dataclasses.replace(
        verdict, status=Status.unjudged, reason=SHORT_OF_MEMORY, details={"ALL": words}, tests={}
    )


def _without_expected_outputs(sample: Sample) -> Verdict:
    return Verdict(
        task_id=sample.task_id,
        sample=sample.sample,
        status=Status.failed,
        reason=NO_EXPECTED_OUTPUTS,
        details={"ALL": "the canonical solution does not tell them within the limits"},
        evaluation_s=0.0,
        evaluation_cpu_s=0.0,
    )
