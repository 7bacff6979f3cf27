"""A run's stages beside the jobs of others: known to them, and off their devices."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.config.schema import EvaluatorConfig, MeterConfig, OnMeteredDevice, Stage
from codejoule.domain import EnergyScope, EnergySource, Status, Verdict
from codejoule.experiment import assignment, evaluation_stage
from codejoule.experiment import run as run_module
from codejoule.experiment.evaluation_stage import Bench, _Slices
from codejoule.experiment.records import read_results
from codejoule.experiment.run import RunFailedError, _execute
from codejoule.measurement import Meter, Work, at_work, jobs
from codejoule.measurement.counter import CumulativeCounter
from codejoule.tracking import Journal, Lease
from codejoule.tracking.entries import EngineSetUp, Loaded, MeterFacts


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """What is done inside is done by a process that is no relative of this one."""
    own, jobs._lineage = jobs._lineage, lambda: ("1@elsewhere",)
    try:
        yield
    finally:
        jobs._lineage = own


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(jobs.PLACE, str(tmp_path))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Work, tuple[str, ...]]]:
    """What others see of each stage, whose work itself is left out."""
    with as_somebody_else():
        others = jobs.OtherJobs()
    found: list[tuple[str, Work, tuple[str, ...]]] = []

    def look(*_: object) -> tuple[dict[str, float], EnergySource]:
        found.extend((job.name, job.work, job.devices) for job in others.since(time.time()))
        return {}, EnergySource.estimate

    def evaluate(plan: Any, _: object, *, name: str) -> None:
        bench = Bench(
            name=name, tasks=(), evaluator=EvaluatorConfig(), meter=plan.meter, timeout_s=1.0
        )
        with bench.at_work(plan.hardware):
            look()

    for stage in ("generate_isolated", "log_results"):
        monkeypatch.setattr(run_module, stage, look)
    monkeypatch.setattr(run_module, "evaluate", evaluate)
    monkeypatch.setattr(run_module, "has_generated", lambda plan, folder: False)
    monkeypatch.setattr(run_module, "run_name", lambda experiment: "mine")
    monkeypatch.setattr(assignment, "packages_of_generation", lambda *_, **__: ())
    monkeypatch.setattr(evaluation_stage, "metered_packages", lambda *_: ("rapl-package-0",))
    return found


class Tracked:
    run_id = "1"

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.status = ""

    def log(self, *, tags: dict[str, str]) -> None:
        self.tags |= tags

    def finish(self, status: str) -> None:
        self.status = status


class Plan:
    """As much of one as the order of the stages depends on."""

    def __init__(self, on_metered_device: OnMeteredDevice = OnMeteredDevice.error) -> None:
        self.experiment: Any = self
        self.evaluator: Any = self
        self.name, self.stage = "sandbox", Stage.all
        self.meter = MeterConfig(on_metered_device=on_metered_device)
        self.training = None
        self.hardware, self.gpus = SimpleNamespace(gpus=[SimpleNamespace(uuid="GPU-1")]), (0,)
        self.isolated = False


def test_each_stage_is_known_with_its_devices(
    seen: list[tuple[str, Work, tuple[str, ...]]], tmp_path: Path
) -> None:
    with Lease(tmp_path, lease_s=60, wait=False) as lease:
        _execute(Plan(), tmp_path, Tracked(), lease)  # type: ignore[arg-type]
    assert seen == [
        ("mine", Work.generation, ("GPU-1",)),
        ("mine", Work.evaluation, ("rapl-package-0",)),
    ], "logging the results is no work that distorts"


def test_a_run_that_has_generated_waits_for_no_gpu(
    seen: list[tuple[str, Work, tuple[str, ...]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "has_generated", lambda plan, folder: True)
    with as_somebody_else():
        theirs = at_work("theirs", Work.generation, devices=["GPU-1"])
        theirs.__enter__()
    with Lease(tmp_path, lease_s=60, wait=False) as lease:
        _execute(Plan(), tmp_path, Tracked(), lease)  # type: ignore[arg-type]
    theirs.__exit__(None, None, None)
    assert [work for name, work, _ in seen if name == "mine"] == [Work.evaluation]


@pytest.mark.parametrize(
    ("device", "stages"), [("GPU-1", []), ("rapl-package-0", [Work.generation]), ("GPU-2", None)]
)
def test_a_run_stops_before_a_stage_whose_device_is_metered(
    device: str,
    stages: list[Work] | None,
    seen: list[tuple[str, Work, tuple[str, ...]]],
    tmp_path: Path,
) -> None:
    tracked = Tracked()
    with as_somebody_else():
        theirs = at_work("theirs", Work.generation, devices=[device])
        theirs.__enter__()
    try:
        with Lease(tmp_path, lease_s=60, wait=False) as lease:
            _execute(Plan(), tmp_path, tracked, lease)  # type: ignore[arg-type]
    except RunFailedError:
        assert f"{device} is being metered by theirs (process 1" in tracked.tags["codejoule.error"]
        assert (tracked.status, [work for _, work, _ in seen]) == ("FAILED", stages)
    else:
        assert (tracked.status, stages) == ("FINISHED", None)
    finally:
        theirs.__exit__(None, None, None)


def test_who_worked_while_samples_were_judged_is_in_the_journal(tmp_path: Path) -> None:
    counter = CumulativeCounter(
        lambda: {"cpu": time.process_time()}, source=EnergySource.estimate, scope=EnergyScope.cpu
    )
    verdict = Verdict(
        task_id="t/1", sample=0, status=Status.passed, reason="pass", evaluation_s=1.0,
        evaluation_cpu_s=1.0,
    )  # fmt: skip
    with (
        Journal(tmp_path / "journal") as journal,
        Meter(counter, sample_period_s=60, idle_s=0, others=jobs.OtherJobs()) as meter,
        _Slices(journal.append, meter, watts_per_core=1.0, cpu=None) as slices,
    ):
        slices.add(verdict)
        with as_somebody_else():
            theirs = at_work("theirs", Work.evaluation)
            theirs.__enter__()
        theirs.__exit__(None, None, None)
        slices.add(verdict)
        meter_facts = MeterFacts(source=meter.source, scope=meter.scope, devices=meter.devices)
        journal.append(Loaded(reading=None, model={}, meter=meter_facts))
        journal.append(EngineSetUp({}))
    concurrent = read_results(tmp_path / "journal").concurrent
    assert sorted(len(jobs) for jobs in concurrent) == [0, 1]
