"""From what was submitted to the samples that are judged."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from codejoule.config import ConfigError
from codejoule.domain import Suite, Task
from codejoule.evaluation import (
    RecordedVerdict,
    Sample,
    SampleRow,
    holds_samples,
    read_eval_results,
    read_sample_file,
)
from codejoule.suites import sanitize

_One = TypeVar("_One", SampleRow, RecordedVerdict)


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
    if path.name.endswith((".json", ".json.gz")) and not holds_samples(path):
        verdicts = read_eval_results(path)
        if sanitizing:
            raise ConfigError(f"--sanitize: the programs of {path} have been judged as they are")
        recorded = list(_under_whole_names(verdicts, suite, where=lambda _: str(path)))
        samples = [_sample(tasks[one.task_id], one) for one in recorded]
        return Submission(samples=tuple(samples), recorded=tuple(recorded))
    submitted = _under_whole_names(read_sample_file(path), suite, where=lambda one: one.where)
    samples = [_sample(tasks[one.task_id], one, sanitizing=sanitizing) for one in submitted]
    return Submission(samples=tuple(samples), recorded=())


def _under_whole_names(
    found: Iterable[_One], suite: Suite, *, where: Callable[[_One], str]
) -> Iterator[_One]:
    """What was `found`, each under the name that the suite has for its task, and numbered by
    that: a file may call one task ``11`` and ``Mbpp/11``."""
    by_number: dict[str, list[str]] = {}
    for task in suite.tasks:
        by_number.setdefault(task.task_id.rpartition("/")[2], []).append(task.task_id)
    known = {task.task_id: [task.task_id] for task in suite.tasks}
    counts: Counter[str] = Counter()
    for one in found:
        names = known.get(one.task_id) or by_number.get(one.task_id, [])
        if len(names) != 1:
            raise ConfigError(f"{where(one)}: {_unknown(one.task_id, names, suite)}")
        yield dataclasses.replace(one, task_id=names[0], sample=counts[names[0]])
        counts[names[0]] += 1


def _unknown(task_id: str, names: Sequence[str], suite: Suite) -> str:
    if names:
        return f"task_id {task_id} may be any of {', '.join(names[:5])}; write it in full"
    return (
        f"task_id {task_id} is not in suite {suite.name}, which has {len(suite.tasks)} tasks, "
        f"{suite.tasks[0].task_id} to {suite.tasks[-1].task_id}; is --suite the one the samples "
        "were made for?"
    )


def _sample(task: Task, one: SampleRow | RecordedVerdict, *, sanitizing: bool = False) -> Sample:
    if isinstance(one, RecordedVerdict):
        program = one.uncalibrated(task.code_prompt)
    elif sanitizing:
        raw = one.unsanitized_after(task.complete_prompt)
        program = sanitize(raw, task.entry_point, task.tested_names)
    else:
        program = one.program_after(task.complete_prompt)
    return Sample.of(task, program, sample=one.sample)
