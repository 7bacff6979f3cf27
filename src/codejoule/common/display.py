"""What is told of work, for a person: one live line at the bottom of a terminal, or lines now and
then where there is no terminal."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from codejoule.common.progress import told_to
from codejoule.config.schema import ProgressMode
from codejoule.domain import visible

_TICK_S = 0.5
"""How often the display looks at its clock."""
_DRAW_S = 0.1
"""Time between two drawings of the live line [s]."""
_LASTS_S = 2.0
"""Without a terminal, an activity that lasts as long gets a line ..."""
_AGAIN_S = 30.0
"""... and one more each time this has passed [s]."""
_COLUMNS = 80
"""Width of a terminal that does not tell its own."""
_ERASE = "\r\x1b[K"


class Display:
    """Shows what it is told on `stream`. No colours, and no control characters but those that
    redraw the live line, which only a terminal gets."""

    def __init__(
        self,
        stream: TextIO,
        mode: ProgressMode = ProgressMode.auto,
        *,
        beside_others: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`beside_others`: others write to the stream at the same time, and each line says what it
        is about."""
        self.mode = mode
        self.left: Callable[[], str] = str
        """What is said of the time that is left; empty where nothing is known."""
        self._stream = stream
        self._beside_others = beside_others
        self._clock = clock
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._ticks: threading.Thread | None = None
        self._heading = self._what = self._detail = self._told = ""
        self._since_s = self._drawn_s = self._told_s = clock()
        self._shown = False

    @property
    def live(self) -> bool:
        """Whether there is a live line."""
        if self.mode is not ProgressMode.auto or os.environ.get("TERM") == "dumb":
            return False
        return not self._stream.closed and self._stream.isatty()

    def heading(self, text: str) -> None:
        """What the activities to come are part of."""
        with self._lock:
            self._heading = text

    def doing(self, what: str, detail: str) -> None:
        """Show an activity, and how far it is."""
        if self.mode is ProgressMode.none:
            return
        with self._lock:
            now_s = self._clock()
            changed = what != self._what
            if changed:
                self._what, self._since_s = what, now_s
            self._detail = detail
            if self.live and (changed or now_s - self._drawn_s >= _DRAW_S):
                self._draw()
            if self._ticks is None:
                self._ticks = threading.Thread(target=self._tick, daemon=True, name="display")
                self._ticks.start()

    def say(self, text: str) -> None:
        """Show a line that stays."""
        if self.mode is ProgressMode.none:
            return
        with self._lock:
            if self._beside_others and not text.startswith(self._heading):
                text = f"{self._heading}: {text}"
            self._write((_ERASE if self._shown else "") + visible(text) + "\n")
            self._shown = False
            self._told_s = self._clock()
            if self.live and self._what:
                self._draw()

    def pause(self) -> None:
        """Nothing is done for now: the terminal is another's."""
        with self._lock:
            self._what = ""
            if self._shown:
                self._write(_ERASE)
                self._shown = False

    def close(self) -> None:
        """Show nothing any more."""
        self.pause()
        self._ended.set()
        if self._ticks is not None:
            self._ticks.join()

    def tick(self) -> None:
        """Show that time passes."""
        with self._lock:
            if not self._what:
                return
            if self.live:
                self._draw()
                return
            now_s = self._clock()
            lasts = self._what != self._told and now_s - self._since_s >= _LASTS_S
            if lasts or now_s - self._told_s >= _AGAIN_S:
                self._told, self._told_s = self._what, now_s
                parts = [self._heading, self._state(), self.left()]
                self._write(visible(", ".join(filter(None, parts))) + "\n")

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_S):
            self.tick()

    def _state(self) -> str:
        return f"{self._what}: {self._detail}" if self._detail else self._what

    def _draw(self) -> None:
        """The end of the line stays whole where the terminal is narrow: it shows that work goes
        on."""
        self._drawn_s = self._clock()
        minutes, seconds = divmod(int(self._drawn_s - self._since_s), 60)
        end = "".join(f" | {part}" for part in (f"{minutes}:{seconds:02d}", self.left()) if part)
        front = " | ".join(filter(None, [self._heading, self._state()]))
        room = max(_columns(self._stream) - 1 - len(end), 0)
        if len(front) > room:
            front = f"{front[: max(room - 3, 0)]}..."[:room]
        self._write(f"{_ERASE}{visible(front.replace(chr(10), ' ') + end)}")
        self._shown = True

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more
            self.mode = ProgressMode.none


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS


@contextmanager
def displayed(
    mode: ProgressMode = ProgressMode.auto, *, beside_others: bool = False
) -> Iterator[Display]:
    """Inside, what is told is shown on standard error, as it is now: what becomes of that later,
    in a job whose libraries write to its log file, does not matter."""
    stream = sys.stderr
    with suppress(OSError, ValueError, AttributeError):  # it is no file
        stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", errors="backslashreplace")
    display = Display(stream, mode, beside_others=beside_others)
    try:
        with told_to(display):
            yield display
    finally:
        display.close()
