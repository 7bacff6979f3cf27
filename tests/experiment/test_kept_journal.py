"""A finished run's journal: in the store, and deleted where it was once that is confirmed."""

import logging
from pathlib import Path

import pytest

from codejoule.config import UserError, write_whole
from codejoule.config.schema import TrackingConfig
from codejoule.experiment.kept_journal import RUN_ID, pack_journal, release_journal, unpack_journal
from codejoule.tracking import Journal, Store, prepare_store


@pytest.fixture
def opened(store: Path) -> Store:
    return prepare_store(TrackingConfig(dir=str(store / "mlruns")))


def finished(store: Store, folder: Path) -> str:
    """A run with one artifact, and its journal."""
    run = store.start_run(name="job", parent_run_id=None, tags={}, params={})
    with Journal(folder) as journal:
        journal.append_payload("window", {"batch": 0})
    write_whole(folder / RUN_ID, run.run_id)
    write_whole(folder / "artifacts" / "samples.jsonl", "{}\n")
    packed = pack_journal(folder, folder / "artifacts")
    run.log(artifacts=[folder / "artifacts" / "samples.jsonl", packed])
    run.finish("FINISHED")
    return run.run_id


def test_it_goes_once_the_store_lists_every_artifact_and_comes_back_from_there(
    opened: Store, tmp_path: Path
) -> None:
    run_id = finished(opened, tmp_path / "journal")
    release_journal(opened, run_id, tmp_path / "journal")
    assert not (tmp_path / "journal").exists()
    assert unpack_journal(opened, run_id, tmp_path / "again") is not None
    with Journal(tmp_path / "again") as journal:
        assert journal.payloads("window") == [{"batch": 0}]


@pytest.mark.parametrize("name", ["samples.jsonl", "journal.jsonl.gz"])
def test_it_stays_where_an_artifact_is_not_whole_in_the_store(
    name: str, opened: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = finished(opened, tmp_path / "journal")
    kept = opened.fetch_artifact(run_id, name, tmp_path)
    assert kept is not None
    (stored,) = (tmp_path / "mlruns").glob(f"artifacts/*/artifacts/{name}")
    stored.write_bytes(stored.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        release_journal(opened, run_id, tmp_path / "journal")
    assert (tmp_path / "journal" / "journal.jsonl").exists()
    assert f"does not list {name} as it was written" in caplog.text


def test_it_stays_where_the_store_cannot_be_asked_and_that_is_no_error_of_the_run(
    opened: Store,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = finished(opened, tmp_path / "journal")

    def gone(*_: object) -> list[str]:
        raise UserError("the server does not answer")

    monkeypatch.setattr(opened, "unlisted", gone)
    with caplog.at_level(logging.WARNING):
        release_journal(opened, run_id, tmp_path / "journal")
    assert (tmp_path / "journal" / "journal.jsonl").exists()
    assert "the server does not answer" in caplog.text


def test_that_of_another_run_stays(opened: Store, tmp_path: Path) -> None:
    finished(opened, tmp_path / "journal")
    release_journal(opened, "another", tmp_path / "journal")
    assert (tmp_path / "journal" / "journal.jsonl").exists()


def test_a_run_that_keeps_none_gives_none(opened: Store, tmp_path: Path) -> None:
    run = opened.start_run(name="job", parent_run_id=None, tags={}, params={})
    assert unpack_journal(opened, run.run_id, tmp_path / "again") is None
