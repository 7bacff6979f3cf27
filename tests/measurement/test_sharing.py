import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codejoule.domain import EnergyReading, EnergyScope, EnergySource
from codejoule.measurement import share_evaluation_energy


def _reading(energy_j: float, source: EnergySource = EnergySource.rapl) -> EnergyReading:
    return EnergyReading(
        name="evaluation",
        source=source,
        scope=EnergyScope.cpu,
        start_s=0.0,
        latency_s=1.0,
        energy_j=energy_j,
    )


@settings(deadline=None)
@given(
    st.floats(1e-6, 1e6),
    st.lists(st.floats(0, 1e4), min_size=1, max_size=50),
)
def test_measured_shares_add_up_to_the_window(energy_j: float, cpu_s: list[float]) -> None:
    shares, source = share_evaluation_energy(_reading(energy_j), cpu_s, watts_per_core=3.5)
    assert source is EnergySource.rapl
    known = [share for share in shares if share is not None]
    assert math.fsum(known) == pytest.approx(energy_j, rel=1e-6)
    assert min(known) > 0


def test_measured_shares_follow_cpu_time() -> None:
    assert share_evaluation_energy(_reading(8.0), [1.0, 3.0], watts_per_core=3.5)[0] == [2.0, 6.0]
    assert share_evaluation_energy(_reading(8.0), [0.0, 0.0], watts_per_core=3.5)[0] == [4.0, 4.0]


@pytest.mark.parametrize("reading", [None, _reading(99.0, EnergySource.estimate)])
def test_estimated_shares_are_cpu_time_times_watts(reading: EnergyReading | None) -> None:
    shares, source = share_evaluation_energy(reading, [1.0, 0.5], watts_per_core=4.0)
    assert shares == [4.0, 2.0]
    assert source is EnergySource.estimate


def test_a_sample_that_ran_on_no_cpu_time_has_no_energy_instead_of_zero() -> None:
    assert share_evaluation_energy(None, [0.0, 2.0], watts_per_core=3.5)[0] == [None, 7.0]
    assert share_evaluation_energy(_reading(8.0), [0.0, 2.0], watts_per_core=3.5)[0] == [None, 8.0]
    short = _reading(math.nan)
    assert share_evaluation_energy(short, [0.0, 2.0], watts_per_core=3.5)[0] == [None, None]


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_impossible_cpu_time_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="CPU time of a sample"):
        share_evaluation_energy(None, [1.0, bad], watts_per_core=3.5)
