"""EvalPlus' formats in the sandbox: base and further tests, and what they expect."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codejoule.cli import main
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Status, Task, Verdict
from codejoule.evaluation import (
    Sample,
    canonical_sample,
    check_ground_truth,
    judge,
    with_expected_outputs,
)
from codejoule.evaluation.resume import judge_each as asked
from codejoule.suites import load_suite_named

DATA = Path(__file__).parents[1] / "suites" / "data"
LAYOUTS = ("humaneval_plus", "humaneval_plus_hub", "mbpp_plus", "mbpp_plus_hub")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tasks_of(file: str) -> dict[str, Task]:
    return {task.entry_point: task for task in load_suite_named(str(DATA / f"{file}.jsonl")).tasks}


def verdicts_on(samples: list[Sample], *, timeout_s: float = 10, **settings: Any) -> list[Verdict]:
    config = EvaluatorConfig(workers=2, **settings)
    ready = with_expected_outputs(samples, config=config, timeout_s=timeout_s)
    return judge(ready, config=config, timeout_s=timeout_s)


def outcome(verdict: Verdict) -> tuple[str | None, str, str]:
    return (verdict.base and verdict.base.value, verdict.status.value, verdict.reason)


PASSES = ("pass", "pass", "pass")
ONLY_BASE = ("pass", "fail", "plus fail")
NEITHER = ("fail", "fail", "fail")


def test_canonical_solutions_pass_and_what_fails_further_tests_is_told_apart() -> None:
    gap = "def widest_gap(values):\n    return "
    programs = {
        "humaneval_plus": [
            ("widest_gap", gap + "3.0", ONLY_BASE),
            ("widest_gap", gap + "[3]", NEITHER),
            ("mean_of", "def mean_of(v):\n    return 1.5", ONLY_BASE),
            ("mean_of", "def mean_of(v):\n    return sum(v) / len(v) + 1e-9", PASSES),
        ],
        "humaneval_plus_hub": [
            ("widest_gap", gap + "3", ONLY_BASE),
            ("widest_gap", gap + "4", NEITHER),
            ("find_zero", "def find_zero(xs):\n    return min(-xs[0], 99.0)", ONLY_BASE),
        ],
        "mbpp_plus": [
            ("similar_elements", "similar_elements = lambda a, b: [5, 4, 4]", ONLY_BASE),
            ("similar_elements", "def similar_elements(a, b):\n    return set(a) & set(b)", PASSES),
            ("check", "def check(t):\n    return {c: t.count(c) for c in t}", PASSES),
            ("check", "def check(t):\n    return sorted(t)", NEITHER),
        ],
        "mbpp_plus_hub": [
            ("is_even", "def is_even(n):\n    return n == 2", ONLY_BASE),
            ("is_even", "def is_even(n):\n    return True", NEITHER),
        ],
    }
    samples, expected = [], {}
    for layout in LAYOUTS:
        tasks = tasks_of(layout)
        for task in tasks.values():
            samples.append(canonical_sample(task))
            expected[layout, task.task_id, 0] = PASSES
        for number, (name, program, told) in enumerate(programs[layout], 1):
            samples.append(Sample.of(tasks[name], program, sample=number))
            expected[layout, tasks[name].task_id, number] = told
    verdicts = verdicts_on(samples)
    found = dict(zip(expected, map(outcome, verdicts), strict=True))
    assert found == expected, [v.details for v in verdicts]


def test_the_further_tests_have_a_process_and_a_time_limit_of_their_own() -> None:
    task = tasks_of("humaneval_plus")["widest_gap"]
    programs = {
        "loops": "def widest_gap(values):\n    while len(values) != 3: pass\n    return 3",
        "ends": "import os\ndef widest_gap(values):\n    len(values) == 3 or os._exit(1)\n    return 3",
        "counts": (
            "calls = []\ndef widest_gap(values):\n    calls.append(values.sort())\n    assert "
            "len(calls) < 5\n    return max((b - a for a, b in zip(values, values[1:])), default=0)"
        ),
    }
    samples = [
        Sample.of(task, program, sample=number) for number, program in enumerate(programs.values())
    ]
    loops, ends, counts = verdicts_on(samples, timeout_s=1)
    assert outcome(loops) == ("pass", "timeout", "plus timeout")
    assert outcome(ends) == ("pass", "fail", "plus crash")
    assert outcome(counts) == PASSES
    assert counts.tests == {"test_base": "pass", "test_plus": "pass"}
    assert loops.evaluation_s > 1


def test_neither_the_canonical_solution_nor_what_is_expected_is_in_sight_when_called() -> None:
    task = tasks_of("mbpp_plus")["check"]
    program = """
