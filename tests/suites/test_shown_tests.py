"""Which tests a model may be shown: in every format, and by the sandbox's verdicts."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codejoule.config import ConfigError
from codejoule.config.schema import EvaluatorConfig, SuiteConfig
from codejoule.domain import EXPECTED_OUTPUT, Status, Suite, Task
from codejoule.evaluation import Sample, canonical_sample, judge, with_expected_outputs
from codejoule.evaluation.sample import expected_test_ids
from codejoule.suites import load_suite, split_tests
from codejoule.suites.evalplus import run_program, split_inputs

DATA = Path(__file__).parent / "data"

TWO = """\
import unittest

class Base(unittest.TestCase):
    def test_sum(self):
        self.assertEqual(f(1), 2)

class TestCases(Base):
    def setUp(self):
        self.one = 1

    @unittest.skipIf(False,
                     "never")
    def test_again(self):
        text = '''
        of two lines'''
        self.assertEqual(f(self.one), 2)
"""


def own(tmp_path: Path, *tests: str, **settings: Any) -> Suite:
    row = {
        "complete_prompt": "def f(x):\n", "instruct_prompt": "Add one.", "entry_point": "f",
        "canonical_solution": "    return x + 1\n", "code_prompt": "def f(x):\n",
    }  # fmt: skip
    rows = [row | {"task_id": f"Own/{n}", "test": test} for n, test in enumerate(tests)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_suite(SuiteConfig(name="own", path=str(tmp_path / "own.jsonl"), **settings))


def bundled(schema: str, shown: int | None) -> tuple[Task, ...]:
    file = "mbpp_plus_hub" if schema == "mbpp_plus" else schema
    return load_suite(
        SuiteConfig(name="own", path=str(DATA / f"{file}.jsonl"), format=schema, shown_tests=shown)
    ).tasks


def test_the_first_tests_of_the_source_are_shown_and_the_others_judge(tmp_path: Path) -> None:
    (task,) = own(tmp_path, TWO, shown_tests=1).tasks
    assert expected_test_ids(task.shown_test) == {"test_sum"}
    assert expected_test_ids(task.test) == {"test_again"}
    assert "def setUp" in task.shown_test and "def setUp" in task.test, "set-up is in both"
    assert "of two lines" not in task.shown_test
    assert task.shown_test.count("\n") == task.test.count("\n") == TWO.count("\n")
    for part in (task.shown_test, task.test):
        compile(part, "tests.py", "exec")


def test_the_sandbox_judges_by_each_part_alone(tmp_path: Path) -> None:
    first, second = "self.assertEqual(f(1), 2)", "self.assertEqual(f(2), 3)"
    case = "import unittest\nclass TestCases(unittest.TestCase):\n"
    test = (
        f"{case}    def test_a(self):\n        {first}\n    def test_b(self):\n        {second}\n"
    )
    (task,) = own(tmp_path, test, shown_tests=1).tasks
    only_first = "def f(x):\n    return 2\n"
    samples = [
        Sample.shown_part_of(task, only_first),
        Sample.of(task, only_first),
        canonical_sample(task),
    ]
    shown, hidden, right = judge(samples, config=EvaluatorConfig(workers=1), timeout_s=10)
    assert (shown.status, shown.tests) == (Status.passed, {"test_a": "pass"})
    assert (hidden.status, hidden.tests) == (Status.failed, {"test_b": "fail"})
    assert right.status is Status.passed


def test_humanevals_assertions_are_its_tests() -> None:
    (whole, *_), (task, *_) = bundled("humaneval", None), bundled("humaneval", 1)
    assert whole.test.count("assert ") == task.test.count("assert ") + 1
    assert task.shown_test.count("assert ") == 1
    assert "check(" in task.test and "check(" in task.shown_test


def test_what_asserts_nothing_is_no_test(tmp_path: Path) -> None:
    check = """\
import unittest
def check(candidate):
    assert True, "This prints if this assert fails"
    for x in range(3):
        assert candidate(x) == x + 1
    y = candidate(5)
    assert y == 6

class TestCases(unittest.TestCase):
    def test_check(self):
        check(f)
