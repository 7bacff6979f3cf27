"""Each task as MLflow shows it: a table that its comparison of runs reads, and traces."""

import json
from collections.abc import Sequence
from typing import Any

from codejoule.domain import TaskRecord
from codejoule.evaluation import Sample
from codejoule.experiment.plan import Plan
from codejoule.experiment.records import Results
from codejoule.experiment.rounds import Asked
from codejoule.tracking import TaskTrace, spread

TABLE = "tasks.json"
TABLE_ROWS = 2000
"""Most rows of the table: the page is slow with more. tasks.parquet has every task."""
PROGRAM_LENGTH = 2000
"""Longest program in it [characters]."""
_PROGRAMS_LENGTH = 1_000_000
"""Longest that all its programs may be together [characters]."""
TABLE_TAGS = {"mlflow.loggedArtifacts": json.dumps([{"path": TABLE, "type": "table"}])}
"""By these MLflow knows that the file is a table. Its own ``log_table`` would append the same rows
once more where a run is continued."""


def task_table(records: Sequence[TaskRecord], samples: Sequence[Sample]) -> dict[str, Any]:
    """The table of a run's samples, as MLflow reads it, with the programs of `samples`, which are
    in the same order."""
    places = spread(range(len(records)), TABLE_ROWS)
    rows = [(records[place], samples[place].solution) for place in places]
    longest = min(PROGRAM_LENGTH, _PROGRAMS_LENGTH // len(rows))
    sampled = any(record.sample for record in records)
    columns = ["task", "verdict", "energy_j", "output_tokens", "program"]
    data = [
        [
            f"{record.task_id} #{record.sample}" if sampled else record.task_id,
            record.verdict,
            None if record.energy_j is None else float(f"{record.energy_j:.4g}"),
            record.output_tokens,
            program if len(program) <= longest else f"{program[:longest]}\n# ... (cut)",
        ]
        for record, program in rows
    ]
    return {"columns": columns, "data": data}


def task_traces(
    plan: Plan, results: Results, records: Sequence[TaskRecord], asked: Asked
) -> list[TaskTrace]:
    """The traces that ``tracking.traces`` asks for, evenly spread over the `records`, one for each
    answer, which was given to what was `asked`."""
    traces = []
    for place in spread(range(len(records)), plan.experiment.tracking.traces):
        record, (_, _, entry, completion) = records[place], results.answers[place]
        pace = completion.pace
        begun_s = None if pace is None else pace.begun_s
        # A pace counts from when decoding began, which may be some windows ago.
        opened_s = entry.reading.start_s - (entry.slice.begin_s if entry.slice else 0.0)
        traces.append(
            TaskTrace(
                task_id=record.task_id,
                sample=record.sample,
                prompt=asked(record.round or 1, record.task_id, record.sample),
                answer=completion.text,
                prompt_tokens=record.prompt_tokens,
                output_tokens=record.output_tokens,
                start_s=opened_s + (begun_s or 0.0),
                latency_s=entry.reading.latency_s if pace is None else pace.latency_s,
                energy_j=record.energy_j,
                verdict=record.verdict,
                reason=record.verdict_reason,
            )
        )
    return traces
