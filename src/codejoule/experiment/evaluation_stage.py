"""The stage that judges: every sample without a verdict goes through the sandbox."""

import logging
import socket
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from codejoule.common.lazily import Lazily
from codejoule.config.schema import EvaluatorConfig, EvaluatorName, EvaluatorSpread, MeterConfig
from codejoule.domain import (
    EnergySource,
    JudgedSample,
    Status,
    Task,
    Verdict,
    to_json,
)
from codejoule.evaluation import (
    GroundTruth,
    Progress,
    Sample,
    cached_ground_truth,
    check_ground_truth,
    judge_each,
    with_expected_outputs,
)
from codejoule.experiment import stopping
from codejoule.experiment.plan import Plan
from codejoule.experiment.programs import samples_of
from codejoule.experiment.records import read_judgement
from codejoule.experiment.rounds import Round, each_round
from codejoule.experiment.shares import by_number, in_order
from codejoule.experiment.verdicts import Key
from codejoule.measurement import (
    Hardware,
    Meter,
    Work,
    at_work,
    detect_hardware,
    metered_packages,
    open_cpu_meter,
    share_evaluation_energy,
)
from codejoule.tracking import Journal
from codejoule.tracking.entries import Batch, Judged, SandboxSetUp, ShownJudged

_LOGGER = logging.getLogger(__name__)

_SLICE_S = 1.0
"""Shortest window of measured energy [s]: a counter must tick within it. A killed run judges
again what came within its last slice, and with an estimate nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the samples of a run are judged with."""

    name: str
    """Name of the run."""
    tasks: tuple[Task, ...]
    """The tasks of its suite."""
    evaluator: EvaluatorConfig
    """How they are judged."""
    meter: MeterConfig
    """How the energy of judging is measured."""
    timeout_s: float
    """Time that each sample has [s]."""

    @classmethod
    def of(cls, plan: Plan, *, name: str) -> Self:
        """That of a run which is judged where it was planned."""
        return cls(
            name=name,
            tasks=plan.suite.tasks,
            evaluator=plan.experiment.evaluator,
            meter=plan.experiment.meter,
            timeout_s=plan.timeout_s,
        )

    @contextmanager
    def at_work(self, hardware: Hardware | None = None) -> Iterator[Hardware]:
        """Announce this process as judging, with the counters of this machine reserved."""
        here = hardware or detect_hardware()
        with at_work(
            self.name,
            Work.evaluation,
            devices=metered_packages(self.meter, here),
            on_metered_device=self.meter.on_metered_device,
        ):
            yield here


def evaluate(plan: Plan, folder: Path, *, name: str) -> None:
    """Judge the completions of the journal in `folder` that have no verdict, those of each round.
    Raises as `judge_missing` does."""
    bench = Bench.of(plan, name=name)
    with Journal(folder) as journal:
        for each in each_round(plan, journal):
            judge_missing(_samples(each), each.journal, bench, hardware=plan.hardware)
        check_canonical(bench, hardware=plan.hardware)


def judged_by_shown_tests(each: Round) -> bool:
    """Whether all programs of a round have a verdict by the shown tests."""
    return not _not_judged_by_shown_tests(each)


def judge_by_shown_tests(each: Round) -> None:
    """Judge the programs of a round by the shown tests, where they have no such verdict. One that
    could not be judged, for want of memory, is not known to fail. Raises as `judge_missing`
    does."""
    samples = _not_judged_by_shown_tests(each)
    if not samples:
        return
    bench = Bench.of(each.plan, name=f"{each.plan.experiment.model.name}, shown tests")

    def keep(entry: Judged | SandboxSetUp) -> None:
        if isinstance(entry, Judged):
            facts = {own.name: getattr(entry, own.name) for own in fields(entry)}
            entry = ShownJudged(**facts)
        each.journal.append(entry)

    _judge(samples, keep, bench, each.plan.hardware)


def _not_judged_by_shown_tests(each: Round) -> Sequence[Sample]:
    verdicts = read_judgement(each.journal, ShownJudged).verdicts
    return _without(_samples(each, shown=True), verdicts.__contains__)


def _samples(each: Round, *, shown: bool = False) -> Sequence[Sample]:
    answers = in_order(by_number(each.journal.entries(Batch)))
    return samples_of(each.plan, answers, each.journal.path.parent, shown=shown)


def _without(samples: Sequence[Sample], is_judged: Callable[[Key], bool]) -> Sequence[Sample]:
    """Those of `samples` that are not judged."""
    left = array(
        "q",
        (place for place, one in enumerate(samples) if not is_judged((one.task_id, one.sample))),
    )
    return Lazily(len(left), lambda number: samples[left[number]])


