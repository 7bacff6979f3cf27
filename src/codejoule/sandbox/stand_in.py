"""Who may judge beside the workers: a worker whose sample sleeps leaves its core idle."""

import threading
from collections.abc import Sequence
from typing import Protocol

_PERIOD_S = 1.0

_ASLEEP = 0.1
"""Share of a core below which a sample counts as asleep."""


class AtWork(Protocol):
    """What is asked of a worker."""

    def progress(self) -> tuple[int, float] | None:
        """Number of the sample that it is on, and CPU time so far [s]; None if it has none or
        that cannot be told."""


class StandIns:
    """Lets as many stand-ins judge as workers have a sample that sleeps. `watch` runs in a
    thread of its own."""

    def __init__(self, workers: Sequence[AtWork]) -> None:
        self._workers = workers
        self._allowed = 0
        self._judging = 0
        self._over = False
        self._changed = threading.Condition()

    def watch(self, over: threading.Event) -> None:
        """Look at the workers once a second until all is `over`."""
        before: list[tuple[int, float] | None] = [None] * len(self._workers)
        while not over.wait(_PERIOD_S):
            now = [worker.progress() for worker in self._workers]
            asleep = sum(map(_is_asleep, before, now))
            with self._changed:
                self._allowed = asleep
                self._changed.notify_all()
            before = now
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def begin(self) -> bool:
        """Wait until one more may judge a sample; False when all is over."""
        with self._changed:
            while not self._over and self._judging >= self._allowed:
                self._changed.wait()
            self._judging += not self._over
            return not self._over

    def end(self) -> None:
        """After each `begin` that was granted."""
        with self._changed:
            self._judging -= 1


def _is_asleep(before: tuple[int, float] | None, now: tuple[int, float] | None) -> bool:
    if before is None or now is None or before[0] != now[0]:
        return False
    return now[1] - before[1] < _ASLEEP * _PERIOD_S
