"""The journal of a run that has finished: an artifact in the store, and no longer beside it."""

import gzip
import logging
import shutil
from pathlib import Path

from codejoule.config import UserError
from codejoule.tracking import Store

JOURNAL = "journal.jsonl"
PACKED = f"{JOURNAL}.gz"
"""A fifth of the journal's size."""
RUN_ID = "run_id"
"""The file that names the run which the journal beside it belongs to."""

_log = logging.getLogger(__name__)


def recorded_run(folder: Path) -> str | None:
    """MLflow run that the journal in `folder` belongs to; None before it has one."""
    note = folder / RUN_ID
    return note.read_text(encoding="utf-8") if note.exists() else None


def pack_journal(folder: Path, artifacts: Path) -> Path:
    """Write the journal in `folder` among the run's `artifacts`; its path there."""
    packed = artifacts / PACKED
    with (folder / JOURNAL).open("rb") as plain, gzip.open(packed, "wb", compresslevel=6) as file:
        shutil.copyfileobj(plain, file)
    return packed


def unpack_journal(store: Store, run_id: str, folder: Path) -> Path | None:
    """Write the journal that a finished run keeps in the store into `folder`, made where missing;
    its path there, None where the store has none of it."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = store.fetch_artifact(run_id, PACKED, folder)
    if packed is None:
        return None
    with gzip.open(packed, "rb") as file, (folder / JOURNAL).open("wb") as plain:
        shutil.copyfileobj(file, plain)
    packed.unlink()
    return folder / JOURNAL


def release_journal(store: Store, run_id: str, folder: Path) -> None:
    """Delete the journal and the artifacts in `folder`, of a run that has finished, once the store
    lists every one of them with its size. What it does not list is logged, and all is kept, as it
    is where the store cannot be asked: the run has finished all the same."""
    journal, artifacts = folder / JOURNAL, folder / "artifacts"
    recorded = recorded_run(folder)
    if recorded is not None and store.outbox is not None:
        recorded = store.outbox.canonical(recorded)  # it may have been uploaded since
    if recorded != run_id:
        return
    if journal.exists():
        files = sorted(artifacts.iterdir()) if artifacts.is_dir() else []
        packed = [file.name for file in files if file.name == PACKED]
        try:
            lacking = store.unlisted(run_id, files) if packed else [PACKED]
        except UserError as error:
            _log.warning("run %s has finished, its journal stays in %s: %s", run_id, folder, error)
            return
        if lacking:
            _log.warning(
                "run %s has finished, but the store does not list %s as it was written: its "
                "journal is kept in %s",
                run_id, ", ".join(lacking), folder,
            )  # fmt: skip
            return
        # First: without it nothing is left to be confirmed, wherever this is broken off.
        journal.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
