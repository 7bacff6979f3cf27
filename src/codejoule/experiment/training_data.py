"""What an adapter is trained with, kept apart from what it is evaluated with."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codejoule.common.progress import doing
from codejoule.config import ConfigError, installed_versions
from codejoule.config.schema import ExperimentConfig, FinetuneConfig, Variant
from codejoule.domain import Prompt, Suite, Task
from codejoule.suites import load_suite, load_suite_named
from codejoule.training import Example, read_examples

Ask = Callable[[Suite], tuple[ExperimentConfig, Mapping[str, Prompt]]]
"""From a suite to the model's variant and the prompt of each task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """The texts, and what they were checked against."""

    name: str
    """The suite or file that they come from."""
    source: str
    """Where that lies."""
    examples: tuple[Example, ...]
    """The texts."""
    task_hashes: tuple[str, ...]
    """`task_hash` of each task among them; empty for a file of texts."""
    left_out: int
    """Texts that were left out because an evaluated task is in them."""
    evaluated: str
    """The suite that they were checked against."""
    evaluated_hashes: tuple[str, ...]
    """`task_hash` of each of its tasks."""

    @property
    def checksum(self) -> str:
        """SHA-256 (hex) over the texts."""
        texts = [[e.prompt, e.completion, e.add_special_tokens] for e in self.examples]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """What is recorded of them."""
        return {
            "data": self.name,
            "source": self.source,
            "texts": len(self.examples),
            "checksum": self.checksum,
            "left_out": self.left_out,
            "evaluated_suite": self.evaluated,
            "evaluated_tasks": len(self.evaluated_hashes),
            "trained_hashes": list(self.task_hashes),
            "evaluated_hashes": list(self.evaluated_hashes),
        }


def task_hash(task: Task) -> str:
    """What a task is known again by, whatever it is called."""
    return hashlib.sha256(_plain(task.complete_prompt).encode()).hexdigest()[:16]


def load_training_data(experiment: ExperimentConfig, suite: Suite, ask: Ask) -> TrainingData:
    """The texts that ``finetune.data`` names, without those in which the prompt or the canonical
    solution of a task of `suite` is found: it is what the tuned model will be evaluated with.
    Raises `ConfigError` where nothing is left, and as `load_suite` does."""
    doing("reading the training texts")
    data = experiment.finetune.data
    hashes: list[str] = []
    if data is not None and Path(data).suffix == ".jsonl":
        name, source = Path(data).stem, str(Path(data).expanduser().absolute())
        given: list[tuple[Example, Task | None]] = [
            (each, None) for each in read_examples(Path(data).expanduser())
        ]
    else:
        if data is None:
            config = replace(experiment.suite, limit=None, task_ids=None, extends=None)
            training = load_suite(config)
        else:
            training = load_suite_named(data)
        name, source = training.name, training.source
        given = _examples(training, experiment, ask)
    found, kept = _Found(suite.tasks), []
    for example, task in given:
        if found.within(example):
            continue
        kept.append(example)
        hashes += [] if task is None else [task_hash(task)]
    if not kept:
        raise ConfigError(
            f"finetune.data={data}: every one of its {len(given)} texts holds a task that "
            f"{suite.name} evaluates, and none is left to train on; evaluate fewer tasks "
            "(suite.limit), or name other texts (a suite, or a JSONL file)"
        )
    return TrainingData(
        name=name,
        source=source,
        examples=tuple(kept),
        task_hashes=tuple(hashes),
        left_out=len(given) - len(kept),
        evaluated=suite.name,
        evaluated_hashes=tuple(map(task_hash, suite.tasks)),
    )


def training_identity(
    config: FinetuneConfig, training: TrainingData, found: Mapping[str, object]
) -> dict[str, object]:
    """What of what was `found` for a run changes what it trains, with what it trains and how."""
    kept = ("weights", "device", "gpus", "hardware", "energy sources", "model.cpu_threads")
    how = {key: value for key, value in asdict(config).items() if key != "data"}
    return {key: found[key] for key in kept} | {
        "finetune": how | {"texts": training.checksum},
        "peft": installed_versions(("peft",)),
    }


def seen_in_training(trained: Mapping[str, Any], tasks: Iterable[Task]) -> str:
    """What is known of whether an adapter that says this of its training has learnt these tasks, in
    words that begin with ``none`` where it has learnt none."""
    hashes = [task_hash(task) for task in tasks]
    seen = set(trained.get("trained_hashes", ()))
    apart = set(trained.get("evaluated_hashes", ()))
    learnt = sum(each in seen for each in hashes)
    unknown = 0 if seen else sum(each not in apart for each in hashes)
    if learnt:
        return f"{learnt} of {len(hashes)} tasks were trained on"
    if unknown:
        return f"not known of {unknown} of {len(hashes)} tasks: the texts were not checked for them"
    return f"none of {len(hashes)} tasks"


class _Found:
    """Finds evaluated tasks in texts."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        parts = {
            _plain(part)
            for task in tasks
            for part in (task.complete_prompt, task.instruct_prompt, task.canonical_solution)
        }
        self._parts = parts - {""}

    def within(self, example: Example) -> bool:
        """Whether a prompt or a solution is in the text."""
        text = _plain(f"{example.prompt} {example.completion}")
        return any(part in text for part in self._parts)


def _examples(
    training: Suite, experiment: ExperimentConfig, ask: Ask
) -> list[tuple[Example, Task | None]]:
    """Each task's prompt, as the model is asked, and the answer that solves it."""
    asked, prompts = ask(training)
    base = asked.model.variant is Variant.base
    pairs: list[tuple[Example, Task | None]] = []
    for task in training.tasks:
        prompt, body = prompts[task.task_id], task.canonical_solution
        # An instruct model's answer is a whole program in a code fence that was opened for it.
        answer = body if base else f"{task.complete_prompt}{body}\n```"
        example = Example(
            prompt=prompt.text, completion=answer, add_special_tokens=prompt.add_special_tokens
        )
        pairs.append((example, task))
    return pairs


def _plain(text: str) -> str:
    """Without differences in white space."""
    return " ".join(text.split())
