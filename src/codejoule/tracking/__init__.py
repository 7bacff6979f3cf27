"""The only writer to MLflow, and the journal that a killed run continues from."""

from codejoule.tracking.files import (
    power_figure,
    write_power_parquet,
    write_tasks_parquet,
    write_windows_parquet,
)
from codejoule.tracking.journal import Journal, hold
from codejoule.tracking.prepare import prepare_store
from codejoule.tracking.store import RunStatus, Store, TrackedRun
from codejoule.tracking.traces import TaskTrace, spread

__all__ = [
    "Journal",
    "RunStatus",
    "Store",
    "TaskTrace",
    "TrackedRun",
    "hold",
    "power_figure",
    "prepare_store",
    "spread",
    "write_power_parquet",
    "write_tasks_parquet",
    "write_windows_parquet",
]
