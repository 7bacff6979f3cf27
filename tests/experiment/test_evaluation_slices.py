"""Energy of evaluation where it is measured: in slices of time, and in none of them twice."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from codejoule.domain import EnergyScope, EnergySource, Status, Verdict
from codejoule.experiment import evaluation_stage
from codejoule.experiment.evaluation_stage import _Slices
from codejoule.experiment.verdicts import Verdicts
from codejoule.measurement import Meter
from codejoule.measurement.counter import CumulativeCounter
from codejoule.tracking import Journal
from codejoule.tracking.entries import Judged


class Flow:
    """A processor's energy counter, played by hand."""

    def __init__(self) -> None:
        self.energy_j = 100.0

    def read_j(self) -> Mapping[str, float]:
        return {"cpu:0": self.energy_j}


def _verdict(number: int, cpu_s: float) -> Verdict:
    return Verdict(
        task_id="t/1", sample=number, status=Status.passed, reason="pass", evaluation_s=cpu_s,
        evaluation_cpu_s=cpu_s,
    )  # fmt: skip


def _meter(flow: Flow, source: EnergySource) -> Meter:
    counter = CumulativeCounter(flow.read_j, source=source, scope=EnergyScope.cpu)
    return Meter(counter, sample_period_s=1.0, idle_s=0.0)


def test_measured_energy_comes_in_slices_that_add_up_and_is_shared_by_cpu_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_stage, "_SLICE_S", 0.0)
    flow = Flow()
    with Journal(tmp_path) as journal, _meter(flow, EnergySource.rapl) as meter:
        with _Slices(journal.append, meter, watts_per_core=3.5, cpu=None) as slices:
            for number, (cpu_s, energy_j) in enumerate([(1.0, 5.0), (3.0, 1.0), (4.0, 2.0)]):
                flow.energy_j += energy_j
                slices.add(_verdict(number, cpu_s))
        entries = journal.entries(Judged)
    assert [len(entry.verdicts) for entry in entries] == [1, 1, 1]
    judged = [verdict for entry in entries for verdict in entry.verdicts]
    assert [verdict.energy_j for verdict in judged] == pytest.approx([5.0, 1.0, 2.0])
    # A sample of 4 s ended in a slice of 2 J; most of what it took flowed before.
    shared = Verdicts(entries)
    assert [verdict.energy_j for verdict in shared.values()] == pytest.approx([1.0, 3.0, 4.0])
    assert shared.energy_j == pytest.approx(8.0)
    estimated = Verdicts([replace(entry, source=EnergySource.estimate) for entry in entries])
    assert list(estimated.values()) == judged


def test_a_slice_is_not_shorter_than_its_counter_can_resolve(tmp_path: Path) -> None:
    flow = Flow()
    with Journal(tmp_path) as journal, _meter(flow, EnergySource.rapl) as meter:
        with _Slices(journal.append, meter, watts_per_core=3.5, cpu=None) as slices:
            for number in range(4):
                flow.energy_j += 1.0
                slices.add(_verdict(number, 1.0))
        (entry,) = journal.entries(Judged)
    assert [verdict.energy_j for verdict in entry.verdicts] == pytest.approx([1.0] * 4)


def test_with_an_estimate_each_verdict_is_on_disk_at_once_and_stays_when_judging_fails(
    tmp_path: Path,
) -> None:
    def judge_two_and_fail(journal: Journal, meter: Meter) -> None:
        with _Slices(journal.append, meter, watts_per_core=2.0, cpu=None) as slices:
            slices.add(_verdict(0, 1.5))
            slices.add(_verdict(1, 2.5))
            raise RuntimeError

    with Journal(tmp_path) as journal, _meter(Flow(), EnergySource.estimate) as meter:
        with pytest.raises(RuntimeError):
            judge_two_and_fail(journal, meter)
        judged = [verdict for entry in journal.entries(Judged) for verdict in entry.verdicts]
    assert [verdict.energy_j for verdict in judged] == pytest.approx([3.0, 5.0])
