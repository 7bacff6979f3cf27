"""Canonical solutions: which tasks can be solved here."""

import json
from pathlib import Path

import pytest

from codejoule.cli import main
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Task, Verdict
from codejoule.evaluation import cached_ground_truth, check_ground_truth
from tests.sandbox.conftest import TESTS

PROMPT = "def scale(values, factor):\n"
GOOD = "    return [v * factor for v in values]\n"
BODIES = {"t/0": GOOD, "t/1": "    import no_such_module\n", "t/2": GOOD}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    rows = [
        {
            "task_id": task_id, "complete_prompt": PROMPT, "instruct_prompt": "",
            "canonical_solution": body, "code_prompt": PROMPT, "test": TESTS,
            "entry_point": "scale",
        }
        for task_id, body in BODIES.items()
    ]  # fmt: skip
    path = tmp_path / "suite.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _tasks() -> list[Task]:
    return [
        Task(
            task_id=task_id, complete_prompt=PROMPT, instruct_prompt="", canonical_solution=body,
            code_prompt=PROMPT, test=TESTS, entry_point="scale", doc_struct="{}", libs=(),
            domains=(),
        )
        for task_id, body in BODIES.items()
    ]  # fmt: skip


def test_what_can_be_solved_here_is_found_out_once(cache: Path) -> None:
    config = EvaluatorConfig(workers=1)
    tasks, judged = _tasks(), []

    def check(tasks: list[Task], timeout_s: float = 10) -> list[str]:
        judged.clear()

        def note(verdict: Verdict) -> None:
            judged.append(verdict.task_id)

        check_ground_truth(tasks, config=config, timeout_s=timeout_s, on_verdict=note)
        return sorted(judged)

    assert cached_ground_truth(tasks, config=config, timeout_s=10) is None
    assert not cache.exists(), "asking leaves nothing behind"
    assert check(tasks[:2]) == ["t/0", "t/1"]
    assert cached_ground_truth(tasks, config=config, timeout_s=10) is None, "one is not known"
    assert check(tasks) == ["t/2"], "a part of the suite counts for the whole"
    assert check(tasks) == []
    truth = cached_ground_truth(tasks, config=config, timeout_s=10)
    assert truth is not None
    assert truth.valid == {"t/0", "t/2"}
    assert truth.pass_rate == pytest.approx(2 / 3)
    assert truth.failed_by_reason == {"fail": ["t/1"]}
    assert cached_ground_truth(tasks, config=config, timeout_s=11) is None, "another limit"


def test_pass_at_k_is_told_over_all_tasks_and_over_those_valid_here(
    tmp_path: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, out = tmp_path / "samples.jsonl", tmp_path / "out"
    rows = [
        {"task_id": "t/0", "completion": GOOD},
        {"task_id": "t/1", "solution": ""},
        {"task_id": "t/2", "solution": ""},
    ]
    samples.write_text("\n".join(map(json.dumps, rows)))
    options = ["evaluate", "--suite", str(suite)]
    judging = [*options, "--samples", str(samples), "--out", str(out)]
    assert main(judging) == 0
    assert "valid here" not in capsys.readouterr().out, "nothing is known of that yet"
    assert "gt_pass_rate" not in json.loads((out / "pass_at_k.json").read_text())
    assert "tasks_valid" not in json.loads((out / "summary.json").read_text())

    assert main([*options, "--ground-truth", "--out", str(tmp_path / "truth")]) == 0
    said = capsys.readouterr().out
    assert "ground truth 0.6667: 2 of 3 canonical solutions of suite pass here" in said
    assert "fail          1: t/1" in said
    truth = json.loads((tmp_path / "truth" / "ground_truth.json").read_text())
    assert (truth["gt_pass_rate"], truth["failed_tasks"]) == (pytest.approx(2 / 3), ["t/1"])
    assert truth["environment"]["packages"]["numpy"]
    results = json.loads((tmp_path / "truth" / "eval_results.json").read_text())["eval"]
    assert "no_such_module" in results["t/1"][0]["details"]["test_list"]

    assert main(judging) == 0
    said = capsys.readouterr().out
    assert "pass@1    0.3333  (95 %" in said
    assert "pass@1    0.5000  over the 2 of 3 tasks that are valid here  (95 %" in said
    rates = json.loads((out / "pass_at_k.json").read_text())
    assert (rates["pass@1"], rates["failed_tasks"]) == (pytest.approx(1 / 3), ["t/1"])
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["tasks_valid"], summary["pass_at_k_valid"]) == (2, {"1": 0.5})
