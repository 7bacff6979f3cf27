"""The only writer to MLflow, and the journal that a killed run continues from."""

from codejoule.tracking.client import as_text
from codejoule.tracking.files import (
    power_figure,
    read_tasks_parquet,
    write_power_parquet,
    write_tasks_parquet,
    write_windows_parquet,
)
from codejoule.tracking.journal import Journal, detach, guarded
from codejoule.tracking.lease import Fence, Lease, LostLeaseError, is_owned
from codejoule.tracking.outbox import Outbox
from codejoule.tracking.prepare import prepare_store
from codejoule.tracking.published import NOT_PREDICTED, PublishedRun, record_published
from codejoule.tracking.served import FINGERPRINT, GENERATED, GENERATED_AS, JUDGED, STAGE
from codejoule.tracking.store import (
    CONFIGURATION,
    RunStatus,
    Store,
    StoredRun,
    TrackedRun,
)
from codejoule.tracking.traces import TaskTrace, spread
from codejoule.tracking.upload import Uploaded, upload
from codejoule.tracking.views import VIEW

__all__ = [
    "CONFIGURATION",
    "FINGERPRINT",
    "GENERATED",
    "GENERATED_AS",
    "JUDGED",
    "NOT_PREDICTED",
    "STAGE",
    "VIEW",
    "Fence",
    "Journal",
    "Lease",
    "LostLeaseError",
    "Outbox",
    "PublishedRun",
    "RunStatus",
    "Store",
    "StoredRun",
    "TaskTrace",
    "TrackedRun",
    "Uploaded",
    "as_text",
    "detach",
    "guarded",
    "is_owned",
    "power_figure",
    "prepare_store",
    "read_tasks_parquet",
    "record_published",
    "spread",
    "upload",
    "write_power_parquet",
    "write_tasks_parquet",
    "write_windows_parquet",
]