import gc, re, sys
def check(text):
    frame, seen = sys._getframe(1), []
    while frame is not None:
        seen += [*frame.f_locals.values(), *frame.f_globals.values()]
        frame = frame.f_back
    seen += [one for one in gc.get_objects() if isinstance(one, (list, tuple, dict, bytes))]
    # The canonical solution, and how a pickle begins (an object's address may begin so, too).
    marks = chr(67) + r"ounter\\(text\\)|" + chr(56) + "00[45]95..0{14}"
    found = [one for one in map(repr, seen) if re.search(marks, one)]
    raise RuntimeError(f"found {len(found)}: {[one[:300] for one in found]}")
"""
    # What tests use is looked at before any test runs.
    forged = "import pickle\npickle.loads = lambda _: 1\ndef check(text):\n    return 1"
    readers = [
        "sys._getframe(1).f_code.co_consts",
        "sys._getframe(1).f_globals['TestCases'].test_base.__code__.co_consts",
    ]
    samples = [Sample.of(task, program)]
    for number, reader in enumerate(readers, 1):
        read = f"import sys\ndef check(text):\n    return len({reader})"
        samples.append(Sample.of(task, read, sample=number))
    samples.append(Sample.of(task, forged, sample=3))
    looked, *others = verdicts_on(samples)
    assert looked.status is Status.failed
    assert "found 0" in str(looked.details)
    assert [verdict.reason for verdict in others] == ["tampered"] * 3


def test_outputs_are_asked_for_once_and_kept(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    count: list[int] = []

    def counting(samples: Any, **how: Any) -> None:
        count.append(len(samples))
        asked(samples, **how)

    monkeypatch.setattr("codejoule.evaluation.resume.judge_each", counting)
    task = tasks_of("humaneval_plus")["widest_gap"]
    for number in range(2):
        sample = Sample.of(task, "def widest_gap(values):\n    return 3", sample=number)
        (verdict,) = verdicts_on([sample])
        assert outcome(verdict) == ONLY_BASE
    assert count == [2, 0]
    assert list(cache.rglob("expected_outputs/*.jsonl"))


def test_a_canonical_solution_that_fails_leaves_its_samples_unjudged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import dataclasses

    task = tasks_of("humaneval_plus")["widest_gap"]
    broken = dataclasses.replace(task, canonical_solution="    return values[0]\n")
    with caplog.at_level(logging.WARNING):
        (verdict,) = verdicts_on([Sample.of(broken, "def widest_gap(values):\n    return 5")])
    assert outcome(verdict) == ("pass", "fail", "plus no expected outputs")
    assert "Own/0: its canonical solution does not tell what its tests expect" in caplog.text
    truth = check_ground_truth([broken], config=EvaluatorConfig(workers=1), timeout_s=10)
    assert truth.failed_by_reason == {"plus no expected outputs": ["Own/0"]}


@pytest.fixture
def judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    samples = [
        {"task_id": "Own/0", "solution": "def widest_gap(values):\n    return 3\n"},
        {"task_id": "Own/1", "completion": "    return sum(values) / len(values)\n"},
    ]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, samples)))
    suite, out = str(DATA / "humaneval_plus.jsonl"), str(tmp_path / "out")
    files = ["--suite", suite, "--samples", str(tmp_path / "s.jsonl"), "--out", out]
    assert main(["evaluate", *files, "--ground-truth"]) == 0
    return iter([capsys.readouterr().out])


def test_both_rates_are_told_and_written(tmp_path: Path, judged: Iterator[str]) -> None:
    said = next(judged)
    assert "ground truth 1.0000: 2 of 2 canonical solutions" in said
    assert "pass@1    1.0000  base tests  (95 %" in said
    assert "pass@1    0.5000  base and plus tests  (95 %" in said
    assert "2, of which 2 passed the base tests and 1 passed the base and plus tests; 2" in said
    assert "reasons   plus fail 1, pass 1" in said
    out = tmp_path / "out"
    results = json.loads((out / "eval_results.json").read_text())["eval"]
    assert {
        task: (row["status"], row["base_status"], row["plus_status"])
        for task, (row,) in results.items()
    } == {"Own/0": ("fail", "pass", "fail"), "Own/1": ("pass", "pass", "pass")}
    rates = json.loads((out / "pass_at_k.json").read_text())
    assert (rates["pass@1"], rates["pass@1_plus"]) == (1.0, 0.5)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["pass_at_k"], summary["pass_at_k_plus"]) == ({"1": 1.0}, {"1": 0.5})
    assert (summary["samples_passed"], summary["samples_passed_plus"]) == (2, 1)
    assert summary["pass_at_k_plus_valid"] == {"1": 0.5}