"""
    (task,) = own(tmp_path, check, shown_tests=1).tasks
    assert "range(3)" in task.shown_test and "y == 6" not in task.shown_test
    assert "range(3)" not in task.test and "y = candidate(5)\n    assert y == 6" in task.test
    assert "assert True" in task.test


def test_mbpps_prompt_has_the_shown_assertions_alone() -> None:
    (whole, *_), (task, *_) = bundled("mbpp", None), bundled("mbpp", 1)
    first, *others = [line for line in whole.complete_prompt.splitlines() if "assert" in line]
    assert others and first in task.complete_prompt and first in task.instruct_prompt
    for hidden in others:
        assert hidden not in task.complete_prompt + task.instruct_prompt + task.shown_test
        assert hidden in task.test


@pytest.mark.parametrize("schema", ["humaneval_plus", "mbpp_plus"])
def test_of_evalpluss_tests_some_base_inputs_are_shown(schema: str, tmp_path: Path) -> None:
    row = json.loads((DATA / f"{schema}.jsonl").read_text().splitlines()[0])
    row["base_input"] += row["plus_input"]
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row))
    config = SuiteConfig(name="own", path=str(path), format=schema, shown_tests=1)
    (task,) = load_suite(config).tasks
    assert task.shown_test.count(EXPECTED_OUTPUT) == 1
    assert task.test.count(EXPECTED_OUTPUT) == len(row["base_input"]) - 1 > 0
    assert task.plus_test.count(EXPECTED_OUTPUT) == len(row["plus_input"])
    shown, hidden, right = judge_release(task)
    assert [v.status for v in (shown, hidden, right)] == [Status.passed] * 3


def judge_release(task: Task) -> list[Any]:
    config, canonical = EvaluatorConfig(workers=1), canonical_sample(task)
    samples = with_expected_outputs(
        [Sample.shown_part_of(task, canonical.solution), Sample.of(task, canonical.solution),
         canonical],
        config=config, timeout_s=20,
    )  # fmt: skip
    return judge(samples, config=config, timeout_s=20)


def test_the_hubs_results_stay_with_their_inputs() -> None:
    program = "def check(candidate):\n    inputs = [[1], [2], [3]][:2]\n    results = [2, 3, 4]\n"
    parts = split_inputs(run_program("base", program), 1)
    assert parts is not None
    assert "inputs = [[1], [2], [3]][:1]\\n    results = [2, 3, 4]\\n" in parts[0]
    assert "inputs = [[1], [2], [3]][1:2]\\n    results = [2, 3, 4][1:]\\n" in parts[1]
    assert split_inputs(run_program("base", program), 2) is None, "nothing would be left to judge"


def test_a_task_of_one_test_keeps_it_hidden_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = TWO.replace("def test_sum", "def sum")
    with caplog.at_level(logging.WARNING):
        whole, parted = own(tmp_path, one, TWO, shown_tests=1).tasks
    assert (whole.shown_test, whole.test) == ("", one)
    assert parted.shown_test
    assert "suite.shown_tests=1: 1 of 2 tasks have none to show" in caplog.text
    assert "Own/0; all of their tests stay hidden" in caplog.text


def test_a_suite_of_which_nothing_can_be_shown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        own(tmp_path, TWO, shown_tests=2)
    assert str(caught.value).startswith(
        "suite.shown_tests=2: no task has tests to show and others to be judged by (too few tests"
    )


def test_tests_that_do_not_come_apart_are_left_whole(tmp_path: Path) -> None:
    (task,) = own(tmp_path, TWO).tasks
    calling = TWO.replace("self.assertEqual(f(self.one), 2)", "self.test_sum()")
    assert calling != TWO
    assert split_tests(replace(task, test=calling), 1) is None
    assert split_tests(replace(task, test="def test("), 1) is None


def test_the_checksum_tells_which_tests_judge(tmp_path: Path) -> None:
    whole, parted = own(tmp_path, TWO), own(tmp_path, TWO, shown_tests=1)
    assert whole.checksum != parted.checksum


def test_every_bundled_task_can_show_a_test() -> None:
    for name in ("starter", "starter_large"):
        tasks = load_suite(SuiteConfig(name=name, shown_tests=1)).tasks
        assert all(task.shown_test for task in tasks)