def judge_missing(
    samples: Sequence[Sample], journal: Journal, bench: Bench, *, hardware: Hardware | None = None
) -> None:
    """Judge the `samples` that `journal` has no verdict of, and append verdicts as they come.
    Raises `UserError` where no sandbox can be had."""
    verdicts = read_judgement(journal).verdicts

    def is_judged(key: Key) -> bool:
        verdict = verdicts.get(key)
        return verdict is not None and verdict.status is not Status.unjudged

    missing = _without(samples, is_judged)
    if missing:
        _judge(missing, journal.append, bench, hardware)


def check_canonical(bench: Bench, *, hardware: Hardware | None = None) -> None:
    """Check the ground truth where the configuration asks for it. Raises as `judge_missing`
    does."""
    if bench.evaluator.ground_truth:
        progress = Progress(len(bench.tasks), what="canonical solutions")
        with bench.at_work(hardware):
            check_ground_truth(
                bench.tasks,
                config=bench.evaluator,
                timeout_s=bench.timeout_s,
                on_kept=progress.keep,
                on_verdict=progress.add,
            )


def _judge(
    samples: Sequence[Sample],
    keep: Callable[[Judged | SandboxSetUp], None],
    bench: Bench,
    hardware: Hardware | None,
) -> None:
    if any(sample.reference for sample in samples):
        # Before a meter counts: asking the canonical solutions is not judging these samples.
        with bench.at_work(hardware):
            samples = with_expected_outputs(
                samples, config=bench.evaluator, timeout_s=bench.timeout_s
            )
    progress = Progress(len(samples))
    unjudged = 0

    def note(verdict: Verdict) -> None:
        nonlocal unjudged
        unjudged += verdict.status is Status.unjudged
        progress.add(verdict)
        stopping.check()

    if bench.evaluator.spread is EvaluatorSpread.here:
        judge_here(samples, bench, hardware=hardware, keep=keep, on_verdict=note)
    else:
        # Not from the top: it judges by this module on each node.
        from codejoule.experiment.spread import judge_on_ray

        judge_on_ray(samples, bench, keep=keep, on_verdict=note)
    if unjudged:
        _LOGGER.warning(
            "%d of %d samples could not be judged, for the machine or its control group (a "
            "batch job's, a container's) has too little memory for them: the run has no pass@1. "
            "Judge them where there is more (`codejoule evaluate --run ID`), or set "
            "evaluator.memory_bytes to a limit that can be had here",
            unjudged, len(samples),
        )  # fmt: skip


def judge_here(
    samples: Sequence[Sample],
    bench: Bench,
    *,
    hardware: Hardware | None = None,
    keep: Callable[[Judged | SandboxSetUp], None],
    on_verdict: Callable[[Verdict], None] = lambda _: None,
) -> None:
    """Judge `samples` on this machine and meter it: `keep` is given what isolates them, and then
    the verdicts as they come, each slice of time with its energy. Raises as `judge` does."""
    watts_per_core = bench.meter.cpu_watts_per_core
    with (
        bench.at_work(hardware) as here,
        open_cpu_meter(bench.meter) as meter,
        _Slices(keep, meter, watts_per_core=watts_per_core, cpu=here.cpu_model) as slices,
    ):

        def note(_: int, verdict: Verdict) -> None:
            with stopping.finishing():
                slices.add(verdict)
            on_verdict(verdict)

        judge_each(
            samples,
            config=bench.evaluator,
            timeout_s=bench.timeout_s,
            on_start=lambda facts: keep(SandboxSetUp(to_json(facts))),
            on_verdict=note,
        )


class _Slices:
    """Keeps verdicts as they come, each slice of time with its energy. After a request to stop,
    what the last slice holds is kept, too, once it is long enough."""

    def __init__(
        self,
        keep: Callable[[Judged], None],
        meter: Meter,
        *,
        watts_per_core: float,
        cpu: str | None,
    ) -> None:
        self._keep = keep
        self._meter = meter
        self._cpu = cpu
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
        self._keep(
            Judged(
                source=source,
                verdicts=tuple(JudgedSample.of(verdict, energy_j) for verdict, energy_j in pairs),
                concurrent=self._window.reading.concurrent,
                host=socket.gethostname(),
                cpu=self._cpu,
            )
        )
        self._verdicts = []


def known_ground_truth(bench: Bench) -> GroundTruth | None:
    """What is known of the run's tasks in its environment; None where not all of it is, or
    the configuration does not want it."""
    config = bench.evaluator
    if config.name is EvaluatorName.none or config.ground_truth is False:
        return None
    return cached_ground_truth(bench.tasks, config=config, timeout_s=bench.timeout_s)
