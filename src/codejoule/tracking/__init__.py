"""The only writer to MLflow, and the journal that a killed run continues from."""

from codejoule.tracking.files import (
    power_figure,
    write_power_parquet,
    write_tasks_parquet,
    write_windows_parquet,
)
from codejoule.tracking.journal import Journal, hold
from codejoule.tracking.prepare import prepare_store
from codejoule.tracking.published import NOT_PREDICTED, PublishedRun, record_published
from codejoule.tracking.store import RunStatus, Store, TrackedRun
from codejoule.tracking.traces import TaskTrace, spread
from codejoule.tracking.views import VIEW

__all__ = [
    "NOT_PREDICTED",
    "VIEW",
    "Journal",
    "PublishedRun",
    "RunStatus",
    "Store",
    "TaskTrace",
    "TrackedRun",
    "hold",
    "power_figure",
    "prepare_store",
    "record_published",
    "spread",
    "write_power_parquet",
    "write_tasks_parquet",
    "write_windows_parquet",
]
