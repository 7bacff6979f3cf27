"""The stage that judges: every sample without a verdict goes through the sandbox."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from codejoule.config.schema import EvaluatorName
from codejoule.domain import (
    Completion,
    EnergySource,
    JudgedSample,
    Status,
    Verdict,
    to_json,
)
from codejoule.evaluation import (
    GroundTruth,
    Progress,
    Sample,
    cached_ground_truth,
    check_ground_truth,
    judge,
    with_expected_outputs,
)
from codejoule.experiment import stopping
from codejoule.experiment.plan import Plan
from codejoule.experiment.shares import in_order
from codejoule.measurement import Meter, open_cpu_meter, share_evaluation_energy
from codejoule.suites import solution_of
from codejoule.tracking import Journal
from codejoule.tracking.entries import Batch, Judged, SandboxSetUp

_LOGGER = logging.getLogger(__name__)

_SLICE_S = 1.0
"""Shortest window of measured energy [s]: a counter must tick within it. A killed run judges
again what came within its last slice, and with an estimate nothing."""


def evaluate(plan: Plan, folder: Path) -> None:
    """Judge the journal's completions in `folder`, append verdicts as they come, and check the
    ground truth where the configuration asks for it. Raises `UserError` where no sandbox can be
    had."""
    with Journal(folder) as journal:
        judged = {
            (verdict.task_id, verdict.sample)
            for entry in journal.entries(Judged)
            for verdict in entry.verdicts
            if verdict.status is not Status.unjudged
        }
        samples = [
            sample
            for sample in _samples(plan, journal.entries(Batch))
            if (sample.task_id, sample.sample) not in judged
        ]
        if samples:
            _judge(plan, journal, samples)
    if plan.experiment.evaluator.ground_truth:
        progress = Progress(len(plan.suite.tasks), what="canonical solutions")
        check_ground_truth(
            plan.suite.tasks,
            config=plan.experiment.evaluator,
            timeout_s=plan.timeout_s,
            on_kept=progress.keep,
            on_verdict=progress.add,
        )


def _judge(plan: Plan, journal: Journal, samples: Sequence[Sample]) -> None:
    evaluator, limit_s = plan.experiment.evaluator, plan.timeout_s
    # Before the meter counts: asking the canonical solutions is not judging these samples.
    samples = with_expected_outputs(samples, config=evaluator, timeout_s=limit_s)
    progress = Progress(len(samples))
    watts_per_core = plan.experiment.meter.cpu_watts_per_core
    with (
        open_cpu_meter(plan.experiment.meter) as meter,
        _Slices(journal, meter, watts_per_core=watts_per_core) as slices,
    ):

        def note(verdict: Verdict) -> None:
            with stopping.finishing():
                slices.add(verdict)
            progress.add(verdict)
            stopping.check()

        verdicts = judge(
            samples,
            config=evaluator,
            timeout_s=limit_s,
            on_start=lambda facts: journal.append(SandboxSetUp(to_json(facts))),
            on_verdict=note,
        )
    unjudged = sum(verdict.status is Status.unjudged for verdict in verdicts)
    if unjudged:
        _LOGGER.warning(
            "%d of %d samples could not be judged, for this machine or its control group (a "
            "batch job's, a container's) has too little memory for them: the run has no pass@1. "
            "Judge its samples.jsonl with `codejoule evaluate` where there is more, or set "
            "evaluator.memory_bytes to a limit that can be had here",
            unjudged, len(samples),
        )  # fmt: skip


class _Slices:
    """Journals verdicts as they come, each slice of time with its energy. After a request to stop,
    what the last slice holds is kept, too, once it is long enough."""

    def __init__(self, journal: Journal, meter: Meter, *, watts_per_core: float) -> None:
        self._journal = journal
        self._meter = meter
        self._watts_per_core = watts_per_core
        self._verdicts: list[Verdict] = []
        self._stack = ExitStack()

    def __enter__(self) -> "_Slices":
        self._open()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, stopping.Stopped) and self._verdicts:
            if self._measured:
                time.sleep(max(0.0, self._since_s + _SLICE_S - time.monotonic()))
            self._settle()
        elif error is None:
            self._settle()
        else:
            self._stack.__exit__(kind, error, traceback)

    def add(self, verdict: Verdict) -> None:
        """Take a verdict; on return it is on disk, unless its slice is still too short."""
        self._verdicts.append(verdict)
        if not self._measured or time.monotonic() - self._since_s >= _SLICE_S:
            self._settle()
            self._open()

    @property
    def _measured(self) -> bool:
        return self._meter.source is not EnergySource.estimate

    def _open(self) -> None:
        self._since_s = time.monotonic()
        self._window = self._stack.enter_context(self._meter.window("evaluation"))

    def _settle(self) -> None:
        self._stack.close()
        if not self._verdicts:
            return
        energies_j, source = share_evaluation_energy(
            self._window.reading,
            [verdict.evaluation_cpu_s for verdict in self._verdicts],
            watts_per_core=self._watts_per_core,
        )
        pairs = zip(self._verdicts, energies_j, strict=True)
        self._journal.append(
            Judged(
                source=source,
                verdicts=tuple(JudgedSample.of(verdict, energy_j) for verdict, energy_j in pairs),
                concurrent=self._window.reading.concurrent,
            )
        )
        self._verdicts = []


def known_ground_truth(plan: Plan) -> GroundTruth | None:
    """What is known of the run's tasks in its environment; None where not all of it is, or
    the configuration does not want it."""
    config = plan.experiment.evaluator
    if config.name is EvaluatorName.none or config.ground_truth is False:
        return None
    return cached_ground_truth(plan.suite.tasks, config=config, timeout_s=plan.timeout_s)


def programs(plan: Plan, batches: Sequence[Batch]) -> list[tuple[Completion, str, str]]:
    """Each completion with its raw and its sanitized program, in the order of the requests."""
    tasks, split, variant = plan.tasks, plan.experiment.suite.split, plan.variant
    return [
        (c, *solution_of(tasks[c.task_id], c, split=split, variant=variant))
        for _, _, c in in_order(batches)
    ]


def _samples(plan: Plan, batches: Sequence[Batch]) -> list[Sample]:
    tasks = plan.tasks
    return [
        Sample.of(tasks[completion.task_id], solution, sample=completion.sample)
        for completion, _, solution in programs(plan, batches)
    ]
