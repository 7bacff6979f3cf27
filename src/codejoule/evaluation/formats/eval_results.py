"""``eval_results.json``: programs and what became of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from codejoule.common.files import parse_json, read_bytes
from codejoule.config import ConfigError, write_whole
from codejoule.domain import Status, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVerdict:
    """One sample in a file of results, by whichever evaluator."""

    task_id: str
    """The task."""
    sample: int
    """Its number among the task's samples, from 0."""
    solution: str
    """The program; upstream puts the task's imports and signature in front of it."""
    status: Status
    """The verdict."""
    details: Mapping[str, str]
    """Traceback of each failed test, or ``{"ALL": message}``."""
    reason: str | None
    """More about a failure; None where the file does not tell."""

    def uncalibrated(self, code_prompt: str) -> str:
        """The program without the imports and signature that upstream puts in front."""
        return self.solution.removeprefix(f"{code_prompt}\n    pass\n")


def read_eval_results(path: Path) -> list[RecordedVerdict]:
    """The samples and verdicts in ``eval_results.json`` (``.gz`` too), upstream's or ours.

    Raises ConfigError, naming the task, for a file that is missing or not of this form.
    """
    return [
        _recorded(f"{path}, {task_id} sample {number}", task_id, number, row)
        for task_id, rows in _tasks(path)
        for number, row in enumerate(rows)
    ]


def _tasks(path: Path) -> Iterator[tuple[str, list[Any]]]:
    content = parse_json(path, read_bytes(path, "results"))
    tasks = content.get("eval") if isinstance(content, dict) else None
    if not isinstance(tasks, dict) or not tasks:
        raise ConfigError(
            f"{path}: no results in it; BigCodeBench's eval_results.json has an object `eval` "
            "that maps each task_id to the list of its samples, and a file of samples one JSON "
            "object per line"
        )
    for task_id, rows in tasks.items():
        if not isinstance(rows, list):
            raise ConfigError(f"{path}, {task_id}: a list of samples is expected")
        yield task_id, rows


def _recorded(where: str, task_id: str, number: int, row: Any) -> RecordedVerdict:
    if not isinstance(row, dict) or not isinstance(row.get("solution"), str):
        raise ConfigError(f"{where}: an object with the text `solution` is expected")
    known = [status.value for status in Status]
    # EvalPlus' own files have a status for each part of the tests, and none for all.
    base, plus = row.get("base_status"), row.get("plus_status")
    said = row.get("status") or (plus if plus and base == Status.passed.value else base)
    if said not in known:
        raise ConfigError(f"{where}: status {said!r}, not one of {', '.join(known)}")
    details = row.get("details")
    return RecordedVerdict(
        task_id=task_id,
        sample=number,
        solution=row["solution"],
        status=Status(said),
        details=details if isinstance(details, dict) else {},
        reason=row.get("reason"),
    )


def write_eval_results(path: Path, verdicts: Sequence[Verdict], solutions: Sequence[str]) -> None:
    """Write ``eval_results.json``: per task its samples with their verdicts, in the given
    order. `solutions` holds the program of each verdict. Beyond BigCodeBench's keys each
    sample has its ``reason``; where it was challenged, its ``challenge``; and for EvalPlus'
    formats, whose keys they are, ``base_status`` and ``plus_status`` (of all tests)."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for verdict, solution in zip(verdicts, solutions, strict=True):
        row: dict[str, Any] = {
            "task_id": verdict.task_id,
            "solution": solution,
            "status": verdict.status.value,
            "details": dict(verdict.details),
            "reason": verdict.reason,
        }
        if verdict.base is not None:
            row |= {"base_status": verdict.base.value, "plus_status": verdict.status.value}
        if verdict.challenge is not None:
            row["challenge"] = verdict.challenge
        rows.setdefault(verdict.task_id, []).append(row)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    text = json.dumps({"date": now, "eval": rows}, indent=2) + "\n"
    write_whole(path, text)
