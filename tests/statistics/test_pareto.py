"""The efficient frontier."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.statistics import pareto_front

GOLDEN = Path(__file__).parents[1] / "golden" / "thesis_results.csv"

POINTS = st.lists(
    st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), min_size=1, max_size=12
)


def test_front_of_the_thesis_configurations():
    with GOLDEN.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25
    front = pareto_front(
        [float(r["energy_kwh"]) for r in rows], [float(r["pass_at_1"]) for r in rows]
    )
    assert {r["model"].removeprefix("Qwen2.5-") for r, on in zip(rows, front, strict=True) if on} == {
        "0.5B-Instruct-GPTQ-Int8", "0.5B", "1.5B-Instruct-GPTQ-Int4", "3B-Instruct-AWQ",
        "3B-Instruct-GPTQ-Int4", "3B-Instruct-GPTQ-Int8", "7B-Instruct-AWQ",
        "7B-Instruct-GPTQ-Int4", "14B-Instruct-GPTQ-Int4", "14B-Instruct-GPTQ-Int8",
    }  # fmt: skip


@given(POINTS)
def test_a_point_is_on_the_front_exactly_when_none_beats_it(points):
    front = pareto_front([e for e, _ in points], [a for _, a in points])
    for on, (e, a) in zip(front, points, strict=True):
        beaten = any(f <= e and b >= a and (f < e or b > a) for f, b in points)
        assert on == (not beaten)


def test_equal_points_are_kept_together():
    assert pareto_front([1.0, 1.0, 2.0], [0.5, 0.5, 0.5]).tolist() == [True, True, False]


def test_unknown_figures_are_not_on_the_front_and_beat_nobody():
    front = pareto_front([np.nan, 1.0, 0.5], [0.9, np.nan, 0.4])
    assert front.tolist() == [False, False, True]


def test_energy_and_accuracy_must_match():
    with pytest.raises(ValueError, match=r"energy \(2,\) and accuracy \(1,\)"):
        pareto_front([1.0, 2.0], [0.5])
