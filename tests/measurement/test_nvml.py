"""GPU windows: real Zeus over an NVML that replays synthetic ticks."""

import importlib.util
import math
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pynvml
import pytest

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import MeterConfig
from codejoule.domain import FIRST_TOKEN, EnergyScope, EnergySource, IdleSource
from codejoule.measurement import Meter, open_meter
from codejoule.measurement.nvml import nvml_counter

GOLDEN = Path(__file__).parents[1] / "golden"
TICK_S = 0.103


def _meter(*gpu_indices: int, idle_s: float = 2.0) -> Meter:
    """Zeus' windows alone, as they are without a ledger."""
    return Meter(nvml_counter(gpu_indices or (0,)), sample_period_s=0.1, idle_s=idle_s)


def _golden_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ticks", GOLDEN / "nvml_ticks_synthetic.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_golden_ticks_are_what_their_script_writes() -> None:
    rows = (GOLDEN / "nvml_ticks_synthetic.csv").read_text().splitlines()[1:]
    assert rows == [f"{time_s},{mj}" for time_s, mj in _golden_script().ticks()]


def test_a_gpu_window_reads_the_counter_to_within_a_tick_at_each_edge(nvml: Any) -> None:
    nvml.now_s = 3.2
    with _meter() as meter, meter.window("batch") as window:
        nvml.advance(3.5)
    reading = window.reading
    assert reading.energy_j == pytest.approx(3.5 * 600, abs=600 * TICK_S)
    assert reading.latency_s == pytest.approx(3.5)
    assert reading.source is EnergySource.nvml
    assert reading.scope is EnergyScope.gpu
    assert reading.energy_by_device_j == {"gpu:0": reading.energy_j}
    assert reading.energy_net_j is None


def test_windows_add_up_to_the_window_around_them(nvml: Any) -> None:
    nvml.now_s = 1.2
    with _meter(0, 1) as meter, meter.window("run") as run:
        parts = []
        for length_s in (0.7, 1.9, 3.3, 2.05):
            with meter.window("batch") as window:
                nvml.advance(length_s)
            parts.append(window.reading.energy_j)
    assert sum(parts) == pytest.approx(run.reading.energy_j, rel=1e-12)
    assert set(run.reading.energy_by_device_j) == {"gpu:0", "gpu:1"}


def test_net_energy_subtracts_idle_power_measured_before(nvml: Any) -> None:
    with _meter(idle_s=2.0) as meter:
        idle_power_w = meter.measure_idle()
        assert idle_power_w == pytest.approx(77, rel=0.06)
        nvml.now_s = 3.5
        with meter.window("batch") as window:
            nvml.advance(3.0)
    reading = window.reading
    assert reading.energy_net_j == pytest.approx(reading.energy_j - idle_power_w * 3.0)


def test_idle_of_zero_seconds_means_no_net_energy(nvml: Any) -> None:
    with _meter(idle_s=0.0) as meter:
        assert meter.measure_idle() is None
        with meter.window("batch") as window:
            nvml.advance(1.0)
    assert window.reading.energy_net_j is None


def test_idle_shorter_than_a_tick_is_an_error(nvml: Any) -> None:
    with _meter(idle_s=0.01) as meter, pytest.raises(ConfigError, match=r"meter.idle_s=0.01: too"):
        meter.measure_idle()


@pytest.mark.parametrize(
    ("powers_w", "idle_w", "told"),
    [([120.0, 90.0, 80.0, 79.0], 79.5, False), ([120.0, 90.0, 60.0, 40.0], 40.0, True)],
)
def test_idle_power_is_that_of_two_spans_which_agree_or_the_last_with_a_word(
    powers_w: list[float], idle_w: float, told: bool, nvml: Any, caplog: pytest.LogCaptureFixture
) -> None:
    left_w = iter(powers_w)

    def observed_w(seconds: float) -> float:
        nvml.advance(seconds)
        return next(left_w)

    with _meter(idle_s=2.0) as meter:
        meter._observed_w = observed_w  # type: ignore[method-assign]
        source = IdleSource.unsettled if told else IdleSource.measured
        assert meter._settled_w(None) == (idle_w, source)
    assert ("idle power still changes (60.0, then 40.0 W)" in caplog.text) == told


@pytest.mark.parametrize(
    ("powers_w", "found"),
    [
        ([78.0, 81.0], (79.0, IdleSource.taken_over)),
        ([81.0, 81.0], (81.0, IdleSource.measured)),
        ([90.0, 75.0, 75.0], (75.0, IdleSource.measured)),
    ],
)
def test_an_earlier_idle_power_is_taken_over_where_a_second_agrees_with_it(
    powers_w: list[float], found: tuple[float, IdleSource], nvml: Any
) -> None:
    left_w = iter(powers_w)
    with _meter(idle_s=2.0) as meter:
        meter._observed_w = lambda seconds: next(left_w)  # type: ignore[method-assign]
        assert meter._settled_w(79.0) == found
    assert not list(left_w)


def test_marks_have_a_time_but_no_energy_between_ticks(nvml: Any) -> None:
    with _meter() as meter, meter.window("batch") as window:
        nvml.advance(0.4)
        window.mark(FIRST_TOKEN)
        nvml.advance(1.0)
        window.mark(FIRST_TOKEN)
    assert window.reading.marks_s == {FIRST_TOKEN: pytest.approx(0.4)}
    assert window.reading.energy_at_marks_j == {}


def test_a_counter_that_stands_still_is_an_error_and_not_zero(nvml: Any) -> None:
    nvml.cards[1].stuck_from_s = 2.0
    nvml.now_s = 2.0
    with (
        _meter(0, 1) as meter,
        pytest.raises(UserError, match=r"gpu:1 stood still for the 0\.30 s of 'batch'.*doctor"),
        meter.window("batch"),
    ):
        nvml.advance(0.3)


