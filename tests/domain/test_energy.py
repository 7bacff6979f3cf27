from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.domain import (
    Pace,
    Slice,
    attribute_energy,
    attribute_slices,
    later_prefill,
    prefill_part,
)

sequences = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 1300)), min_size=1, max_size=64)


def step_by_step(energy_j: float, output_tokens: list[int]) -> list[float]:
    """The decode rule, spelled out: every step's energy among those that still run."""
    steps = max(output_tokens)
    shares = [0.0] * len(output_tokens)
    for step in range(steps):
        running = [i for i, tokens in enumerate(output_tokens) if tokens > step]
        for i in running:
            shares[i] += energy_j / steps / len(running)
    return shares


@given(sequences, st.floats(0, 1e5), st.floats(0, 1))
def test_shares_add_up_to_the_batch(
    batch: list[tuple[int, int]], energy_j: float, prefill: float
) -> None:
    prompts, outputs = zip(*batch, strict=True)
    shares = attribute_energy(
        energy_j, prefill * energy_j, prompt_tokens=prompts, output_tokens=outputs
    )
    assert sum(shares) == pytest.approx(energy_j, rel=1e-9, abs=1e-9)
    assert min(shares) >= -1e-9 * energy_j


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(lambda x: max(x) > 0))
def test_decode_energy_is_divided_step_by_step_among_running_sequences(outputs: list[int]) -> None:
    shares = attribute_energy(100.0, None, prompt_tokens=[1] * len(outputs), output_tokens=outputs)
    assert shares == pytest.approx(step_by_step(100.0, outputs), rel=1e-9, abs=1e-9)


def test_the_prefill_makes_the_first_token_so_a_sequence_of_one_token_takes_no_decode_step() -> (
    None
):
    shares = attribute_energy(
        30.0,
        10.0,
        prompt_tokens=[1, 1, 3],
        output_tokens=[1, 3, 5],
    )
    # Four steps of 5 J: two of them shared by the second and third sequence, two the third's own.
    assert shares == pytest.approx((2.0, 2.0 + 5.0, 6.0 + 5.0 + 10.0))


def test_prefill_energy_follows_prompt_tokens() -> None:
    shares = attribute_energy(10.0, 8.0, prompt_tokens=[300, 100], output_tokens=[5, 5])
    assert shares == pytest.approx((7.0, 3.0))


def test_a_batch_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        attribute_energy(1.0, None, prompt_tokens=[], output_tokens=[])


spans = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda s: (s[0], s[0] + s[1])),
    min_size=1,
    max_size=12,
)


def step_by_step_in_spans(energy_j: float, given: list[tuple[int, int]]) -> list[float]:
    """Every busy step's energy among those that then run."""
    steps = [t for t in range(max(e for _, e in given)) if any(b <= t < e for b, e in given)]
    shares = [0.0] * len(given)
    for step in steps:
        running = [i for i, (begin, end) in enumerate(given) if begin <= step < end]
        for i in running:
            shares[i] += energy_j / len(steps) / len(running)
    return shares


@given(spans.filter(lambda given: any(end > begin for begin, end in given)))
def test_sequences_that_begin_at_different_steps_share_the_steps_they_run_in(
    given: list[tuple[int, int]],
) -> None:
    shares = attribute_energy(
        100.0,
        0.0,
        prompt_tokens=[1] * len(given),
        output_tokens=[end - begin + 1 for begin, end in given],
        spans=given,
    )
    assert shares == pytest.approx(step_by_step_in_spans(100.0, given), rel=1e-9, abs=1e-9)
    assert sum(shares) == pytest.approx(100.0)


def test_without_a_known_prefill_spans_have_it_inside_and_nothing_is_added() -> None:
    shares = attribute_energy(
        30.0,
        None,
        prompt_tokens=[5, 5],
        output_tokens=[40, 80],
        spans=[(0.0, 0.1), (0.0, 0.3)],  # seconds
    )
    # 100 J/s: the first tenth of a second shared, the rest the longer sequence's own.
    assert shares == pytest.approx((5.0, 25.0))


def test_a_span_that_ends_before_it_begins_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot end before it begins"):
        attribute_energy(
            1.0,
            0.5,
            prompt_tokens=[1],
            output_tokens=[1],
            spans=[(3, 2)],
        )


