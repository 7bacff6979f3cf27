"""EvalPlus' formats, in both layouts; the sandbox is not asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError
from codejoule.config.schema import SuiteConfig
from codejoule.domain import EXPECTED_OUTPUT, Suite
from codejoule.suites import load_suite
from codejoule.suites.formats import mbpp_plus

DATA = Path(__file__).parent / "data"


def rows(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{file}.jsonl").read_text().splitlines()]


def load(tmp_path: Path, schema: str, *content: dict[str, Any]) -> Suite:
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return load_suite(SuiteConfig(name="own", path=str(tmp_path / "own.jsonl"), format=schema))


@pytest.mark.parametrize("schema", ["humaneval_plus", "mbpp_plus"])
def test_each_input_of_the_release_waits_for_one_expected_output(
    tmp_path: Path, schema: str
) -> None:
    content = rows(schema)
    for task, row in zip(load(tmp_path, schema, *content).tasks, content, strict=True):
        assert task.test.count(EXPECTED_OUTPUT) == len(row["base_input"])
        assert task.plus_test.count(EXPECTED_OUTPUT) == len(row["plus_input"])
        assert row["canonical_solution"].strip() not in task.test + task.plus_test


def test_the_prompts_are_evalpluss(tmp_path: Path) -> None:
    released = rows("mbpp_plus")[0]
    (task,) = load(tmp_path, "mbpp_plus", released).tasks
    assert task.complete_prompt == released["prompt"]
    assert task.instruct_prompt.splitlines()[0].startswith("Write a function to find the values")
    assert task.instruct_prompt.endswith("The function must be named similar_elements.")
    (hub,) = load(tmp_path, "mbpp_plus", rows("mbpp_plus_hub")[0]).tasks
    assert hub.complete_prompt == (
        '"""\nWrite a function that tells whether a number is even.\n'
        'assert is_even(2) == True\n"""\n'
    )


def test_the_hubs_rows_are_parted_where_humanevals_own_inputs_end(tmp_path: Path) -> None:
    (task, root) = load(tmp_path, "humaneval_plus", *rows("humaneval_plus_hub")).tasks
    assert "inputs = [[[5, 1, 2]], [[]], [[4]], [[9, -9]]][:1]" in task.test
    assert "inputs = [[[5, 1, 2]], [[]], [[4]], [[9, -9]]]\\n" in task.plus_test
    assert "abs(_poly(*inp, candidate(*inp)))" in root.plus_test


@pytest.mark.parametrize(
    "cells",
    [
        {"task_id": "HumanEval/164"},
        {"task_id": "Own/1"},
        {"test": "def check(candidate):\n    assert candidate([]) == 0\n"},
    ],
)
def test_a_row_that_does_not_tell_its_base_tests_is_refused(
    tmp_path: Path, cells: dict[str, str]
) -> None:
    row = rows("humaneval_plus_hub")[0] | cells
    with pytest.raises(ConfigError, match=r"choose suite\.format=humaneval, whose pass@1 is over"):
        load(tmp_path, "humaneval_plus", row)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"atol": "0"}, "atol must be a number, not str"),
        ({"base_input": [1]}, "base_input must be a list of lists of arguments, not a list of 1"),
        ({"plus_input": "[]"}, "plus_input must be a list of lists of arguments, not str"),
    ],
)
@pytest.mark.parametrize("schema", ["humaneval_plus", "mbpp_plus"])
def test_a_faulty_row_of_the_release_is_refused(
    tmp_path: Path, schema: str, cells: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, schema, rows(schema)[0] | cells)


@pytest.mark.parametrize(
    ("task", "arguments", "expected"),
    [
        (2, [[3, 4], [5]], [(3, 4), (5,)]),
        (63, [[[1, 2], [3]]], [[(1, 2), (3,)]]),
        (75, [[[1, 2]], 6], [[(1, 2)], 6]),
        (106, [[1], [2, 3]], [[1], (2, 3)]),
        (115, [[[1, 1], []]], [[{1}, {}]]),
        (124, [0, "1j"], [0.0, 1j]),
        (250, [[1, 2], [1]], [(1, 2), [1]]),
        (252, ["1"], [1 + 0j]),
        (259, [[[1, 2]], [[3]]], [((1, 2),), ((3,),)]),
        (278, [[1, [2, [3]]]], [(1, (2, [3]))]),
        (307, [["a", []], 1, 50], [("a", []), 1, 50]),
        (580, [[1, [2, [3]]]], [(1, (2, (3,)))]),
        (722, [{"a": [1, 2]}, 3, 4], [{"a": (1, 2)}, 3, 4]),
        (3, [[1, [2]]], [[1, [2]]]),
    ],
)
def test_what_json_cannot_write_is_turned_back(
    task: int, arguments: list[Any], expected: list[Any]
) -> None:
    (turned,) = mbpp_plus._arguments(f"Mbpp/{task}", [arguments])
    assert repr(turned) == repr(expected)
    (own,) = mbpp_plus._arguments(f"Own/{task}", [arguments])
    assert own == arguments, "only MBPP's own tasks are known"
