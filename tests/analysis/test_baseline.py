"""Whether two runs gave the same texts."""

import json

import pytest

from codejoule.analysis.baseline import count_same_texts, read_texts


def test_tasks_are_counted_whose_samples_are_all_the_same():
    a = {("x", 0): "1", ("x", 1): "2", ("y", 0): "3", ("y", 1): "4"}
    assert count_same_texts(a, a | {("x", 1): "other"}) == (1, 2)


def test_different_tasks_are_not_compared():
    with pytest.raises(ValueError, match="do not hold the same samples: 1 and 2, 1 of them"):
        count_same_texts({("a", 0): ""}, {("a", 0): "", ("b", 0): ""})
    with pytest.raises(ValueError, match="do not hold the same samples: 0 and 0"):
        count_same_texts({}, {})


def test_samples_are_numbered_by_their_order(tmp_path):
    rows = [
        {"task_id": "a", "solution": "s0", "raw_solution": "r0"},
        {"task_id": "b", "solution": "s"},
        {"task_id": "a", "solution": "s1", "raw_solution": "r1"},
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_texts(tmp_path / "s.jsonl") == {("a", 0): "r0", ("a", 1): "r1", ("b", 0): "s"}