def test_the_prefill_of_a_window_is_all_of_its_prefills() -> None:
    begin, end = later_prefill(1)
    marks = {"first_token": 2.0, begin: 10.0, end: 13.0}
    assert prefill_part(marks, marks) == 5.0
    assert prefill_part({"first_token": 2.0}, ["first_token"]) == 2.0
    # A mark without a known energy, or a window without marks: not known, and not 0.
    assert prefill_part({"first_token": 2.0, begin: 10.0}, marks) is None
    assert prefill_part({}, []) is None


def paced(begin: float, first: float, end: float) -> Pace:
    return Pace.in_seconds(0.0, begin, first, end)


def attributed(slices: list[Slice], *, prompt_tokens: list[int], paces: list[Pace]) -> Any:
    """A row for each slice, with 0 where a sequence did not run in it."""
    shares = np.zeros((len(slices), len(paces)))
    told = attribute_slices(slices, prompt_tokens=prompt_tokens, paces=paces)
    for row, (ran, shares_j) in zip(shares, told, strict=True):
        row[ran] = shares_j
    return shares


def test_a_sequence_has_its_part_of_every_slice_that_it_ran_in() -> None:
    paces = [paced(0.0, 0.5, 2.0), paced(0.0, 0.5, 6.0), paced(2.0, 2.5, 6.0)]
    slices = [
        Slice(energy_j=40.0, prefill_j=None, end=2.0, end_s=2.0),
        Slice(energy_j=120.0, prefill_j=None, end=4.0, end_s=4.0),
        Slice(energy_j=60.0, prefill_j=None, end=6.0, end_s=6.0),
    ]
    shares = attributed(slices, prompt_tokens=[1, 1, 1], paces=paces)
    assert shares.tolist() == [[20.0, 20.0, 0.0], [0.0, 60.0, 60.0], [0.0, 30.0, 30.0]]


def test_a_prompt_is_paid_for_in_the_slice_in_which_it_was_read() -> None:
    paces = [paced(0.0, 0.5, 4.0), paced(2.0, 2.5, 4.0)]
    slices = [
        Slice(energy_j=30.0, prefill_j=10.0, end=2.0, end_s=2.0),
        Slice(energy_j=50.0, prefill_j=20.0, end=4.0, end_s=4.0),
    ]
    shares = attributed(slices, prompt_tokens=[100, 7], paces=paces)
    # The first alone; then 20 J for the second's prompt, 0.5 s of the first alone and 1.5 s of
    # both.
    assert shares[0].tolist() == [30.0, 0.0]
    assert shares[1].tolist() == pytest.approx([30 * 0.5 / 2 + 30 * 0.75 / 2, 20 + 30 * 0.75 / 2])


def test_one_slice_is_divided_as_a_window_is() -> None:
    paces = [paced(0.0, 0.5, 3.0), paced(1.0, 1.5, 4.0), paced(1.5, 2.0, 2.0)]
    spans = [(pace.begin, pace.end) for pace in paces]
    whole = attribute_energy(
        90.0, None, prompt_tokens=[1, 2, 3], output_tokens=[9, 9, 1], spans=spans
    )
    (shares,) = attributed(
        [Slice(energy_j=90.0, prefill_j=None, end=4.0, end_s=4.0)],
        prompt_tokens=[1, 2, 3],
        paces=paces,
    )
    assert shares.tolist() == pytest.approx(whole)


def test_a_slice_of_its_own_moment_goes_to_what_has_ended_just_before() -> None:
    paces = [paced(0.0, 0.5, 1.9), paced(0.0, 0.5, 1.8)]
    slices = [
        Slice(energy_j=40.0, prefill_j=None, end=2.0, end_s=2.0),
        Slice(energy_j=1.0, prefill_j=None, end=2.1, end_s=2.1),
    ]
    shares = attributed(slices, prompt_tokens=[1, 1], paces=paces)
    assert shares[1].tolist() == [1.0, 0.0] and shares.sum() == pytest.approx(41.0)


def test_a_slice_that_begins_with_a_prefill_or_has_none_tells_its_part() -> None:
    begin, end = later_prefill(3)
    assert prefill_part({begin: 2.0, end: 5.0}, [begin, end], opens=False) == 3.0
    assert prefill_part({end: 5.0}, [begin, end], opens=False) == 5.0
    assert prefill_part({}, [], opens=False) == 0.0
    assert prefill_part({}, [begin, end], opens=False) is None
