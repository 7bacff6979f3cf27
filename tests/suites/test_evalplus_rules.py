"""EvalPlus' rules, asked directly."""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.suites.evalplus_rules import _hash, agrees, check, read

AGREES: list[tuple[Any, Any, float]] = [
    (3, 3, 0),
    (3.0, 3, 0),
    (True, 1, 0),
    ({"a": 1}, Counter("a"), 0),
    (0.1 + 0.2, 0.3, 0),
    ([0.1 + 0.2, 1.0], [0.3, 1.0], 0),
    (1.00005, 1.0, 1e-4),
    ((1.00005, [2.0]), (1.0, [2.00005]), 1e-4),
    (5, 6, 1),
    (1e9 + 50, 1e9, 0),
    (math.inf, math.inf, 0),
    (1 + 1.00005j, 1 + 1j, 1e-4),
]

DIFFERS: list[tuple[Any, Any, float]] = [
    (3, 4, 0),
    ([1, 2], (1, 2), 0),
    ("3", 3, 0),
    (None, 0, 0),
    (1.00001, 1.0, 0),
    ([0.1 + 0.2, 1], [0.3, 2], 0),
    ([0.1 + 0.2, "a"], [0.3, "a"], 0),
    ((0.1 + 0.2,), [0.3], 0),
    ([0.1, 0.2], [0.1], 0),
    ([0.1], [0.1, 0.2], 1e-4),
    (1, 1.00005, 1e-4),
    ({"a": 1.00005}, {"a": 1.0}, 1e-4),
    (1.0, math.inf, 1e-4),
    (math.nan, math.nan, 1e-4),
    ([1.0, [2.0]], [1.0, 2.0], 1e-4),
]


@pytest.mark.parametrize(("got", "wanted", "atol"), AGREES)
def test_equal_or_near_enough_agrees(got: Any, wanted: Any, atol: float) -> None:
    assert agrees(got, wanted, [], atol=atol)


@pytest.mark.parametrize(("got", "wanted", "atol"), DIFFERS)
def test_another_value_type_or_shape_does_not_agree(got: Any, wanted: Any, atol: float) -> None:
    assert not agrees(got, wanted, [], atol=atol)


@pytest.mark.parametrize(
    ("rule", "arguments", "wanted", "right", "wrong"),
    [
        ("mbpp.similar_elements", [], (4, 5), [[5, 4], (4, 5, 5)], [(4,), (4, 5, 6)]),
        ("mbpp.check_str", [], True, ["match", True, 0], [None, False]),
        ("mbpp.check_str", [], False, [None, False], ["match", True]),
        ("mbpp.are_equivalent", [], True, [False, None], []),
        ("mbpp.sum_div", [], 7, [7, 0], [8]),
        ("mbpp.surface_Area", [3, 4], 33, [33, 35], [34, 0]),
        ("mbpp.digit_distance_nums", [23, 156], 6, [6, 7], [5]),
        ("humaneval.find_zero", [[-6, 11, -6, 1]], 1.0, [1.0, 2.0, 3.0, 3], [1.5, 0.0]),
    ],
)
def test_some_functions_have_rules_of_their_own(
    rule: str, arguments: list[Any], wanted: Any, right: list[Any], wrong: list[Any]
) -> None:
    atol = 1e-4 if rule.startswith("humaneval") else 0
    for got in right:
        assert agrees(got, wanted, arguments, atol=atol, rule=rule), got
    for got in wrong:
        assert not agrees(got, wanted, arguments, atol=atol, rule=rule), got


def test_a_rule_holds_for_its_benchmark_alone() -> None:
    assert not agrees([5, 4], [4, 5], [], atol=0, rule="humaneval.similar_elements")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(VALUES, VALUES)
def test_hashes_are_the_same_for_what_is_equal_and_else_differ(one: Any, other: Any) -> None:
    assert (_hash(one) == _hash(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [([1, 2.0, True], [1.0, 2, 1]), ({"b": 1, "a": [2]}, {"a": [2.0], "b": 1}), ({1, 2}, {2, 1})],
)
def test_equal_values_of_other_types_and_orders_share_their_hash(one: Any, other: Any) -> None:
    assert _hash(one) == _hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [([1, 2], (1, 2)), ([[1]], [(1,)]), ([-1, 0], [-2, 0]), ([(-1,), {}], [(-2,), {}]), (-1, -2)],
)
def test_lists_are_no_tuples_and_minus_one_is_not_minus_two(one: Any, other: Any) -> None:
    assert _hash(one) != _hash(other)


def recorded(capsys: pytest.CaptureFixture[str], output: Any, *, atol: float = 0) -> str:
    check(output, "[]", "?", atol=atol, rule="")
    return capsys.readouterr().out.removeprefix("\noutput ").strip()


@pytest.mark.parametrize(
    "output", [3, "text", (1, [2, {3}]), None, 1.5, list(range(5000)), "x" * 5000, [0.5] * 5000]
)
def test_what_is_recorded_passes_and_anything_else_fails(
    capsys: pytest.CaptureFixture[str], output: Any
) -> None:
    expected = recorded(capsys, output)
    check(output, "[]", expected, atol=0, rule="")
    with pytest.raises(AssertionError, match=r"not .*, for \[\]"):
        check([output], "[]", expected, atol=0, rule="")


def test_large_outputs_are_recorded_by_their_hash_unless_a_tolerance_applies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert recorded(capsys, list(range(5000))).startswith("#")
    assert not recorded(capsys, list(range(5000)), atol=1e-4).startswith("#")
    near = recorded(capsys, [0.3] * 5000)
    check([0.1 + 0.2] * 5000, "[]", near, atol=0, rule="")


def test_arguments_are_made_anew_and_may_be_infinite() -> None:
    text = "[[1, -inf], {'a': (2,)}]"
    first = read(text)
    first[0].append(5)
    assert read(text) == [[1, -math.inf], {"a": (2,)}]
