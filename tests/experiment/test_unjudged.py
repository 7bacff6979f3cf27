"""A sample that could not be judged: no fail, no pass@1, and judged again on resume."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.config.schema import EvaluatorConfig, GenerationConfig, MeterConfig
from codejoule.domain import (
    Completion,
    EnergyReading,
    EnergyScope,
    EnergySource,
    FinishReason,
    JudgedSample,
    Status,
    Verdict,
)
from codejoule.experiment import evaluation_stage
from codejoule.experiment.records import read_results, task_records
from codejoule.tracking import Journal
from codejoule.tracking.entries import Batch, EngineSetUp, Judged, Loaded, MeterFacts

READING = EnergyReading(
    name="generation", start_s=0.0, energy_j=4.0, energy_by_device_j={"cpu:0": 4.0}, latency_s=1.0, source=EnergySource.rapl,
    scope=EnergyScope.cpu,
)  # fmt: skip


def _batch() -> Batch:
    completions = tuple(
        Completion(
            task_id="t/1", sample=number, text="", prompt_tokens=1, output_tokens=1,
            finish_reason=FinishReason.eos,
        )
        for number in range(2)
    )  # fmt: skip
    return Batch(batch=0, completions=completions, reading=READING, memory_peak_bytes=None)


def _verdict(number: int, status: Status, reason: str) -> Verdict:
    return Verdict(
        task_id="t/1", sample=number, status=status, reason=reason, evaluation_s=1.0,
        evaluation_cpu_s=1.0,
    )  # fmt: skip


def _plan() -> Any:
    task = SimpleNamespace(task_id="t/1", domains=())
    experiment = SimpleNamespace(
        evaluator=EvaluatorConfig(), meter=MeterConfig(), generation=GenerationConfig()
    )
    return SimpleNamespace(
        suite=SimpleNamespace(tasks=(task,)), experiment=experiment, timeout_s=1.0, hardware=None
    )


VERDICTS = [
    _verdict(0, Status.failed, "fail"), _verdict(1, Status.unjudged, "short of memory"),
]  # fmt: skip


def test_its_row_has_no_verdict_and_says_why(tmp_path: Path) -> None:
    meter = MeterFacts(source=EnergySource.rapl, scope=EnergyScope.cpu, devices=("cpu:0",))
    judged = tuple(JudgedSample.of(verdict, 1.0) for verdict in VERDICTS)
    with Journal(tmp_path) as journal:
        journal.append(Loaded(reading=None, model={}, meter=meter))
        journal.append(EngineSetUp({}))
        journal.append(_batch())
        journal.append(Judged(source=EnergySource.rapl, verdicts=judged))
    failed, unjudged = task_records(_plan(), read_results(tmp_path))
    assert (failed.verdict, failed.verdict_reason) == ("fail", "fail")
    assert (unjudged.verdict, unjudged.verdict_reason) == (None, "short of memory")
    assert unjudged.evaluation_cpu_s == 1.0


def test_it_is_judged_again_on_resume_and_no_other_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path) as journal:
        journal.append(_batch())
        judged = tuple(JudgedSample.of(verdict, 1.0) for verdict in VERDICTS)
        journal.append(Judged(source=EnergySource.rapl, verdicts=judged))
    again: list[Any] = []
    monkeypatch.setattr(evaluation_stage, "samples_of", lambda *_, **__: VERDICTS)
    monkeypatch.setattr(evaluation_stage, "_judge", lambda samples, *_: again.extend(samples))
    evaluation_stage.evaluate(_plan(), tmp_path, name="mine")
    assert [sample.sample for sample in again] == [1]
