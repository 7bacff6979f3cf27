"""The only writer to MLflow, and the journal that a killed run continues from."""

from codejoule.tracking.files import (
    power_figure,
    write_power_parquet,
    write_tasks_parquet,
    write_windows_parquet,
)
from codejoule.tracking.journal import Journal, hold
from codejoule.tracking.outbox import Outbox
from codejoule.tracking.prepare import prepare_store
from codejoule.tracking.store import RunStatus, Store, TrackedRun
from codejoule.tracking.traces import TaskTrace, spread
from codejoule.tracking.upload import Uploaded, upload
from codejoule.tracking.views import VIEW

__all__ = [
    "VIEW",
    "Journal",
    "Outbox",
    "RunStatus",
    "Store",
    "TaskTrace",
    "TrackedRun",
    "Uploaded",
    "hold",
    "power_figure",
    "prepare_store",
    "spread",
    "upload",
    "write_power_parquet",
    "write_tasks_parquet",
    "write_windows_parquet",
]
