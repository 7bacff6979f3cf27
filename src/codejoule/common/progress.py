"""What work says of itself while it goes on: what it does now, and lines that stay.

Every room tells it here, and whoever watches has been named with `told_to`: a display, or, in a
process that works for another, a pipe to it. Where nobody watches nothing happens.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

OWN = "codejoule"
_OWN = (OWN, "hydra_plugins")
_BETWEEN_S = 0.1
"""Time between two states of the same activity that a pipe is given [s]."""


class Watcher(Protocol):
    """Whoever is told."""

    def doing(self, what: str, detail: str) -> None:
        """`what` is done now, until the next call; `detail` says how far it is."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def pause(self) -> None:
        """Nothing is done for now, and somebody else writes to the terminal."""


_watchers: list[Watcher] = []


def doing(what: str, detail: str = "") -> None:
    """Tell what is done from now on, as a participle: "loading the model"."""
    if _watchers:
        _watchers[-1].doing(what, detail)


def say(text: str) -> None:
    """Tell something that stays."""
    if _watchers:
        _watchers[-1].say(text)


def pause() -> None:
    """Tell that nothing is done for now: an answer is printed, or another program runs."""
    if _watchers:
        _watchers[-1].pause()


def watcher() -> Watcher | None:
    """Who is told here."""
    return _watchers[-1] if _watchers else None


@contextmanager
def told_to(watcher: Watcher) -> Iterator[None]:
    """Inside, `watcher` is told."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


class Messages(logging.Handler):
    """Logging handler for what codejoule's own loggers say; other libraries' records are in the
    job's log file alone."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it as a line that stays."""
        if record.name.partition(".")[0] not in _OWN:
            return
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        if _watchers:
            _watchers[-1].say(text)
        else:
            print(text, file=sys.stderr)


@contextmanager
def messages_told() -> Iterator[None]:
    """Inside, what codejoule's loggers say is told, where no configuration of Hydra's does that."""
    handler, logger = Messages(), logging.getLogger(OWN)
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


class Pipe(logging.Handler):
    """Watcher and logging handler that passes all on to the process at a pipe's other end, which
    gives every line of it to `relay`. Work that is measured does not wait for it: while nobody
    reads a full pipe, as when the terminal is stopped, activities are left out and the rest is
    kept, at the latest until `close`."""

    def __init__(self, file: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        os.set_blocking(file, False)
        self._file = file
        self._unsent = b""
        self._clock = clock
        self._what, self._told_s = "", 0.0

    def doing(self, what: str, detail: str) -> None:
        """Pass it on, unless the same activity has just told how far it is."""
        now_s = self._clock()
        if what == self._what and now_s - self._told_s < _BETWEEN_S:
            return
        self._what, self._told_s = what, now_s
        self._send({"doing": [what, detail]}, must=False)

    def say(self, text: str) -> None:
        """Pass it on."""
        self._send({"say": text})

    def pause(self) -> None:
        """Its job goes on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on; a traceback is text by then."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        self._send({"log": [record.name, record.levelno, text]})

    def close(self) -> None:
        """Pass on what is left, however long it takes. The file is its owner's to close."""
        self.acquire()
        try:
            if self._unsent:
                os.set_blocking(self._file, True)
                self._pass_on()
        finally:
            self.release()
        super().close()

    def _send(self, message: dict[str, Any], *, must: bool = True) -> None:
        line = json.dumps(message).encode() + b"\n"
        self.acquire()  # several threads tell, and a line may take more than one write
        try:
            self._pass_on()
            if must or not self._unsent:
                self._unsent += line
                self._pass_on()
        finally:
            self.release()

    def _pass_on(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._file, self._unsent) :]
        except BlockingIOError:  # the pipe is full
            pass
        except OSError:  # nobody listens any more
            self._unsent = b""


def relay(line: bytes) -> None:
    """Do here what a `Pipe` was told there."""
    message = json.loads(line)
    if "doing" in message:
        doing(*message["doing"])
    elif "say" in message:
        say(message["say"])
    else:
        name, level, text = message["log"]
        logging.getLogger(name).log(level, "%s", text)
