"""Small files, whole or not at all, and what is told where a disk is full."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from codejoule.config import UserError, full_disk, write_whole
from codejoule.config.explain import explain


@pytest.mark.parametrize("content", ["naïve\n", "", b"\x00\xff", "x" * 100_000])
def test_a_file_is_written_with_its_folders(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a" / "b" / "state.json"
    for _ in range(2):
        write_whole(path, content)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert [file.name for file in path.parent.iterdir()] == ["state.json"]


def test_others_may_read_a_file_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "state.json", "{}")
    finally:
        os.umask(before)
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: str
) -> None:
    path = tmp_path / "state.json"
    write_whole(path, "old")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(step, fail)
    with pytest.raises(UserError) as told:
        write_whole(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert str(told.value).startswith(f"{path}: cannot be written: ")
    full = number in (errno.ENOSPC, errno.EDQUOT)
    assert (f"MiB are free in {tmp_path}); free some space" in str(told.value)) is full


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match=r"out/state.json: cannot be written: \w"):
        write_whole(tmp_path / "out" / "state.json", "{}")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the quota is used up"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), "the disk is full"),
        (RuntimeError("INTERNAL: [Errno 28] No space left on device: '/x'"), "the disk is full"),
    ],
)
def test_a_full_disk_is_told_with_its_folder_and_free_space(
    tmp_path: Path, error: Exception, words: str
) -> None:
    told = full_disk(error, tmp_path / "not yet" / "there")
    assert told is not None and told.startswith(words)
    assert f"MiB are free in {tmp_path})" in told and "start the same command again" in told


def test_where_no_file_is_named_the_fullest_disk_of_the_command_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda at: usage._replace(free=10 if at == Path("/proc") else 10**9)
    )
    error = OSError(errno.ENOSPC, "No space left on device")
    told = explain(error, ["batch=b8", "hydra.sweep.dir=/proc/not there/a"])
    assert told is not None and "(0.0 MiB are free in /proc)" in told


def test_another_error_is_no_full_disk() -> None:
    assert full_disk(OSError(errno.EACCES, "Permission denied")) is None
    assert full_disk(ValueError("full")) is None