def test_a_window_shorter_than_a_tick_is_undefined_and_not_zero(nvml: Any) -> None:
    nvml.now_s = 0.01
    with (
        _meter() as meter,
        warnings.catch_warnings(action="error"),
        meter.window("batch") as window,
    ):
        nvml.advance(0.02)
    assert math.isnan(window.reading.energy_j)
    assert math.isnan(window.reading.energy_by_device_j["gpu:0"])
    assert window.reading.energy_net_j is None


def test_a_counter_that_goes_backwards_is_an_error(nvml: Any) -> None:
    nvml.cards[0].reset_at_s = 1.5
    nvml.now_s = 1.0
    with (
        _meter() as meter,
        pytest.raises(UserError, match=r"gpu:0 went backwards by .* J during 'batch'.*again"),
        meter.window("batch"),
    ):
        nvml.advance(1.0)


def test_a_block_that_raises_leaves_no_reading_and_frees_its_window(nvml: Any) -> None:
    with _meter() as meter:
        counter: Any = meter._sources.counter
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), meter.window("batch") as window:
                nvml.advance(1 / 0)
            with pytest.raises(RuntimeError, match="window 'batch' has no reading"):
                _ = window.reading
        assert counter._monitor.measurement_states == {}


def test_a_gpu_chosen_by_uuid_is_the_one_measured(
    nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bbbb")
    monkeypatch.setattr("codejoule.measurement.nvml._cuda_uuid", nvml.sees("GPU-bbbb0000-2"))
    nvml.now_s = 3.0
    with _meter(0) as meter, meter.window("batch") as window:
        nvml.advance(1.0)
    # The second card runs one second late: it is still idle here, the first is not.
    assert window.reading.energy_j == pytest.approx(77, rel=0.15)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb"


def test_gpus_in_another_order_are_measured_in_that_order(
    nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    monkeypatch.setattr(
        "codejoule.measurement.nvml._cuda_uuid", nvml.sees("GPU-bbbb0000-2", "GPU-aaaa0000-1")
    )
    nvml.now_s = 3.0
    with _meter(0, 1) as meter, meter.window("batch") as window:
        nvml.advance(1.0)
    assert window.reading.energy_by_device_j["gpu:0"] == pytest.approx(77, rel=0.15)
    assert window.reading.energy_by_device_j["gpu:1"] == pytest.approx(600, rel=0.15)


@pytest.mark.parametrize("setting", ["", "-1", "7", " "])
def test_a_setting_that_hides_the_gpu_is_an_error(
    nvml: Any, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    with pytest.raises(
        UserError, match=rf"uses GPUs \[0\]: CUDA_VISIBLE_DEVICES='{setting}' hides all 2 GPUs"
    ):
        _meter(0)


def test_a_mig_slice_is_an_error(nvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    with pytest.raises(UserError, match=r"MIG-1234 is a MIG slice.*meter=cpu_estimate"):
        _meter(0)


def test_a_card_with_mig_on_is_an_error(nvml: Any) -> None:
    nvml.cards[0].mig = True
    with pytest.raises(
        UserError, match=r"GPU 0 \(NVIDIA H200\) has MIG on.*nvidia-smi -i 0 -mig 0"
    ):
        _meter(0)
    with _meter(1) as meter:
        assert meter.devices == ("gpu:1",)


def test_a_card_without_a_counter_is_an_error(nvml: Any) -> None:
    nvml.cards[0].counter = False
    with pytest.raises(UserError, match=r"GPU 0 .* no readable energy counter"):
        _meter(0)


def test_a_gpu_run_without_nvml_is_an_error_and_no_estimate(
    nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    with pytest.raises(UserError, match=r"uses GPUs \[0\]: NVML cannot be used.*libnvidia-ml"):
        _meter(0)


def test_a_gpu_that_pytorch_numbers_otherwise_is_an_error(
    nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codejoule.measurement.nvml._cuda_uuid", nvml.sees("GPU-bbbb0000-2"))
    with pytest.raises(UserError, match=r"GPU-bbbb0000-2 for PyTorch.*PCI_BUS_ID"):
        _meter(0)


def test_a_setting_changed_after_zeus_first_looked_is_an_error(
    nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _meter(0).close()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr("codejoule.measurement.nvml._cuda_uuid", nvml.sees("GPU-bbbb0000-2"))
    with pytest.raises(UserError, match=r"GPU-aaaa0000-1 for Zeus.*within a process"):
        _meter(0)


def test_a_gpu_lost_in_a_window_is_a_readable_error(
    nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(card: object) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    with (
        _meter() as meter,
        pytest.raises(UserError, match=r"Zeus could not end a window.*GPU is lost"),
        meter.window("batch"),
    ):
        monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lost)


@pytest.mark.gpu
def test_a_real_gpu_counts_the_energy_of_matrix_products() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    with open_meter(MeterConfig(), gpu_indices=[0]) as meter:
        idle_power_w = meter.measure_idle()
        with meter.window("batch") as window:
            for _ in range(2000):
                a @ a
    reading = window.reading
    assert idle_power_w is not None
    assert idle_power_w > 0
    assert reading.energy_j / reading.latency_s > 1.5 * idle_power_w
    assert reading.energy_net_j is not None
    assert 0 < reading.energy_net_j < reading.energy_j
    assert reading.uncertainty_j is not None
    assert reading.uncertainty_j < 0.02 * reading.energy_j
    assert reading.integrated_j == pytest.approx(reading.energy_j, rel=0.05)
    assert meter.new_power()
