"""Shows how far judging is."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from codejoule.domain import Status, Verdict, visible

_STEP = 0.1
"""Without a terminal, a line each time this share of the samples has been judged ..."""
_AT_LEAST_S = 2.0
"""... but not sooner than this after the line before [s] ..."""
_AT_MOST_S = 30.0
"""... and in any case after this, as soon as there is something new [s]."""


class Progress:
    """Counts verdicts and passes: on a terminal in one line that changes, else a line now and
    then; with `verbose` also a line on each failure. `what` names what is judged, where it is
    not samples."""

    def __init__(
        self, count: int, *, verbose: bool = False, what: str = "", stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._count = count
        self._verbose = verbose
        self._what = f"{what} " if what else ""
        self._stream = stream or sys.stderr
        self._clock = clock
        self._tty = self._stream.isatty()
        self._done = self._passed = self._said_done = self.kept = 0
        self._said_s = clock()

    def keep(self, verdicts: Sequence[Verdict]) -> None:
        """Verdicts that are known from before."""
        if verdicts:
            self.kept = self._done = self._said_done = len(verdicts)
            self._passed = sum(verdict.status is Status.passed for verdict in verdicts)
            self._say(f"{self._state()}, by an earlier evaluation\n")

    def add(self, verdict: Verdict) -> None:
        """A new verdict."""
        self._done += 1
        passed = verdict.status is Status.passed
        self._passed += passed
        start = "\r\x1b[K" if self._tty else ""
        if self._verbose and not passed:
            self._say(f"{start}{one_line(verdict)}\n")
        if self._tty:
            self._say(f"{start}{self._state()}" + ("\n" if self._done == self._count else ""))
            return
        since_s = self._clock() - self._said_s
        steps = int(self._done / self._count / _STEP) > int(self._said_done / self._count / _STEP)
        if since_s >= _AT_MOST_S or (steps and since_s >= _AT_LEAST_S):
            self._said_done, self._said_s = self._done, self._clock()
            self._say(f"{self._state()}\n")

    def _say(self, text: str) -> None:
        print(text, end="", file=self._stream, flush=True)

    def _state(self) -> str:
        return f"{self._done}/{self._count} {self._what}judged, {self._passed} passed"


def one_line(verdict: Verdict) -> str:
    """A failure in one line: the sample, the reason, the first failed test's last words."""
    name, text = next(iter(verdict.details.items()), ("", ""))
    said = (text.strip().splitlines() or [""])[-1]
    line = f"{verdict.task_id} sample {verdict.sample}: {verdict.reason}: {name}: {said}"
    return visible(line[:300].replace("\n", "\\n"))
