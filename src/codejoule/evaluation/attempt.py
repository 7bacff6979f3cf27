"""One sample before one worker: the verdict by all its tests."""

import dataclasses
import re

from codejoule.config import UserError
from codejoule.domain import EXPECTED_OUTPUT, Status, Verdict
from codejoule.evaluation.expected import expected_test_ids
from codejoule.evaluation.ruling import rule
from codejoule.evaluation.sample import Sample
from codejoule.evaluation.worker import Worker

NO_EXPECTED_OUTPUTS = "no expected outputs"
"""Reason where the canonical solution does not tell what the tests expect."""


def try_sample(sample: Sample, worker: Worker, timeout_s: float) -> tuple[Verdict, str]:
    """The verdict on `sample`, and the end of what it printed. Further tests are run by
    themselves, under the same limits, where it passes the first."""
    base, output = _try(sample, sample.test, worker, timeout_s)
    if not sample.plus_test:
        return base, output
    if base.status is not Status.passed:
        return dataclasses.replace(base, base=base.status), output
    plus, output = _try(sample, sample.plus_test, worker, timeout_s)
    peaks = [v.memory_peak_bytes for v in (base, plus) if v.memory_peak_bytes is not None]
    both = dataclasses.replace(
        plus,
        base=base.status,
        reason=plus.reason if plus.status is Status.passed else f"plus {plus.reason}",
        evaluation_s=base.evaluation_s + plus.evaluation_s,
        evaluation_cpu_s=base.evaluation_cpu_s + plus.evaluation_cpu_s,
        memory_peak_bytes=max(peaks, default=None),
        tests={**base.tests, **plus.tests},
    )
    return both, output


def _try(sample: Sample, test: str, worker: Worker, timeout_s: float) -> tuple[Verdict, str]:
    if EXPECTED_OUTPUT in test:
        outputs = sample.expected[sample.reference, test]
        if outputs is None:
            return _unjudged(sample), ""
        told = iter(outputs)
        test = re.sub(EXPECTED_OUTPUT, lambda _: next(told), test)
    sample = dataclasses.replace(sample, test=test)
    report = worker.judge(sample, timeout_s)
    if report["phase"] == "stuck" or report.get("init_error"):
        words = report.get("init_error") or report.get("what")
        raise UserError(f"the sandbox failed while judging {sample.task_id}: {words}")
    verdict = rule(sample, expected_test_ids(test), report)
    return verdict, str(report.get("output_tail", ""))


def _unjudged(sample: Sample) -> Verdict:
    return Verdict(
        task_id=sample.task_id,
        sample=sample.sample,
        status=Status.failed,
        reason=NO_EXPECTED_OUTPUTS,
        details={"ALL": "the canonical solution does not tell them within the limits"},
        evaluation_s=0.0,
        evaluation_cpu_s=0.0,
    )
