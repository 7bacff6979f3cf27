"""Energy of a part of a window that has passed: by ticks, and by reads of a counter in between."""

import time
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import pytest

from codejoule.config.schema import MeterConfig, MeterName
from codejoule.domain import EnergyReading, EnergyScope, EnergySource
from codejoule.measurement import Meter, open_meter
from codejoule.measurement.counter import CumulativeCounter
from codejoule.measurement.feed import Recording, load_recording, save_recording

GOLDEN = Path(__file__).parents[1] / "golden" / "h200_ledger.npz"
EDGES = ("begin", "end")


def part_of(meter: Meter, begin_s: float, end_s: float, *, length_s: float = 0.9) -> EnergyReading:
    with meter, meter.window("batch") as window:
        time.sleep(length_s)
        window.mark_part(EDGES, begin_s, end_s)
    return window.reading


def test_of_a_recorded_card_under_steady_load_a_part_has_its_power_times_its_time(
    tmp_path: Path,
) -> None:
    whole = load_recording(GOLDEN)
    begin_s, _ = whole.about["steady_spans"][0][1:]
    heavy = whole.records[whole.records["after_s"] > whole.records["after_s"][0] + begin_s]
    save_recording(tmp_path / "heavy.npz", Recording(heavy, whole.devices, whole.about))
    meter = open_meter(MeterConfig(name=MeterName.replay, recording=str(tmp_path / "heavy.npz")))
    reading = part_of(meter, 0.3, 0.8)
    part_j = reading.energy_at_marks_j["end"] - reading.energy_at_marks_j["begin"]
    assert reading.marks_s == {"begin": 0.3, "end": 0.8}
    assert part_j == pytest.approx(0.5 * whole.about["steady_w"]["heavy"], rel=0.05)


def stepped(period_s: float) -> Meter:
    """A meter of something that draws 10 W, and 30 W from 0.4 s on."""
    opened_s = perf_counter()

    def read_j() -> Mapping[str, float]:
        now_s = perf_counter() - opened_s
        return {"cpu:0": 10 * now_s + 20 * max(0.0, now_s - 0.4)}

    counter = CumulativeCounter(read_j, source=EnergySource.rapl, scope=EnergyScope.cpu)
    return Meter(counter, sample_period_s=period_s, idle_s=0)


def test_a_counter_that_is_read_meanwhile_knows_the_energy_of_a_part() -> None:
    reading = part_of(stepped(0.01), 0.2, 0.8)
    part_j = reading.energy_at_marks_j["end"] - reading.energy_at_marks_j["begin"]
    assert part_j == pytest.approx(10 * 0.6 + 20 * 0.4, rel=0.05)


def test_a_part_in_which_the_counter_was_not_read_has_no_energy() -> None:
    reading = part_of(stepped(30.0), 0.2, 0.8)
    assert reading.marks_s["end"] == 0.8 and not reading.energy_at_marks_j
