"""No path yields 0 J without having measured 0 J. Read this module as the list of paths.

What was not measured is an error, NaN or absent, from the counter to MLflow; and no powered device
takes 0 J, so the type that carries energies refuses one.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pynvml
import pytest

from codejoule.config import UserError
from codejoule.config.schema import MeterConfig, MeterName, TrackingConfig
from codejoule.domain import (
    FIRST_TOKEN,
    Completion,
    EnergyReading,
    EnergyScope,
    EnergySource,
    FinishReason,
    JudgedSample,
    Status,
    Verdict,
)
from codejoule.domain.metrics import RunFacts, WindowFacts, run_metrics
from codejoule.experiment.records import read_results, task_records
from codejoule.measurement import (
    Meter,
    open_command_meter,
    open_meter,
    share_evaluation_energy,
)
from codejoule.measurement.counter import Counter, CumulativeCounter
from codejoule.measurement.cpu import CpuCounters
from codejoule.measurement.feed import (
    BUNDLED_RECORDING,
    RECORD,
    Kind,
    Recording,
    load_recording,
    save_recording,
)
from codejoule.measurement.ledger import Ledger
from codejoule.measurement.nvml import nvml_counter

GOLDEN = BUNDLED_RECORDING
REPLAY = MeterConfig(name=MeterName.replay, recording=str(GOLDEN))


def _reading(energy_j: float, **facts: Any) -> EnergyReading:
    settled = {"source": EnergySource.nvml, "scope": EnergyScope.gpu, "name": "batch"}
    return EnergyReading(**settled | facts, start_s=0.0, latency_s=1.0, energy_j=energy_j)


# The type.


@pytest.mark.parametrize("value_j", [0.0, -1.0, math.inf])
@pytest.mark.parametrize("place", ["energy_j", "integrated_j", "by_device", "beside", "at_marks"])
def test_a_reading_refuses_it(place: str, value_j: float) -> None:
    facts: dict[str, Any] = {
        "energy_j": {},
        "integrated_j": {"integrated_j": value_j},
        "by_device": {"energy_by_device_j": {"gpu:0": value_j}},
        "beside": {"energy_out_of_scope_j": {"cpu:0": value_j}},
        "at_marks": {"energy_at_marks_j": {FIRST_TOKEN: value_j}},
    }[place]
    with pytest.raises(
        ValueError, match=r"is (0\.0|-1\.0|inf) J, and no powered device takes that"
    ):
        _reading(value_j if place == "energy_j" else 5.0, **facts)


# A GPU's counter through Zeus' windows alone.


def _zeus(*gpus: int) -> Meter:
    return Meter(nvml_counter(gpus or (0,)), sample_period_s=0.1, idle_s=0.0)


def test_a_zeus_window_shorter_than_a_tick_is_nan(nvml: Any) -> None:
    nvml.now_s = 0.01
    with _zeus() as meter, meter.window("batch") as window:
        nvml.advance(0.02)
    assert math.isnan(window.reading.energy_j)


def test_a_stuck_counter_is_an_error_also_where_another_one_counts(nvml: Any) -> None:
    nvml.cards[1].stuck_from_s = nvml.now_s = 2.0
    with (
        _zeus(0, 1) as meter,
        pytest.raises(UserError, match=r"gpu:1 stood still .* nothing was measured"),
        meter.window("batch"),
    ):
        nvml.advance(0.3)


def test_absent_nvml_is_an_error(nvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    with pytest.raises(UserError, match="NVML cannot be used"):
        open_meter(MeterConfig(), gpu_indices=[0])


def test_mig_is_an_error(nvml: Any) -> None:
    nvml.cards[0].mig = True
    with pytest.raises(UserError, match="has MIG on, and NVML counts energy per card"):
        open_meter(MeterConfig(), gpu_indices=[0])


def test_an_empty_cuda_visible_devices_is_an_error(
    nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES='' hides all 2 GPUs"):
        open_meter(MeterConfig(), gpu_indices=[0])


def test_a_card_without_a_counter_is_an_error(nvml: Any) -> None:
    nvml.cards[0].counter = False
    with pytest.raises(UserError, match="no readable energy counter"):
        open_meter(MeterConfig(), gpu_indices=[0])


# A GPU's counter through the ledger.


class Given:
    """A feed of records made by hand: 300 W in ticks of 0.1 s."""

    devices = ("gpu:0",)

    def __init__(self, *extra: tuple[object, ...]) -> None:
        ticks = [(Kind.tick, 0, 0, 0.1 * n - 0.004, 0.1 * n, 1e3 + 30.0 * n) for n in range(60)]
        self._records = np.array(sorted([*ticks, *extra], key=lambda row: row[4]), dtype=RECORD)

    def read(self) -> Any:
        records, self._records = self._records, self._records[:0]
        return records

    def close(self) -> None:
        pass


def test_a_window_too_short_for_the_curve_is_nan() -> None:
    ledger = Ledger(Given())
    assert math.isnan(ledger.entry(2.0, 2.0, {}).by_device_j["gpu:0"])
    assert math.isnan(ledger.entry(2.0, math.nextafter(2.0, 3.0), {}).by_device_j["gpu:0"])
    assert ledger.entry(2.0, 2.001, {}).by_device_j["gpu:0"] == pytest.approx(0.3)


def test_a_mark_at_the_very_opening_has_no_energy() -> None:
    assert Ledger(Given()).entry(2.0, 3.0, {FIRST_TOKEN: 2.0}).at_marks_j == {}


def test_a_counter_stuck_from_the_start_is_an_error(open_ledger: Any) -> None:
    with pytest.raises(UserError, match=r"stood still for .* nothing was measured"):
        open_ledger(still_after_s=-1.0)


def test_a_power_query_that_answers_zero_leaves_no_cross_check() -> None:
    ledger = Ledger(Given((Kind.power, 0, 0, 0.5, 0.5, 0.0)))
    meter = Meter(
        Counter(("gpu:0",), source=EnergySource.nvml),
        sample_period_s=0.1,
        idle_s=0.0,
        ledger=ledger,
    )
    with meter.window("batch") as window:
        pass
    window._opened, window._closed = 2.0, 3.0
    assert window.reading.energy_j == pytest.approx(300.0)
    assert window.reading.integrated_j is None


def test_a_gpu_of_two_without_power_samples_leaves_no_cross_check() -> None:
    assert Ledger(Given()).entry(2.0, 3.0, {}).integrated_j is None


# A replay.


def test_a_replay_that_is_over_is_an_error(tmp_path: Path) -> None:
    golden = load_recording(GOLDEN)
    short = golden.records[golden.records["after_s"] < golden.records["after_s"][0] + 0.6]
    save_recording(tmp_path / "short.npz", Recording(short, golden.devices, {}))
    config = MeterConfig(name=MeterName.replay, recording=str(tmp_path / "short.npz"))
    with open_meter(config) as meter:
        with meter.window("batch") as window:
            time.sleep(0.6)
        with pytest.raises(UserError, match="the recording of 1 s is over, and the run goes on"):
            _ = window.reading


def test_a_replayed_window_of_no_length_is_nan_or_more_than_zero() -> None:
    with open_meter(REPLAY) as meter:
        with meter.window("batch") as window:
            pass
        assert math.isnan(window.reading.energy_j) or window.reading.energy_j > 0


# The CPU's counters and the estimate.


class Flow:
    """A counter that the test moves."""

    def __init__(self) -> None:
        self.now_j = 100.0

    def counter(self, source: EnergySource = EnergySource.rapl) -> CumulativeCounter:
        def read_j() -> Mapping[str, float]:
            return {"cpu:0": self.now_j}

        return CumulativeCounter(read_j, source=source, scope=EnergyScope.cpu)


@pytest.mark.parametrize("source", [EnergySource.rapl, EnergySource.estimate])
def test_a_window_in_which_the_cpus_counter_did_not_move_is_nan(source: EnergySource) -> None:
    with Meter(Flow().counter(source), sample_period_s=9.0, idle_s=0.0) as meter:
        with meter.window("batch") as window:
            window.mark(FIRST_TOKEN)
        assert math.isnan(window.reading.energy_j)
        assert window.reading.energy_at_marks_j == {}


def test_a_cpus_counter_that_stands_still_is_an_error_and_an_estimate_nan() -> None:
    with (
        Meter(Flow().counter(EnergySource.estimate), sample_period_s=9.0, idle_s=0.0) as meter,
        meter.window("batch") as window,
    ):
        time.sleep(0.3)
    assert math.isnan(window.reading.energy_j)
    with (
        Meter(Flow().counter(), sample_period_s=9.0, idle_s=0.0) as meter,
        pytest.raises(UserError, match="counter of cpu:0 stood still for"),
        meter.window("batch"),
    ):
        time.sleep(0.3)


def test_a_counter_that_does_not_move_is_no_power_of_zero() -> None:
    flow = Flow()
    counter = flow.counter()
    time.sleep(0.01)
    assert counter.power_w() == {}
    flow.now_j += 1.0
    assert counter.power_w()["cpu:0"] > 0


def test_a_cpu_beside_a_gpu_that_did_not_move_is_absent_and_in_scope_nan() -> None:
    for in_scope in (False, True):
        beside = CpuCounters(Flow().counter(), in_scope=in_scope)
        beside.begin("k")
        ended_j = beside.measured_j("k", window="batch", latency_s=0.01)
        beside.power.stop()
        assert math.isnan(ended_j["cpu:0"]) if in_scope else ended_j == {}


def test_without_any_counter_zeus_is_an_error_and_a_metered_command_an_estimate(
    no_rapl: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codejoule.measurement.hardware.detect_gpus", lambda: ((), (), "no NVML"))
    with pytest.raises(UserError, match="meter=zeus: no energy counter"):
        open_meter(MeterConfig(name=MeterName.zeus))
    with open_command_meter(MeterConfig()) as meter:
        assert meter.source is EnergySource.estimate


# Judging.


def test_a_sample_that_never_ran_has_no_evaluation_energy() -> None:
    assert share_evaluation_energy(None, [0.0], watts_per_core=3.5)[0] == [None]


# Idle.


def test_without_idle_power_there_is_no_net_energy() -> None:
    with open_meter(MeterConfig(name=MeterName.replay, recording=str(GOLDEN), idle_s=0.0)) as meter:
        assert meter.measure_idle() is None
        with meter.window("batch") as window:
            time.sleep(0.1)
    assert window.reading.energy_net_j is None


# From the journal to the store.


def test_what_was_not_measured_is_absent_in_the_store_and_null_in_the_table(
    tmp_path: Path,
) -> None:
    from mlflow.tracking import MlflowClient

    from codejoule.tracking import Journal, prepare_store, write_tasks_parquet
    from codejoule.tracking.entries import Batch, EngineSetUp, Idle, Judged, Loaded, MeterFacts

    completion = Completion(
        task_id="a", sample=0, text="", prompt_tokens=3, output_tokens=2,
        finish_reason=FinishReason.length,
    )  # fmt: skip
    unresolved = _reading(math.nan, energy_by_device_j={"gpu:0": math.nan})
    verdict = Verdict(
        task_id="a", sample=0, status=Status.failed, reason="fail", evaluation_s=0.1,
        evaluation_cpu_s=0.0,
    )  # fmt: skip
    entry = Batch(batch=0, completions=(completion,), reading=unresolved, memory_peak_bytes=None)
    meter = MeterFacts(source=EnergySource.nvml, scope=EnergyScope.gpu, devices=("gpu:0",))
    with Journal(tmp_path) as journal:
        journal.append(Loaded(reading=unresolved, model={}, meter=meter))
        journal.append(EngineSetUp({}))
        journal.append(Idle(power_w=None, temperature_c=None))
        journal.append(entry)
        judged = (JudgedSample.of(verdict, None),)
        journal.append(Judged(source=EnergySource.estimate, verdicts=judged))
        assert "NaN" not in journal.path.read_text()
    plan: Any = SimpleNamespace(
        suite=SimpleNamespace(tasks=[SimpleNamespace(task_id="a", domains=())]),
        experiment=SimpleNamespace(generation=SimpleNamespace(rounds=1)),
    )
    results = read_results(tmp_path)
    records = task_records(plan, results)
    facts_of_run = RunFacts(
        windows=tuple(
            WindowFacts(reading=batch.reading, output_tokens=(2,)) for batch in results.batches
        ),
        load=results.load.reading,
        idle_power_w=results.idle.power_w if results.idle else None,
    )
    metrics = run_metrics(records, facts_of_run, rng=np.random.default_rng(0))
    energies = {name for name in metrics if "energy" in name or "power" in name or "kwh" in name}
    assert energies == set()
    store = prepare_store(TrackingConfig(dir=f"{tmp_path}/mlruns"))
    tracked = store.start_run(name="r", parent_run_id=None, tags={}, params={}, resume_run_id=None)
    tracked.log(metrics=metrics)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    logged = client.get_run(tracked.run_id).data.metrics
    assert logged["latency_s"] == 1.0
    assert not [name for name in logged if "energy" in name or "power" in name or "kwh" in name]
    write_tasks_parquet(records, tmp_path / "tasks.parquet")
    import pyarrow.parquet as pq

    (row,) = pq.read_table(tmp_path / "tasks.parquet").to_pylist()
    for name in ("energy_j", "energy_net_j", "batch_energy_j", "evaluation_energy_j"):
        assert row[name] is None
