"""What is no recording, no command and no store is one message."""

from pathlib import Path

import pytest

from codejoule.cli import main
from codejoule.measurement.feed import BUNDLED_RECORDING

RECORDING = str(BUNDLED_RECORDING)


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command among silly files; what it said as it refused."""
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    Path("text").write_text("hello")
    Path("bytes").write_bytes(bytes(range(256)))
    Path("folder").mkdir()

    def said(*argv: str) -> str:
        assert main(argv) == 2
        return capsys.readouterr().err

    return said


@pytest.mark.parametrize("file", ["empty", "text", "bytes", "folder", "nowhere"])
def test_what_is_no_recording_is_refused(said, file: str) -> None:
    assert f"meter.recording={file}: not a recording" in said(
        "meter", "--replay", file, "--", "true"
    )


@pytest.mark.parametrize("command", ["folder", "text", "nowhere", "", "a\0b"])
def test_what_is_no_command_is_refused(said, command: str) -> None:
    own = ["meter", "--replay", RECORDING, "--idle-s", "0", "--", command]
    assert f"cannot run {command!r}: " in said(*own)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("mlruns", "mlruns: not the address of a tracking store"),
        ("http://[", "not the address of a tracking store"),
        ("http://host:port", "not the address of a tracking store"),
        ("https://", "not the address of a tracking store"),
        ("postgresql://host/mlflow", "not the address of a tracking store"),
        ("databricks", "not the address of a tracking store"),
        ("sqlite:///folder", "folder is a folder"),
        ("sqlite:///text", "text: no SQLite database"),
        ("sqlite:///bytes", "bytes: no SQLite database"),
        ("http://me:s3cr3t@host", "--tracking-uri: holds a password"),
    ],
)
@pytest.mark.parametrize("command", [["analyze"], ["estimate", "gpu=h100", "--calibrate", "a"]])
def test_what_is_no_store_is_refused(said, command: list[str], uri: str, text: str) -> None:
    refusal = said(*command, "--tracking-uri", uri)
    assert text in refusal and "s3cr3t" not in refusal
