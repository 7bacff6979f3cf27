"""How one job ended, on disk so that the entry script can sum up any launcher's jobs."""

import json
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from codejoule.config import write_whole


class State(Enum):
    """How a job ended."""

    finished = "finished"
    skipped = "skipped"
    failed = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One job's end."""

    name: str
    """The run's name, e.g. ``starter-gptq4-b8``."""
    state: State
    """Finished, skipped (had finished before) or failed."""
    sweep: str | None = None
    """Parent run of the sweep it belongs to; None for a job by itself."""
    run_id: str | None = None
    """MLflow run; None where the job failed before it had one."""
    error: str | None = None
    """What a failed job said."""

    def save(self, folder: Path) -> None:
        """Write it into `folder`, which another sweep may use at the same time.

        Raises `UserError` where that is not possible.
        """
        payload = asdict(self) | {"state": self.state.value}
        write_whole(folder / _file(self.sweep), json.dumps(payload, indent=2))


def read_outcomes(folder: Path, *, sweep: str) -> list[Outcome]:
    """Outcomes below `folder` of all jobs of one sweep, in the order in which they ended."""
    files = sorted(folder.glob(f"**/{_file(sweep)}"), key=lambda file: file.stat().st_mtime_ns)
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [Outcome(**row | {"state": State(row["state"])}) for row in rows]


def _file(sweep: str | None) -> str:
    return "outcome.json" if sweep is None else f"outcome-{sweep}.json"
