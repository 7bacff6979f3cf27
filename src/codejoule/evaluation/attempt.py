"""One sample in one sandbox: the verdict by all its tests."""

import dataclasses
import re
import zlib

from codejoule.config import UserError
from codejoule.domain import EXPECTED_OUTPUT, Status, Verdict
from codejoule.domain.verdict import SHORT_OF_MEMORY
from codejoule.evaluation.expected import expected_test_ids
from codejoule.evaluation.ruling import rule
from codejoule.evaluation.sample import Sample
from codejoule.sandbox import Execution, Sandbox
from codejoule.sandbox.host_memory import HostMemory

NO_EXPECTED_OUTPUTS = "no expected outputs"
"""Reason where the canonical solution does not tell what the tests expect."""
KEPT_OUTPUT = "OUTPUT"
"""Key of what a sample printed, where its verdict keeps that."""

_FAILED = (Status.failed, Status.timeout)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """How samples are judged."""

    timeout_s: float
    """Time limit of a run of tests [s]."""
    memory: HostMemory
    """What this machine has for them."""

    def verdict_on(self, sample: Sample, sandbox: Sandbox) -> tuple[Verdict, str]:
        """The verdict on `sample`, and the end of what it printed. Further tests are run by
        themselves, under the same limits, where it passes the first. Raises UserError where the
        sandbox fails."""
        base, output = self._by(sample.test, sample, sandbox)
        if sample.keeps_output and base.status is Status.passed:
            base = dataclasses.replace(base, details={KEPT_OUTPUT: output})
        if not sample.plus_test:
            return base, output
        if base.status is not Status.passed:
            return dataclasses.replace(base, base=base.status), output
        plus, output = self._by(sample.plus_test, sample, sandbox)
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

    def _by(self, test: str, sample: Sample, sandbox: Sandbox) -> tuple[Verdict, str]:
        if EXPECTED_OUTPUT in test:
            outputs = sample.expected[sample.reference, test]
            if outputs is None:
                return _without_expected_outputs(sample), ""
            told = iter(outputs)
            test = re.sub(EXPECTED_OUTPUT, lambda _: next(told), test)
        kills_before = self.memory.kills()
        name = f"{sample.task_id}\0{sample.sample}"
        found = sandbox.run(
            sample.program,
            test,
            timeout_s=self.timeout_s,
            # A program that draws random numbers gets the same verdict from every worker.
            seed=zlib.crc32(name.encode("utf-8", "surrogatepass")),
            name=f"{sample.task_id} sample {sample.sample}",
            keeps_output=sample.keeps_output,
        )
        if found.phase == "stuck":
            raise UserError(f"the sandbox failed while judging {sample.task_id}: {found.what}")
        verdict = rule(dataclasses.replace(sample, test=test), expected_test_ids(test), found)
        killed = self.memory.kills() > kills_before
        if verdict.status in _FAILED and self._is_short_of_memory(verdict, found, sandbox, killed):
            verdict = _unjudged(verdict, sandbox)
        return verdict, found.output_tail

    def _is_short_of_memory(
        self, verdict: Verdict, found: Execution, sandbox: Sandbox, killed: bool
    ) -> bool:
        """Whether the machine's memory, rather than the sample's limit, may have ended it."""
        if found.over_memory:
            return False
        promised = self.memory.promised_bytes()
        refused = promised is not None and promised < sandbox.memory_bytes
        return found.phase == "evicted" or killed or (verdict.reason == "memory" and refused)


def _unjudged(verdict: Verdict, sandbox: Sandbox) -> Verdict:
    words = (
        "not judged: this machine, or its control group, had too little memory for it, and the "
        f"limit of {sandbox.memory_bytes / 2**20:.0f} MiB was not reached"
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
