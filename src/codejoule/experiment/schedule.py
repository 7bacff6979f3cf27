"""How long the rest of a sweep takes, as far as predictions and finished jobs tell."""

import time
from collections.abc import Callable, Sequence
from heapq import heapreplace

from codejoule.domain.text import duration


class Schedule:
    """The jobs of a sweep, which are begun in their order."""

    def __init__(
        self, expected_s: Sequence[float | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`expected_s` is what each job was predicted to take [s]; None where nothing tells it."""
        self._expected_s = expected_s
        self._clock = clock
        self.at_once = 1
        """How many run at the same time."""
        self._took_s: dict[int, float] = {}
        self._began_s: dict[int, float] = {}
        self._next = 0

    def begin(self, number: int) -> None:
        """Job `number` begins; the first is 0."""
        self._began_s[number] = self._clock()
        self._next = max(self._next, number + 1)

    def end(self, number: int, *, worked: bool) -> None:
        """It has ended. Where it did all its work, what it took tells what others will take."""
        took_s = self._clock() - self._began_s.pop(number)
        if worked:
            self._took_s[number] = took_s

    def left_s(self) -> float | None:
        """Time that the jobs under way and those after them still take [s]; None where that is not
        known. What finished jobs took corrects the predictions of the others, and stands for
        those that nothing predicts."""
        busy_s = [0.0] * self.at_once
        for number in (*self._began_s, *range(self._next, len(self._expected_s))):
            expected_s = self._of(number)
            if expected_s is None:
                return None
            if number in self._began_s:
                expected_s = max(expected_s - (self._clock() - self._began_s[number]), 0.0)
            # The next job is that of whoever has ended first.
            heapreplace(busy_s, busy_s[0] + expected_s)
        return max(busy_s)

    def left(self) -> str:
        """The same for a reader; empty where it is not known."""
        left_s = self.left_s()
        return f"about {duration(left_s)} left" if left_s else ""

    def _of(self, number: int) -> float | None:
        expected_s = self._expected_s[number]
        if expected_s is None:
            took_s = self._took_s.values()
            return sum(took_s) / len(took_s) if took_s else None
        pairs = [
            (took_s, earlier_s)
            for done, took_s in self._took_s.items()
            if (earlier_s := self._expected_s[done])
        ]
        if not pairs:
            return expected_s
        return expected_s * sum(took for took, _ in pairs) / sum(earlier for _, earlier in pairs)


_schedules: list[Schedule] = []


def set_schedule(schedule: Schedule) -> None:
    """It is that of the sweep that this process runs."""
    _schedules[:] = [schedule]


def schedule_here() -> Schedule | None:
    """That of the sweep whose jobs this process runs; None in a job of another launcher's, which
    has a process of its own."""
    return _schedules[0] if _schedules else None
