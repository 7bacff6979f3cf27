"""Which tasks can be solved here: the verdicts on their canonical solutions."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codejoule.config import user_cache, write_whole
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Status, Task, Verdict
from codejoule.evaluation.resume import (
    VerdictLog,
    environment_facts,
    judge_resuming,
    sample_identity,
    setting_identity,
)
from codejoule.evaluation.sample import Sample, canonical_solution


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """The verdict on the canonical solution of each task, under one environment and limits."""

    verdicts: tuple[Verdict, ...]
    """In the order of the tasks."""

    @property
    def valid(self) -> frozenset[str]:
        """Tasks whose canonical solution passes here."""
        return frozenset(v.task_id for v in self.verdicts if v.status is Status.passed)

    @property
    def pass_rate(self) -> float:
        """Share of the tasks that are valid."""
        return len(self.valid) / len(self.verdicts)

    @property
    def failed_tasks(self) -> list[str]:
        """The other tasks."""
        return [v.task_id for v in self.verdicts if v.status is not Status.passed]

    @property
    def failed_by_reason(self) -> dict[str, list[str]]:
        """The other tasks, by what went wrong, the most frequent first."""
        tasks: dict[str, list[str]] = {}
        for verdict in self.verdicts:
            if verdict.status is not Status.passed:
                tasks.setdefault(verdict.reason, []).append(verdict.task_id)
        return dict(sorted(tasks.items(), key=lambda item: -len(item[1])))


def canonical_sample(task: Task) -> Sample:
    """The canonical solution as a sample."""
    return Sample.of(task, canonical_solution(task))


def check_ground_truth(
    tasks: Sequence[Task],
    *,
    config: EvaluatorConfig,
    timeout_s: float,
    fresh: bool = False,
    on_kept: Callable[[Sequence[Verdict]], None] = lambda _: None,
    on_verdict: Callable[[Verdict], None] = lambda _: None,
) -> GroundTruth:
    """Judge the canonical solutions that the user's cache has no verdict for; with `fresh`
    all of them. Raises as `judge` does."""
    setting = setting_identity(config, timeout_s=timeout_s)
    with VerdictLog(_cache_file(setting), fresh=fresh) as log:
        verdicts = judge_resuming(
            [canonical_sample(task) for task in tasks],
            log,
            config=config,
            timeout_s=timeout_s,
            on_kept=on_kept,
            on_verdict=on_verdict,
        )
        return GroundTruth(verdicts=tuple(verdicts))


def cached_ground_truth(
    tasks: Sequence[Task], *, config: EvaluatorConfig, timeout_s: float
) -> GroundTruth | None:
    """What the user's cache knows of `tasks` under this environment and these limits; None
    unless it knows all of them. Raises ConfigError where ``config.python`` does not work."""
    if not _cache_file("").parent.is_dir():
        return None
    setting = setting_identity(config, timeout_s=timeout_s)
    if not _cache_file(setting).is_file():
        return None
    with VerdictLog(_cache_file(setting)) as log:
        found = [log.find(sample_identity(setting, canonical_sample(task))) for task in tasks]
    verdicts = tuple(filter(None, found))
    return GroundTruth(verdicts=verdicts) if len(verdicts) == len(tasks) > 0 else None


def _cache_file(setting: str) -> Path:
    """One file per environment and limits, in which each task has its own key: a part of a
    suite, or a suite that shares tasks with another, finds what is known already."""
    return user_cache() / "ground_truth" / f"{setting}.jsonl"


def write_ground_truth(
    path: Path, truth: GroundTruth, *, suite: str, checksum: str, config: EvaluatorConfig,
    timeout_s: float,
) -> None:  # fmt: skip
    """Write what was found, and the environment and limits for which it holds, as JSON."""
    told = ("reason", "evaluation_s", "evaluation_cpu_s", "memory_peak_bytes")
    content: dict[str, Any] = {
        "suite": suite,
        "checksum": checksum,
        "gt_pass_rate": truth.pass_rate,
        "tasks": len(truth.verdicts),
        "tasks_valid": len(truth.valid),
        "failed_tasks": truth.failed_tasks,
        "failed_by_reason": truth.failed_by_reason,
        "timeout_s": timeout_s,
        "memory_bytes": config.memory_bytes,
        "environment": environment_facts(config),
        "verdicts": {
            v.task_id: {"status": v.status.value} | {name: getattr(v, name) for name in told}
            for v in truth.verdicts
        },
    }
    write_whole(path, json.dumps(content, indent=2) + "\n")
