"""What a model was asked and answered, and what the tests said."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codejoule.analysis.store import FindArtifact, artifacts
from codejoule.config.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The first sample of one task in one run."""

    program: str
    """The program, as it was judged."""
    status: str | None = None
    """``pass``, ``fail``, ``timeout`` or ``unjudged``; None where nothing judged it."""
    output: str = ""
    """What the failed tests said; empty where none failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAttempts:
    """The attempts of one run."""

    prompts: dict[str, str]
    """What was asked by task; empty for runs of versions that did not record it."""
    attempts: dict[str, Attempt]
    """By task."""


def read_attempts(runs: "pd.DataFrame", run_ids: list[str], *, uri: str) -> dict[str, RunAttempts]:
    """Read the first answer to each task of those of `run_ids` that recorded them.

    `runs` are from `load_runs`, of the store `uri`. Raises `UserError` if a file is damaged.
    """
    with (
        artifacts(runs, "prompts.jsonl", uri=uri) as prompts,
        artifacts(runs, "samples.jsonl", uri=uri) as samples,
        artifacts(runs, "eval_results.json", uri=uri) as results,
    ):
        return {
            run_id: RunAttempts(
                prompts={row["task_id"]: row["prompt"] for row in _lines(run_id, prompts)},
                attempts=_attempts(run_id, samples, results),
            )
            for run_id in run_ids
        }


def _attempts(run_id: str, samples: FindArtifact, results: FindArtifact) -> dict[str, Attempt]:
    path = results(run_id)
    if path is None:
        # From the last to the first: the first sample of a task stays.
        rows = reversed(_lines(run_id, samples))
        return {row["task_id"]: Attempt(program=row["solution"]) for row in rows}
    try:
        tasks = json.loads(path.read_bytes())["eval"]
        return {task_id: _judged(rows[0]) for task_id, rows in tasks.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} of run {run_id} is damaged: {error!r}") from error


def _judged(row: dict[str, Any]) -> Attempt:
    details, reason, status = row.get("details") or {}, row.get("reason"), row["status"]
    said = [f"{name}\n{text}" for name, text in details.items()]
    if reason not in (None, status):
        said.insert(0, str(reason))
    return Attempt(program=row["solution"], status=status, output="\n".join(said))


def _lines(run_id: str, find: FindArtifact) -> list[dict[str, Any]]:
    path = find(run_id)
    if path is None:
        return []
    try:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except ValueError as error:
        raise UserError(f"{path} of run {run_id} is damaged: {error}") from error
