"""What a person sees of work."""

import io
import os
import pty

import pytest

from codejoule.common.display import Display, displayed
from codejoule.common.progress import doing, say
from codejoule.config.schema import ProgressMode


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _display(stream: io.StringIO, clock: Clock, mode: str = "auto") -> Display:
    display = Display(stream, ProgressMode(mode), clock=clock)
    display._ticks = display._ticks or _Never()  # type: ignore[assignment]
    return display


class _Never:
    """A thread that does not tick: the test does."""

    def join(self) -> None: ...


def test_on_a_terminal_one_line_changes_and_others_stay(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    display = _display(stream, clock)
    display.heading("2/4 starter-none-b8")
    display.left = lambda: "about 3 min left"
    display.doing("generating", "1/63 tasks")
    clock.now_s = 65.0
    display.tick()
    display.say("1/4 is done")
    display.pause()
    erase = "\r\x1b[K"
    line = "2/4 starter-none-b8 | generating: 1/63 tasks"
    assert stream.getvalue() == (
        f"{erase}{line} | 0:00 | about 3 min left"
        f"{erase}{line} | 1:05 | about 3 min left"
        f"{erase}1/4 is done\n"
        f"{erase}{line} | 1:05 | about 3 min left"
        f"{erase}"
    )


def test_a_line_longer_than_the_terminal_keeps_its_end(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    _display(stream, clock).doing("generating", "x" * 200)
    assert stream.getvalue().endswith("xxx... | 0:00"), "a terminal of unknown width has 80 columns"
    assert len(stream.getvalue().removeprefix("\r\x1b[K")) == 79


def test_a_terminal_that_says_it_has_no_columns_is_taken_for_80_wide(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, its = pty.openpty()
    with os.fdopen(its, "w") as stream:
        display = Display(stream, clock=clock)
        display.doing("generating", "x" * 200)
        assert len(os.read(ours, 4096).decode().removeprefix("\r\x1b[K")) == 79
        display.close()
    os.close(ours)


@pytest.mark.parametrize(("terminal", "term"), [(False, "xterm"), (True, "dumb")])
def test_without_a_terminal_lasting_work_gets_a_line_at_once_and_then_one_in_30_s(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, terminal: bool, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    stream = Terminal() if terminal else io.StringIO()
    display = _display(stream, clock)
    display.heading("starter-none-b8")
    display.doing("loading", "")
    for _ in range(3):
        clock.now_s += 0.5
        display.tick()
    display.doing("generating", "0/63 tasks")
    for second in range(70):
        clock.now_s += 1
        display.doing("generating", f"{second}/63 tasks")
        display.tick()
    assert stream.getvalue().splitlines() == [
        "starter-none-b8, generating: 1/63 tasks",
        "starter-none-b8, generating: 31/63 tasks",
        "starter-none-b8, generating: 61/63 tasks",
    ]


def test_beside_others_each_line_says_what_it_is_about(clock: Clock) -> None:
    stream = io.StringIO()
    display = Display(stream, ProgressMode.plain, beside_others=True, clock=clock)
    display.say("before it is known")
    display.heading("2/4 starter-none-b8")
    display.say("warning: it is hot")
    display.say("2/4 starter-none-b8: 3 J per task")
    assert stream.getvalue().splitlines() == [
        "before it is known",
        "2/4 starter-none-b8: warning: it is hot",
        "2/4 starter-none-b8: 3 J per task",
    ]


def test_a_quiet_display_says_nothing(clock: Clock) -> None:
    stream = Terminal()
    display = _display(stream, clock, "none")
    display.doing("loading", "")
    display.say("loaded")
    display.tick()
    assert stream.getvalue() == ""


def test_names_from_outside_cannot_steer_the_terminal(clock: Clock) -> None:
    stream = io.StringIO()
    _display(stream, clock).say("org/\x1b[2Jname")
    assert stream.getvalue() == "org/\\x1b[2Jname\n"


def test_a_reader_that_is_gone_ends_nothing(clock: Clock) -> None:
    stream = io.StringIO()
    display = _display(stream, clock)
    stream.close()
    display.say("hello")
    display.doing("loading", "")


def test_what_is_told_is_shown_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with displayed():
        doing("loading")
        say("loaded")
    say("nobody listens")
    assert capfd.readouterr() == ("", "loaded\n")
