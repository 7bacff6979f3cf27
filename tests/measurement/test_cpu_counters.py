"""The CPU's counters beside a meter of GPUs: a powercap tree made for the test, and a ledger."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import MeterConfig, MeterName, MeterScope
from codejoule.domain import FIRST_TOKEN, EnergyScope, EnergySource, TaskRecord
from codejoule.domain.metrics import RunFacts, WindowFacts, run_metrics
from codejoule.measurement import Meter, Work, at_work, jobs, open_meter
from codejoule.measurement.counter import Counter
from codejoule.measurement.cpu import CpuCounters, rapl_counter

STEADY = {"steady_w": 200.0}


def _meter(open_ledger: Any, *, in_scope: bool) -> Meter:
    ledger = open_ledger(**STEADY)
    return Meter(
        Counter(ledger.devices, source=EnergySource.nvml),
        sample_period_s=0.1,
        idle_s=1.0,
        ledger=ledger,
        cpu=CpuCounters(rapl_counter(), in_scope=in_scope),
        others=jobs.OtherJobs(),
    )


def _metrics(*windows: Any, idle_power_w: float | None = None) -> dict[str, float]:
    record = TaskRecord(
        task_id="a", sample=0, order=0, batch=0, batch_size=1, prompt_tokens=1, output_tokens=2,
        finish_reason="eos", energy_j=1.0, energy_net_j=None, batch_energy_j=1.0, latency_s=1.0,
        ttft_s=None, verdict=None, verdict_reason=None, evaluation_s=None, evaluation_cpu_s=None,
        evaluation_energy_j=None, domains=(),
    )  # fmt: skip
    facts = RunFacts(
        windows=tuple(WindowFacts(reading=window, output_tokens=(2,)) for window in windows),
        idle_power_w=idle_power_w,
    )
    return run_metrics([record] * len(windows), facts, rng=np.random.default_rng(0))


def test_the_cpus_energy_stands_beside_the_gpus_and_is_in_no_total(
    open_ledger: Any, rapl: Any
) -> None:
    with _meter(open_ledger, in_scope=False) as meter:
        with meter.window("batch") as window:
            time.sleep(0.3)
            window.mark(FIRST_TOKEN)
            time.sleep(0.3)
        reading = window.reading
        time.sleep(0.9)
        assert {sample.device for sample in meter.new_power()} == {"gpu:0", "cpu:0", "dram:0"}
    assert (reading.scope, reading.source) == (EnergyScope.gpu, EnergySource.nvml)
    assert meter.devices == ("gpu:0",)
    assert reading.energy_j == pytest.approx(200 * reading.latency_s, rel=0.03)
    assert set(reading.energy_by_device_j) == {"gpu:0"}
    assert reading.energy_out_of_scope_j["cpu:0"] == pytest.approx(50 * reading.latency_s, rel=0.25)
    assert reading.energy_out_of_scope_j["dram:0"] == pytest.approx(5 * reading.latency_s, rel=0.25)
    metrics = _metrics(reading)
    assert metrics["energy_cpu_j"] == reading.energy_out_of_scope_j["cpu:0"]
    assert metrics["energy_dram_j"] == reading.energy_out_of_scope_j["dram:0"]
    assert metrics["energy_generation_j"] == metrics["energy_gpu_j"] == reading.energy_j


def test_with_the_scope_gpu_and_cpu_it_is_part_of_the_figure(open_ledger: Any, rapl: Any) -> None:
    with _meter(open_ledger, in_scope=True) as meter:
        idle_power_w = meter.measure_idle()
        with meter.window("batch") as window:
            time.sleep(0.3)
            window.mark(FIRST_TOKEN)
            time.sleep(0.3)
        reading = window.reading
    # Idle power is the GPUs' own: the 55 W of the CPU and its memory are not in it.
    assert idle_power_w == pytest.approx(200, rel=0.03)
    assert (meter.scope, reading.scope) == (EnergyScope.gpu_cpu, EnergyScope.gpu_cpu)
    assert meter.devices == ("gpu:0", "cpu:0", "dram:0")
    assert reading.energy_j == pytest.approx(255 * reading.latency_s, rel=0.08)
    assert set(reading.energy_by_device_j) == {"gpu:0", "cpu:0", "dram:0"}
    assert reading.energy_out_of_scope_j == {}
    assert reading.energy_net_j is None
    at_mark_j = reading.energy_at_marks_j[FIRST_TOKEN]
    assert at_mark_j == pytest.approx(255 * reading.marks_s[FIRST_TOKEN], rel=0.15)
    metrics = _metrics(reading, idle_power_w=idle_power_w)
    gpu_j = reading.energy_by_device_j["gpu:0"]
    assert metrics["energy_generation_j"] == reading.energy_j
    assert metrics["energy_gpu_j"] == gpu_j
    assert metrics["energy_gpu_net_j"] == gpu_j - idle_power_w * reading.latency_s
    assert metrics["energy_cpu_j"] == reading.energy_by_device_j["cpu:0"]
    assert abs(metrics["energy_crosscheck_rel"]) < 0.03


@pytest.mark.parametrize(
    ("work", "told"), [(Work.evaluation, False), (Work.generation, False), (Work.standby, True)]
)
def test_a_package_on_which_two_jobs_worked_is_in_neithers_figures(
    open_ledger: Any, rapl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Work,
    told: bool,
) -> None:  # fmt: skip
    monkeypatch.setenv(jobs.PLACE, str(tmp_path))
    with _meter(open_ledger, in_scope=False) as meter:
        own, jobs._lineage = jobs._lineage, lambda: ("1@elsewhere",)
        theirs = at_work("theirs", work)
        theirs.__enter__()
        jobs._lineage = own
        with meter.window("beside") as beside:
            time.sleep(0.3)
        theirs.__exit__(None, None, None)
        with meter.window("alone") as alone:
            time.sleep(0.3)
        assert beside.reading.energy_j == pytest.approx(200 * beside.reading.latency_s, rel=0.03)
        assert ("cpu:0" in beside.reading.energy_out_of_scope_j) is told
        assert "cpu:0" in alone.reading.energy_out_of_scope_j


def test_a_cpu_counter_that_fails_beside_ends_its_figures_with_a_word(
    open_ledger: Any, rapl: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with _meter(open_ledger, in_scope=False) as meter, caplog.at_level(logging.WARNING):
        rapl.freeze("intel-rapl:0")
        readings = []
        for _ in range(2):
            with meter.window("batch") as window:
                time.sleep(0.3)
            readings.append(window.reading)
    assert [reading.energy_out_of_scope_j for reading in readings] == [{}, {}]
    assert min(reading.energy_j for reading in readings) > 0
    assert caplog.text.count("the CPU's energy is left out from here on") == 1
    assert "counter of cpu:0 stood still" in caplog.text
    assert "energy_cpu_j" not in _metrics(*readings)


def test_a_cpu_counter_that_fails_in_scope_is_an_error(open_ledger: Any, rapl: Any) -> None:
    meter = _meter(open_ledger, in_scope=True)
    rapl.freeze("intel-rapl:0")
    with (
        meter,
        pytest.raises(UserError, match="counter of cpu:0 stood still for the"),
        meter.window("batch"),
    ):
        time.sleep(0.3)


def test_a_scope_that_cannot_be_had_is_an_error(
    nvml: Any, no_rapl: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MeterConfig(scope=MeterScope["gpu+cpu"])
    with pytest.raises(
        UserError, match=r"meter\.scope=gpu\+cpu: the CPU has no readable .*\(no RAPL"
    ):
        open_meter(config, gpu_indices=[0])
    with pytest.raises(UserError, match=r"meter\.scope=gpu\+cpu: the run uses no GPU; choose"):
        open_meter(config)
    with pytest.raises(ConfigError, match=r"meter\.scope=gpu\+cpu: meter=cpu_estimate reads no"):
        MeterConfig(name=MeterName.cpu_estimate, scope=MeterScope["gpu+cpu"])


def test_a_run_on_a_gpu_without_cpu_counters_has_no_figure_of_the_cpu(
    nvml: Any, rapl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(
        "codejoule.measurement.opening._live_ledger",
        lambda config, uuids, processes: opened.append(uuids),
    )
    with open_meter(MeterConfig(), gpu_indices=[0]) as meter:
        assert meter._cpu is not None
        assert not meter._cpu.in_scope
    rapl.stop()
    shutil.rmtree(rapl.folder)
    with open_meter(MeterConfig(), gpu_indices=[0]) as meter:
        assert meter._cpu is None
