"""The programs that a model has answered with, as samples to judge."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from codejoule.evaluation import Sample, Submission
from codejoule.experiment.plan import Plan
from codejoule.experiment.shares import Answer
from codejoule.suites import solution_of


def samples_of(
    plan: Plan, answers: Sequence[Answer], folder: Path, *, shown: bool = False
) -> Sequence[Sample]:
    """The sanitized programs of `answers`, in a file without a name in `folder`; those to be judged
    by the `shown` tests where their tasks have any."""
    tasks, split, variant = plan.tasks, plan.experiment.suite.split, plan.variant

    def solutions() -> Iterator[tuple[str, int, str]]:
        for _, _, _, answer in answers:
            task = tasks[answer.task_id]
            if task.shown_test or not shown:
                _, solution = solution_of(task, answer, split=split, variant=variant)
                yield answer.task_id, answer.sample, solution

    make = Sample.shown_part_of if shown else Sample.of
    return Submission(tasks, solutions(), folder, make=make)
