"""The only writer to MLflow, and the journal that a killed run continues from."""

from codejoule.tracking.files import (
    power_figure,
    write_power_parquet,
    write_tasks_parquet,
    write_windows_parquet,
)
from codejoule.tracking.journal import Journal, detach, guarded
from codejoule.tracking.lease import Fence, Lease, LostLeaseError, is_owned
from codejoule.tracking.prepare import prepare_store
from codejoule.tracking.store import RunStatus, Store, TrackedRun
from codejoule.tracking.traces import TaskTrace, spread
from codejoule.tracking.views import VIEW

__all__ = [
    "VIEW",
    "Fence",
    "Journal",
    "Lease",
    "LostLeaseError",
    "RunStatus",
    "Store",
    "TaskTrace",
    "TrackedRun",
    "detach",
    "guarded",
    "is_owned",
    "power_figure",
    "prepare_store",
    "spread",
    "write_power_parquet",
    "write_tasks_parquet",
    "write_windows_parquet",
]
