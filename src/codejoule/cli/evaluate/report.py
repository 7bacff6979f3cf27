"""What an evaluation found, for people and as JSON."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from codejoule.common.lazily import Lazily
from codejoule.config.schema import EvaluatorConfig, EvaluatorIsolation
from codejoule.domain import Status, Suite, Verdict, pass_at_1_interval, to_json
from codejoule.domain.verdict import SHORT_OF_MEMORY
from codejoule.evaluation import (
    NO_EXPECTED_OUTPUTS,
    GroundTruth,
    VerdictAgreement,
    pass_rates,
)
from codejoule.sandbox import SandboxFacts

NOT_AN_ANSWER = ("needs network", "needs data", NO_EXPECTED_OUTPUTS)
"""Reasons that say something of this machine, and nothing of the sample."""
_BASE_TESTS, _ALL_TESTS = "base tests", "base and plus tests"
_MOST_NAMES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteFacts:
    """What a report tells of a suite."""

    name: str
    """Its name."""
    source: str
    """Where its tasks come from."""
    checksum: str
    """SHA-256 of its tasks."""
    tasks: int
    """How many it has."""

    @classmethod
    def of(cls, suite: Suite) -> Self:
        """Those of `suite`."""
        return cls(
            name=suite.name, source=suite.source, checksum=suite.checksum, tasks=len(suite.tasks)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One evaluation of submitted samples."""

    suite: SuiteFacts
    """The tasks."""
    verdicts: Sequence[Verdict]
    """One per sample."""
    kept: int
    """How many of them are from an earlier evaluation."""
    wall_s: float
    """Wall time of judging the others [s]."""
    timeout_s: float
    """Time limit per sample [s]."""
    config: EvaluatorConfig
    """The evaluator's settings."""
    environment: Mapping[str, Any]
    """What ran the samples, by `environment_facts`."""
    sandbox: SandboxFacts | None
    """What isolated the samples that were judged now; None where all were kept."""
    truth: GroundTruth | None
    """What is known of the judged tasks' canonical solutions; None where not all of it."""
    agreement: VerdictAgreement | None
    """Comparison with another evaluation, where one was asked for."""

    def text(self) -> str:
        """A line each for what matters."""
        tasks, kinds = Counter(v.task_id for v in self.verdicts), self._by_tests()
        lines = [line for name, verdicts in kinds.items() for line in _rates(verdicts, name)]
        lines = lines or ["pass@1    unknown: no sample could be judged"]
        lines += self._whole_suite(tasks)
        if self.truth is not None:
            for name, verdicts in kinds.items():
                lines += _rates(verdicts, name, among=self.truth.valid, of=len(tasks))
        passed = " and ".join(
            f"{_passed(verdicts)} passed{name and f' the {name}'}"
            for name, verdicts in kinds.items()
        )
        lines.append(
            f"samples   {len(self.verdicts)}, of which {passed}; "
            f"{len(tasks)} of the suite's {self.suite.tasks} tasks"
        )
        if unjudged := self._tasks_with(SHORT_OF_MEMORY):
            lines.append(
                f"unjudged  {_names(unjudged)}: samples of these are in no rate, for this machine "
                "or its control group has too little memory for them; start the same command "
                "where there is more, or set --memory-mib to a limit that can be had here"
            )
        reasons = Counter(v.reason for v in self.verdicts)
        lines.append("reasons   " + ", ".join(f"{n} {c}" for n, c in reasons.most_common()))
        for reason in NOT_AN_ANSWER:
            if ids := self._tasks_with(reason):
                lines.append(f"apart     {reason}: {_names(ids)}: no wrong answers")
        if self.config.isolation is EvaluatorIsolation.process:
            lines.append(
                "isolation process: samples shared this machine's file system, processes and users"
            )
        if self.agreement is not None:
            lines += _agreement_lines(self.agreement)
        cpu_s = sum(v.evaluation_cpu_s for v in self.verdicts)
        kept = f"; {self.kept} kept from an earlier evaluation" if self.kept else ""
        lines.append(f"time      {self.wall_s:.1f} s wall, {cpu_s:.1f} s CPU{kept}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; what is not known is absent."""
        tasks = {v.task_id for v in self.verdicts}
        content: dict[str, Any] = {
            "suite": self.suite.name,
            "source": self.suite.source,
            "checksum": self.suite.checksum,
            "suite_tasks": self.suite.tasks,
            "tasks": len(tasks),
            "samples": len(self.verdicts),
            "samples_unjudged": sum(v.status is Status.unjudged for v in self.verdicts),
            "reasons": dict(Counter(v.reason for v in self.verdicts).most_common()),
        }
        for reason in NOT_AN_ANSWER:
            if ids := self._tasks_with(reason):
                content[reason.replace(" ", "_")] = ids
        if self.truth is not None:
            content["tasks_valid"] = len(self.truth.valid & tasks)
        for name, verdicts in self._by_tests().items():
            plus = "_plus" if name == _ALL_TESTS else ""
            content[f"samples_passed{plus}"] = _passed(verdicts)
            content[f"pass_at_k{plus}"] = pass_rates(verdicts)
            if content[f"pass_at_k{plus}"]:
                content[f"pass_at_1{plus}_ci"] = list(_interval(verdicts))
            if self.truth is not None:
                rates = pass_rates(verdicts, among=self.truth.valid)
                content[f"pass_at_k{plus}_valid"] = rates
        if self.agreement is not None:
            content["agreement"] = {
                "compared": self.agreement.compared,
                "agreeing": self.agreement.compared - len(self.agreement.differing),
                "differing": [
                    [ours.task_id, ours.sample, ours.status.value, theirs.status.value]
                    for ours, theirs in self.agreement.differing
                ],
            }
        content |= {
            "timeout_s": self.timeout_s,
            "memory_bytes": self.config.memory_bytes,
            "isolation": self.config.isolation.value,
            "kept": self.kept,
            "wall_s": self.wall_s,
            "cpu_s": sum(v.evaluation_cpu_s for v in self.verdicts),
        }
        if self.sandbox is not None:
            content["sandbox"] = to_json(self.sandbox)
        return content | {"environment": dict(self.environment)}

    def _by_tests(self) -> dict[str, Sequence[Verdict]]:
        """The verdicts, and where there are further tests those by the base tests before them."""
        if all(v.base is None for v in self.verdicts):
            return {"": self.verdicts}
        return {_BASE_TESTS: self._by_base_tests(), _ALL_TESTS: self.verdicts}

    def _by_base_tests(self) -> Sequence[Verdict]:
        return Lazily(len(self.verdicts), lambda place: self.verdicts[place].of_base_tests())

    def _tasks_with(self, reason: str) -> list[str]:
        found = (v for v in self.verdicts if v.reason.removeprefix("plus ") == reason)
        return list(dict.fromkeys(v.task_id for v in found))

    def _whole_suite(self, tasks: Mapping[str, int]) -> list[str]:
        """What a file that holds a part only says of the whole."""
        lines = []
        missing = self.suite.tasks - len(tasks)
        by_base_tests = self._by_base_tests()
        rates = pass_rates(by_base_tests)
        if missing and rates:
            first, rate = next(iter(rates.items()))
            judged = {v.task_id for v in by_base_tests if v.status is not Status.unjudged}
            least = rate * len(judged) / self.suite.tasks
            lines.append(
                f"partial   over the {len(tasks)} tasks that have samples; {missing} of the "
                f"suite's {self.suite.tasks} have none (pass@{first} over all is at least "
                f"{least:.4f})"
            )
        fewest, most = min(tasks.values()), max(tasks.values())
        if fewest < most:
            lines.append(f"uneven    {fewest} to {most} samples per task: k up to {fewest} only")
        return lines


def _passed(verdicts: Sequence[Verdict]) -> int:
    return sum(v.status is Status.passed for v in verdicts)


def _rates(
    verdicts: Sequence[Verdict], tests: str, *, among: Collection[str] | None = None, of: int = 0
) -> list[str]:
    chosen = verdicts if among is None else [v for v in verdicts if v.task_id in among]
    rates = pass_rates(chosen)
    note = f"  {tests}" if tests else ""
    if among is not None:
        valid = len({v.task_id for v in chosen})
        note += f"  over the {valid} of {of} tasks that are valid here"
        if not rates:
            return [f"valid     none of the {of} tasks: no canonical solution passes here"]
    if not rates:
        return []
    lines = [f"{f'pass@{k}':<9} {rate:.4f}{note}" for k, rate in rates.items()]
    low, high = _interval(chosen)
    lines[0] += f"  (95 % interval {low:.4f} to {high:.4f})"
    return lines


def _interval(verdicts: Sequence[Verdict]) -> tuple[float, float]:
    by_task: dict[str, list[bool]] = {}
    for verdict in verdicts:
        if verdict.status is not Status.unjudged:
            by_task.setdefault(verdict.task_id, []).append(verdict.status is Status.passed)
    return pass_at_1_interval(list(by_task.values()), rng=np.random.default_rng(0))


def _agreement_lines(agreement: VerdictAgreement) -> list[str]:
    if not agreement.compared:
        return ["agreement the other file has none of these samples"]
    agreeing = agreement.compared - len(agreement.differing)
    lines = [
        f"agreement {agreement.rate:.4f} ({agreeing} of {agreement.compared} samples pass or fail "
        "in both)"
    ]
    return lines + [
        f"differ    {ours.task_id} sample {ours.sample}: {ours.reason} here, "
        f"{theirs.reason or theirs.status.value} there"
        for ours, theirs in agreement.differing
    ]


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown


def truth_text(truth: GroundTruth, *, suite: Suite) -> str:
    """What is to be said of the canonical solutions."""
    lines = [
        f"ground truth {truth.pass_rate:.4f}: {len(truth.valid)} of {len(truth.verdicts)} "
        f"canonical solutions of {suite.name} pass here"
    ]
    for reason, ids in truth.failed_by_reason.items():
        lines.append(f"{reason:<13} {len(ids)}: {', '.join(ids)}")
    return "\n".join(lines)
