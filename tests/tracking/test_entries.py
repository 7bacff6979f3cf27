"""Entries of a journal have types, and those that an earlier version wrote are read as they are."""

import json
import shutil
from pathlib import Path

import pytest

from codejoule.config import UserError
from codejoule.tracking import Journal, entries
from codejoule.tracking.entries import Batch, Entry, Judged, Loaded, OutOfMemory

BEFORE = Path(__file__).parents[1] / "golden" / "journal_untyped.jsonl"
KINDS = {each.kind: each for each in vars(entries).values() if hasattr(each, "kind")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(BEFORE, tmp_path / "journal.jsonl")
    return tmp_path


def test_every_entry_of_the_version_before_is_read_and_would_be_written_the_same(folder):
    lines = [json.loads(line) for line in BEFORE.read_text().splitlines()]
    newer = {"shown_verdicts", "train", "trained"}
    assert {line["kind"] for line in lines} == set(KINDS) - newer
    with Journal(folder) as journal:
        for kind, entry in KINDS.items():
            again = [found.payload() for found in journal.entries(entry)]
            for payload, old in zip(again, journal.payloads(kind), strict=True):
                assert _without_new(payload) == old


def _without_new(payload):
    """What an entry has now and had not then is not known of an old one."""
    reading = payload.get("reading") or {}
    assert reading.pop("zeus_j", None) is None
    assert not reading.pop("doubts", ())
    for completion in payload.get("completions") or ():
        assert completion.pop("thinking_tokens") is None
        pace = completion["pace"] or {}
        assert pace.pop("begun_s", None) is None and pace.pop("arrived_s", None) is None
    if "completions" in payload:
        assert payload.pop("slice") is None
    if "verdicts" in payload:
        assert payload.pop("host") is payload.pop("cpu") is None
    if "meter" in payload:
        assert not payload["meter"].pop("uuids")
    if "temperature_c" in payload:  # of the GPUs at rest
        assert payload.pop("source") is None
    return payload


def test_an_entry_comes_back_as_it_went_in(folder):
    with Journal(folder) as journal:
        (batch,) = journal.entries(Batch)
        journal.append(batch)
        first, second = journal.entries(Batch)
        assert first == second == batch
        assert list(journal.entries(Batch)[1:]) == [batch]
        assert journal.count(Batch) == 2
        assert journal.entries(Loaded)[0].device == "cpu"
        (lost,) = journal.entries(OutOfMemory)
        assert lost.reading is not None and lost.reading.energy_j != lost.reading.energy_j
        assert len(journal.entries(Judged)) == 3


def test_each_repair_round_has_samples_and_verdicts_of_its_own(folder):
    with Journal(folder) as journal:
        (batch,) = journal.entries(Batch)
        second = journal.of_round(2)
        assert journal.of_round(1) is journal and journal.of_round(2) is second
        assert second.count(Batch) == second.count(Judged) == 0
        assert list(second.entries(Loaded)) == list(journal.entries(Loaded)), (
            "the model is common to all"
        )
        second.append(batch)
        assert (journal.count(Batch), second.count(Batch)) == (1, 1)
        assert second.of_round(3).count(Batch) == 0
    with Journal(folder) as journal:
        assert list(journal.of_round(2).entries(Batch)) == [batch], "as it was"


@pytest.mark.parametrize(
    ("kind", "change"),
    [("batch", {"speculated": 3}), ("batch", {"completions": None}), ("load", {"meter": {}})],
)
def test_an_entry_of_another_form_is_told_apart_from_damage(
    kind: str, change: dict[str, object], tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in BEFORE.read_text().splitlines()]
    for line in lines:
        if line["kind"] == kind:
            line["payload"] |= change
    (tmp_path / "journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    entry: type[Entry] = KINDS[kind]
    with Journal(tmp_path) as journal:
        text = rf"\({kind}\) is of another version of codejoule .*delete .* to run it afresh"
        with pytest.raises(UserError, match=text):
            list(journal.entries(entry))
