"""The ledger over its real sampler process, whose driver is played by `fake_driver`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import UserError
from codejoule.domain import Doubt, EnergySource
from codejoule.measurement import Meter
from codejoule.measurement.counter import Counter

DRIVER = Path(__file__).parent / "fake_driver"


def _energy_j(now_s: float) -> float:
    seconds, rest = divmod(now_s, 1.0)
    return 300.0 * seconds + 100.0 * rest + 400.0 * max(0.0, rest - 0.5)


def _until_half_second() -> float:
    """Sleep until the power steps; the moment of the step."""
    now_s = time.monotonic()
    step_s = (now_s // 0.5 + 1) * 0.5
    time.sleep(step_s - now_s)
    return step_s


def test_windows_at_the_steps_of_power_are_resolved_within_their_uncertainty(
    open_ledger: Any,
) -> None:
    ledger = open_ledger()
    try:
        moments = [_until_half_second() for _ in range(5)]
        for moment in moments:
            ledger.note(moment)
        entries = [ledger.entry(a, b, {}) for a, b in pairwise(moments)]
        whole = ledger.entry(moments[0], moments[-1], {})
    finally:
        ledger.close()
    for (start, end), entry in zip(pairwise(moments), entries, strict=True):
        true_j = _energy_j(end) - _energy_j(start)
        assert entry.by_device_j["gpu:0"] == pytest.approx(true_j, rel=0.03)
        assert 0 < entry.uncertainty_j < 0.05 * true_j + 2.0
        assert entry.ticks == pytest.approx(10, abs=1)
    total_j = sum(entry.by_device_j["gpu:0"] for entry in entries)
    assert total_j == pytest.approx(whole.by_device_j["gpu:0"], rel=1e-9)
    assert whole.integrated_j == pytest.approx(total_j, rel=0.1)


@pytest.mark.parametrize(("says_j", "told_j"), [(61.5, 61.5), (0.0, None)])
def test_zeus_own_figure_stands_beside_the_ledgers(
    says_j: float, told_j: float | None, open_ledger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Zeus(Counter):
        def end(self, key: str, then: str | None = None) -> Mapping[str, float]:
            return {"gpu:0": says_j}

    monkeypatch.setattr("codejoule.measurement.window.require_agreement", lambda *_: None)
    ledger = open_ledger(steady_w=200.0)
    counter = Zeus(ledger.devices, source=EnergySource.nvml)
    with Meter(counter, sample_period_s=1.0, idle_s=0, ledger=ledger) as meter:
        with meter.window("batch") as window:
            time.sleep(0.3)
        assert window.reading.zeus_j == told_j
        assert window.reading.energy_j == pytest.approx(200 * window.reading.latency_s, rel=0.05)


def test_a_sampler_that_is_killed_is_an_error_and_not_a_gap(open_ledger: Any) -> None:
    ledger = open_ledger()
    opened_s = time.monotonic()
    os.kill(ledger._feed._process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"energy sampler ended by itself \(status -9.*run the job"):
        ledger.entry(opened_s, time.monotonic(), {})
    ledger.close()


def test_a_gpu_that_is_lost_is_an_error_in_the_drivers_words(open_ledger: Any) -> None:
    ledger = open_ledger(lost_after_s=0.5)
    opened_s = time.monotonic()
    with pytest.raises(UserError, match=r"ended by itself \(status 1: .*GPU is lost"):
        ledger.entry(opened_s, opened_s + 1.0, {})
    ledger.close()


def test_a_driver_that_is_missing_is_an_error_before_the_first_window(open_ledger: Any) -> None:
    with pytest.raises(UserError, match=r"ended by itself .*Driver Not Loaded"):
        open_ledger(no_driver=True)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"still_after_s": 0.5}, r"counter of gpu:0 stood still for 1\..* s: nothing was measured"),
        ({"reset_after_s": 0.5}, r"counter of gpu:0 went backwards by .* J: .*run the job again"),
        ({"jump_after_s": 0.5}, r"counter of gpu:0 jumped forward by .* J within .*than any card"),
        ({"pids": [1]}, r"process 1, which is not part of this run, uses gpu:0.*on_busy_gpu=warn"),
    ],
)
def test_a_counter_or_a_gpu_that_misbehaves_is_an_error(
    open_ledger: Any, setting: dict[str, object], text: str
) -> None:
    def measure_a_second() -> None:
        ledger = open_ledger(**setting)
        opened_s = time.monotonic()
        try:
            ledger.entry(opened_s, opened_s + 1.0, {})
        finally:
            ledger.close()

    with pytest.raises(UserError, match=text):
        measure_a_second()


def test_the_runs_own_process_is_no_stranger(open_ledger: Any) -> None:
    ledger = open_ledger(pids=[os.getpid()])
    opened_s = time.monotonic()
    assert ledger.entry(opened_s, opened_s + 0.3, {}).by_device_j["gpu:0"] > 0
    ledger.close()


def test_ctrl_c_in_a_terminal_does_not_reach_the_sampler(open_ledger: Any) -> None:
    ledger = open_ledger()
    assert os.getpgid(ledger._feed._process.pid) != os.getpgrp()
    ledger.close()


def test_the_sampler_dies_with_a_run_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "from codejoule.measurement.feed import LiveFeed\n"
        "from codejoule.measurement.ledger import Ledger\n"
        "feed = LiveFeed({'gpu:0': 'GPU-1'}, period_s=0.02)\n"
        "Ledger(feed)\n"
        "print(feed._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    source = Path(__file__).parents[2] / "src"
    path = os.pathsep.join([str(DRIVER), str(source)])
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
    ) as run:
        assert run.stdout is not None
        sampler = int(run.stdout.readline())
        run.kill()
        run.wait()
    deadline_s = time.monotonic() + 5
    while Path(f"/proc/{sampler}").exists() and time.monotonic() < deadline_s:
        state = Path(f"/proc/{sampler}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            return
        time.sleep(0.05)
    assert not Path(f"/proc/{sampler}").exists()


@pytest.mark.slow
def test_a_card_that_is_too_hot_is_told_of_the_windows_in_which_it_is(open_ledger: Any) -> None:
    ledger = open_ledger(hot_s=(1.2, 2.2))
    try:
        begun_s = time.monotonic()
        cool, hot = (begun_s, begun_s + 0.3), (begun_s + 1.0, begun_s + 2.5)
        time.sleep(max(0.0, hot[1] - time.monotonic()))
        entries = [ledger.entry(*cool, {}), ledger.entry(*hot, {})]
    finally:
        ledger.close()
    # At its power limit it always is, which is the card's own.
    assert [entry.doubts for entry in entries] == [(), (Doubt.throttled,)]


def test_a_process_that_is_measured_nevertheless_is_a_doubt(open_ledger: Any) -> None:
    ledger = open_ledger(pids=[1], warn_of_foreign=True)
    try:
        begun_s = time.monotonic()
        time.sleep(0.7)
        assert ledger.entry(begun_s, begun_s + 0.7, {}).doubts == (Doubt.shared_gpu,)
    finally:
        ledger.close()
