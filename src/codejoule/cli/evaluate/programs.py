"""From what was submitted to the samples that are judged."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codejoule.config import ConfigError
from codejoule.domain import Suite, Task
from codejoule.evaluation import (
    RecordedVerdict,
    Sample,
    SubmittedSample,
    read_eval_results,
    read_samples,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A file of samples, joined with its suite."""

    samples: tuple[Sample, ...]
    """What to judge, in the file's order."""
    recorded: tuple[RecordedVerdict, ...]
    """Verdicts that the file itself holds; empty for one of samples alone."""


def read_submission(path: Path, suite: Suite, *, sanitizing: bool) -> Submission:
    """The samples at `path`, or in an ``eval_results.json``, as programs for the tasks of
    `suite`. Raises ConfigError, naming file and line, for what cannot be read or joined."""
    tasks = {task.task_id: task for task in suite.tasks}
    if path.name.endswith((".json", ".json.gz")):
        recorded = read_eval_results(path)
        if sanitizing:
            raise ConfigError(f"--sanitize: the programs of {path} have been judged as they are")
        samples = [
            _sample(_task(f"{path}, {one.task_id}", one.task_id, suite, tasks), one)
            for one in recorded
        ]
        return Submission(samples=tuple(samples), recorded=tuple(recorded))
    submitted = read_samples(path)
    samples = [
        _sample(_task(one.where, one.task_id, suite, tasks), one, sanitizing=sanitizing)
        for one in submitted
    ]
    return Submission(samples=tuple(samples), recorded=())


def _task(where: str, task_id: str, suite: Suite, tasks: Mapping[str, Task]) -> Task:
    task = tasks.get(task_id)
    if task is None:
        raise ConfigError(
            f"{where}: task_id {task_id} is not in suite {suite.name}, "
            f"which has {len(tasks)} tasks, {suite.tasks[0].task_id} to "
            f"{suite.tasks[-1].task_id}; is --suite the one the samples were made for?"
        )
    return task


def _sample(
    task: Task, one: SubmittedSample | RecordedVerdict, *, sanitizing: bool = False
) -> Sample:
    return Sample.of(task, _program(task, one, sanitizing=sanitizing), sample=one.sample)


def _program(task: Task, one: SubmittedSample | RecordedVerdict, *, sanitizing: bool) -> str:
    if isinstance(one, RecordedVerdict):
        return one.uncalibrated(task.code_prompt)
    if not sanitizing:
        return one.program_after(task.complete_prompt)
    from codejoule.suites import sanitize

    return sanitize(one.unsanitized_after(task.complete_prompt), task.entry_point)
