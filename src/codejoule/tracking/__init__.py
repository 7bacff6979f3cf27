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

__all__ = [
    "Journal",
    "RunStatus",
    "Store",
    "TrackedRun",
    "hold",
    "power_figure",
    "prepare_store",
    "write_power_parquet",
    "write_tasks_parquet",
    "write_windows_parquet",
]
