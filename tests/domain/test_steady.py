"""When all slots of an engine were busy, and what was generated then, against paces made by hand."""

from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import pytest

from codejoule.domain import EnergyReading, EnergyScope, EnergySource, Pace
from codejoule.domain.metrics import RunFacts, WindowFacts, run_metrics
from codejoule.domain.steady import steady_state, tokens_between
from tests.domain.test_metrics import record


def pace(begun_s: float, first_s: float, ended_s: float, arrived_s: float | None = None) -> Pace:
    return Pace.in_seconds(100.0, 100 + begun_s, 100 + first_s, 100 + ended_s, arrived_s=arrived_s)


TWO_SLOTS = [
    pace(0.0, 0.5, 2.0),
    pace(0.0, 0.6, 3.0),
    pace(2.1, 2.3, 5.0),  # takes the place of the first, 0.1 s later
    pace(3.0, 3.2, 6.0),
]


def test_slots_are_busy_from_their_first_tokens_until_nothing_waits_for_one_that_is_free() -> None:
    assert steady_state(TWO_SLOTS, slots=2) == pytest.approx((0.6, 5.0))


def test_as_many_requests_as_slots_are_steady_until_the_first_ends() -> None:
    assert steady_state(TWO_SLOTS[:2], slots=2) == pytest.approx((0.6, 2.0))


def test_one_slot_is_busy_from_its_first_token_to_the_last() -> None:
    line = [pace(n, n + 0.2, n + 1.0) for n in range(4)]
    assert steady_state(line, slots=1) == pytest.approx((0.2, 4.0))


@pytest.mark.parametrize(
    "paces",
    [
        TWO_SLOTS[:1],
        [replace(each, begun_s=None) for each in TWO_SLOTS],
    ],
    ids=["fewer requests than slots", "no seconds"],
)
def test_there_is_no_steady_state(paces: list[Pace]) -> None:
    assert steady_state(paces, slots=2) is None


def test_of_arriving_requests_the_longest_busy_time_counts_and_a_lull_is_none_of_it() -> None:
    paces = [
        pace(0.0, 0.1, 1.0, arrived_s=0.0),
        pace(0.2, 0.3, 1.2, arrived_s=0.2),  # both busy from 0.3 to 1.0
        pace(5.0, 5.1, 7.0, arrived_s=5.0),
        pace(5.5, 5.7, 8.0, arrived_s=5.5),  # both busy from 5.7 on
        pace(7.0, 7.2, 9.0, arrived_s=6.0),  # queues until a slot is free
    ]
    assert steady_state(paces, slots=2) == pytest.approx((5.7, 8.0))


def test_tokens_are_spread_evenly_from_the_first_to_the_last() -> None:
    paces = [pace(0.0, 1.0, 3.0), pace(0.0, 0.5, 0.5), pace(1.0, 2.5, 2.5)]
    count = [5, 1, 1]
    # A first token falls at its moment: that of the first sequence before the part that begins
    # with it, that of the third inside.
    assert tokens_between(paces, count, [(1.0, 3.0), (0.75, 2.0)]) == pytest.approx([5, 3])
    cuts = [-1.0, 0.5, 0.9, 1.0, 1.7, 2.5, 2.6, 9.0]
    parts = tokens_between(paces, count, list(pairwise(cuts)))
    assert sum(parts) == pytest.approx(sum(count))
    assert list(accumulate(parts))[1] == pytest.approx(1)


def window(
    energy_j: float, latency_s: float, paces: list[Pace], steady_tokens: float | None = None
) -> WindowFacts:
    return WindowFacts(
        reading=EnergyReading(
            name="batch", source=EnergySource.nvml, scope=EnergyScope.gpu, start_s=0.0,
            latency_s=latency_s, energy_j=energy_j,
        ),
        output_tokens=(16, 25, 28, 15)[: len(paces)],
        paces=tuple(paces),
        steady_tokens=steady_tokens,
    )  # fmt: skip


def figures(*windows: WindowFacts) -> dict[str, float]:
    records = [record(str(n), tokens) for n, tokens in enumerate(
        tokens for each in windows for tokens in each.output_tokens
    )]  # fmt: skip
    return run_metrics(records, RunFacts(windows=windows), rng=np.random.default_rng(0))


def test_a_runs_steady_figures_are_those_of_the_windows_that_lie_within_a_steady_state() -> None:
    first = window(600.0, 6.0, TWO_SLOTS, steady_tokens=80.0)
    second = window(200.0, 3.0, TWO_SLOTS[:1], steady_tokens=20.0)
    drained = window(400.0, 6.0, TWO_SLOTS[:1])
    found = figures(first, second, drained)
    assert found["throughput_steady_tokens_per_s"] == pytest.approx(100 / 9.0)
    assert found["energy_per_output_token_steady_j"] == pytest.approx(800 / 100)
    assert found["throughput_tokens_per_s"] == pytest.approx((84 + 16 + 16) / 15)


def test_without_a_steady_state_or_its_energy_the_figures_are_absent() -> None:
    unresolved = figures(window(float("nan"), 1.0, TWO_SLOTS, steady_tokens=80.0))
    assert "energy_per_output_token_steady_j" not in unresolved
    assert unresolved["throughput_steady_tokens_per_s"] > 0
    assert not [name for name in figures(window(9.0, 1.0, TWO_SLOTS)) if "steady" in name]


def test_percentiles_are_over_sequences_and_count_the_time_in_the_queue() -> None:
    paces = [pace(0.0, 0.1 * n, 0.1 * n + 1.0) for n in range(1, 101)]
    late = pace(5.0, 5.5, 7.5, arrived_s=3.0)
    reading = window(600.0, 6.0, TWO_SLOTS).reading
    facts = RunFacts(
        windows=(
            WindowFacts(reading=reading, output_tokens=(11,) * 100, paces=tuple(paces)),
            WindowFacts(reading=reading, output_tokens=(5,), paces=(late,)),
        )
    )
    records = [record(str(n), 11 if n < 100 else 5) for n in range(101)]
    found = run_metrics(records, facts, rng=np.random.default_rng(0))
    ttfts_s = [0.1 * n for n in range(1, 101)] + [2.5]
    assert late.latency_s == pytest.approx(4.5)
    for percent in (50, 90, 99):
        assert found[f"ttft_p{percent}_s"] == pytest.approx(np.percentile(ttfts_s, percent))
        assert found[f"tpot_p{percent}_s"] == pytest.approx(0.1)
    # 100 latencies from 1.1 to 11 s, and one of 4.5 s.
    assert found["latency_p50_s"] == pytest.approx(6.0)
