"""Why the energy of a run may not be what it seems."""

import math
from typing import Any

import pytest

from codejoule.domain import (
    Doubt,
    EnergyReading,
    EnergyScope,
    EnergySource,
    doubts,
    read_validity,
    validity,
)


def reading(energy_j: float = 100.0, **changes: Any) -> EnergyReading:
    usual = {"source": EnergySource.nvml, "scope": EnergyScope.gpu, "uncertainty_j": 0.5}
    return EnergyReading(
        name="batch", start_s=0.0, latency_s=1.0, energy_j=energy_j, **(usual | changes)
    )


def test_a_metered_run_by_itself_is_ok() -> None:
    assert validity(doubts([reading(), reading()])) == "ok"


def test_every_doubt_is_in_the_tag_and_comes_back_from_it() -> None:
    found = doubts(
        [reading(doubts=(Doubt.throttled,)), reading(math.nan, doubts=(Doubt.shared_gpu,))],
        crosscheck_differs=True,
        concurrent=True,
        reduced_batch=True,
    )
    text = validity(found)
    assert text == "throttled,shared_gpu,concurrent,too_short,crosscheck,reduced_batch"
    assert read_validity([text, "ok", None]) == found


def test_an_estimate_and_a_recording_are_no_measurements() -> None:
    for source in (EnergySource.estimate, EnergySource.replay):
        found = doubts([reading(source=source, uncertainty_j=None)])
        assert [doubt.value for doubt in found] == [source.value]


@pytest.mark.parametrize(("windows", "short"), [(1, True), (9, False)])
def test_windows_whose_uncertainty_adds_up_to_little_are_long_enough(
    windows: int, short: bool
) -> None:
    """5 % of each; of nine together 1.7 %."""
    found = doubts([reading(uncertainty_j=5.0)] * windows)
    assert (Doubt.too_short in found) is short


def test_every_doubt_has_words() -> None:
    assert all(doubt.words for doubt in Doubt)


def test_a_reason_of_a_later_version_is_left_out() -> None:
    assert read_validity(["throttled,solar_flare"]) == (Doubt.throttled,)
