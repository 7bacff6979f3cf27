"""The folder of samples without a sandbox: nobody's is deleted, and no other."""

from pathlib import Path

import pytest

from codejoule.sandbox import folder
from codejoule.sandbox.folder import SamplesFolder


def test_one_that_a_killed_process_left_is_deleted_and_one_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_NEW_S", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "codejoule-samples-left"
    (left / "sample" / "home").mkdir(parents=True)
    used = SamplesFolder()
    other = SamplesFolder()
    assert sorted(tmp_path.iterdir()) == sorted([used.path, other.path])
    used.delete()
    other.delete()
    assert not list(tmp_path.iterdir())


def test_one_that_was_just_made_may_not_be_locked_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "codejoule-samples-new").mkdir()
    SamplesFolder().delete()
    assert (tmp_path / "codejoule-samples-new").is_dir()
