"""``codejoule meter`` over servers, which end by signals."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from codejoule.measurement.feed import BUNDLED_RECORDING

RECORDING = str(BUNDLED_RECORDING)
_CODEJOULE = "import sys; from codejoule.cli import main; sys.exit(main())"
# The tests may run in the background of a shell, or under nohup, where these are ignored.
_FOREGROUND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    f"signal.signal(signal.SIGHUP, signal.SIG_DFL); {_CODEJOULE}"
)
# Notes each signal in a file, and cleans up for a while after the last that it waits for.
_SERVER = """
import pathlib, signal, sys, time
note, number, enough, code = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])
got = []
signal.signal(number, lambda n, _: (got.append(n), note.write_text(f"{len(got)}")))
note.write_text("0")
while len(got) < enough:
    time.sleep(0.01)
time.sleep(0.3)
note.write_text(f"{len(got)} and cleaned up")
sys.exit(code)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``codejoule meter -- COMMAND`` in a process group of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: str, within: tuple[str, ...] = (), **options: object) -> object:
        own = ["meter", "--replay", RECORDING, "--idle-s", "0", "--", *command]
        started.append(
            subprocess.Popen(  # type: ignore[call-overload]
                [*within, sys.executable, "-c", _CODEJOULE if within else _FOREGROUND, *own], stderr=subprocess.PIPE, text=True,
                start_new_session=True, **options,
            )
        )  # fmt: skip
        return started[-1]

    yield start  # type: ignore[misc]
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _until(note: Path, text: str) -> None:
    deadline = time.monotonic() + 30
    while not (note.exists() and note.read_text().startswith(text)):
        assert time.monotonic() < deadline, f"never {text!r}"
        time.sleep(0.01)


def _server(note: Path, number: int, enough: int = 1, code: int = 0) -> tuple[str, ...]:
    return (sys.executable, "-c", _SERVER, str(note), str(int(number)), str(enough), str(code))


@pytest.mark.parametrize(
    ("number", "send"),
    [
        (signal.SIGINT, [os.kill]),
        (signal.SIGTERM, [os.kill]),
        (signal.SIGHUP, [os.kill]),
        (signal.SIGTERM, [os.kill, os.killpg]),  # as coreutils' timeout does
    ],
    ids=["interrupt", "terminate", "hang up", "time limit"],
)
def test_a_server_gets_a_signal_once_cleans_up_and_its_energy_is_printed(
    start: Start,
    tmp_path: Path,
    number: signal.Signals,
    send: Sequence[Callable[[int, int], None]],
) -> None:
    note = tmp_path / "note"
    metered = start(*_server(note, number, code=3))
    _until(note, "0")
    for kill in send:
        kill(metered.pid, number)
    _, err = metered.communicate(timeout=30)
    assert note.read_text() == "1 and cleaned up"
    assert metered.returncode == 3
    assert "energy " in err and " J (replay, gpu)" in err and "Traceback" not in err


def test_ctrl_c_in_a_terminal_reaches_the_server_once(tmp_path: Path) -> None:
    note = tmp_path / "note"
    own = ["meter", "--replay", RECORDING, "--idle-s", "0", "--"]
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.execv(
            sys.executable,
            [sys.executable, "-c", _FOREGROUND, *own, *_server(note, signal.SIGINT, code=5)],
        )
    try:
        _until(note, "0")
        os.write(terminal, b"\x03")
        said = b""
        with suppress(OSError):  # that the terminal has no more users
            while chunk := os.read(terminal, 4096):
                said += chunk
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    finally:
        os.close(terminal)
    assert note.read_text() == "1 and cleaned up"
    assert b" J (replay, gpu)" in said and b"Traceback" not in said


def test_a_server_may_use_the_second_ctrl_c_itself(start: Start, tmp_path: Path) -> None:
    note = tmp_path / "note"
    metered = start(*_server(note, signal.SIGINT, enough=2))
    _until(note, "0")
    for count in ("1", "2"):
        metered.send_signal(signal.SIGINT)
        _until(note, count)
    _, err = metered.communicate(timeout=30)
    assert note.read_text() == "2 and cleaned up"
    assert metered.returncode == 0 and " J (replay, gpu)" in err


def test_what_was_started_with_nohup_does_not_end_with_its_terminal(
    start: Start, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    metered = start(*_server(note, signal.SIGTERM), within=("nohup",))
    _until(note, "0")
    os.killpg(metered.pid, signal.SIGHUP)
    time.sleep(0.2)
    assert metered.poll() is None
    metered.send_signal(signal.SIGTERM)
    _, err = metered.communicate(timeout=30)
    assert note.read_text() == "1 and cleaned up" and " J (replay, gpu)" in err
