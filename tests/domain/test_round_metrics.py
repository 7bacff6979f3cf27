"""What each repair round costs and gains."""

from dataclasses import replace

import pytest

from codejoule.domain import TaskRecord
from codejoule.domain.metrics import RoundFacts, round_metrics


def attempt(task_id: str, verdict: str | None, evaluation_j: float | None = 1.0) -> TaskRecord:
    return TaskRecord(
        task_id=task_id, sample=0, order=0, batch=0, batch_size=1, prompt_tokens=1, output_tokens=1,
        finish_reason="eos", energy_j=1.0, energy_net_j=None, batch_energy_j=1.0, latency_s=1.0,
        ttft_s=None, verdict=verdict, verdict_reason=verdict, evaluation_s=1.0,
        evaluation_cpu_s=1.0, evaluation_energy_j=evaluation_j, domains=(),
    )  # fmt: skip


FIRST = RoundFacts(
    attempts=[attempt("a", "pass"), attempt("b", "fail"), attempt("c", "fail")],
    energy_generation_j=10.0,
    energy_evaluation_j=2.0,
)
SECOND = RoundFacts(
    attempts=[attempt("b", "pass", 3.0), attempt("c", "timeout", 3.0)],
    energy_generation_j=20.0,
    energy_evaluation_j=4.0,
)


def test_each_round_is_as_if_the_run_ended_with_it() -> None:
    metrics = round_metrics([FIRST, SECOND], rounds_asked=3)
    assert [metrics[f"pass_at_1_round_{n}"] for n in (1, 2, 3)] == pytest.approx(
        [1 / 3, 2 / 3, 2 / 3]
    )
    # Generation, judging by the shown tests before the last round, and by the hidden ones.
    assert metrics["energy_per_solved_task_round_1_j"] == 10 + 3
    assert metrics["energy_per_solved_task_round_2_j"] == (10 + 2 + 20 + 1 + 3 + 3) / 2
    assert metrics["energy_per_solved_task_round_3_j"] == (10 + 2 + 20 + 4 + 1 + 3 + 3) / 2
    assert metrics["energy_evaluation_replaced_j"] == 2, "two programs were replaced"
    assert [metrics[f"samples_round_{n}"] for n in (1, 2, 3)] == [3, 2, 0]
    assert "energy_generation_round_3_j" not in metrics


def test_what_was_not_measured_is_absent() -> None:
    unmetered = replace(FIRST, energy_evaluation_j=None)
    metrics = round_metrics([unmetered, SECOND], rounds_asked=2)
    assert "energy_evaluation_round_1_j" not in metrics
    assert metrics["energy_per_solved_task_round_1_j"] == 13, "nothing of it is missing here"
    assert "energy_per_solved_task_round_2_j" not in metrics
    unresolved = replace(FIRST, energy_generation_j=float("nan"))
    assert "energy_per_solved_task_round_1_j" not in round_metrics([unresolved], rounds_asked=1)


def test_a_program_without_a_verdict_leaves_no_accuracy_from_its_round_on() -> None:
    unjudged = replace(SECOND, attempts=[attempt("b", None, None)])
    metrics = round_metrics([FIRST, unjudged], rounds_asked=2)
    assert "pass_at_1_round_1" in metrics
    assert "pass_at_1_round_2" not in metrics
    assert "energy_per_solved_task_round_2_j" not in metrics
