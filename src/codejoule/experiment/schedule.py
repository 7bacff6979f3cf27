"""How long the rest of a sweep takes, as far as predictions and finished jobs tell."""

import time
from collections.abc import Callable, Sequence

from codejoule.domain.text import duration


class Schedule:
    """The jobs of a sweep that this process runs one after the other."""

    def __init__(
        self, expected_s: Sequence[float | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`expected_s` is what each job was predicted to take [s]; None where nothing tells it."""
        self._expected_s = expected_s
        self._clock = clock
        self._took_s: dict[int, float] = {}
        self._number, self._began_s = 0, clock()

    def begin(self, number: int) -> None:
        """Job `number` begins; the first is 0."""
        self._number, self._began_s = number, self._clock()

    def end(self) -> None:
        """It has ended, and did all its work: what it took tells what others will take."""
        self._took_s[self._number] = self._clock() - self._began_s

    def left_s(self) -> float | None:
        """Time that the job under way and those after it still take [s]; None where that is not
        known. What finished jobs took corrects the predictions of the others, and stands for
        those that nothing predicts."""
        left_s = 0.0
        for number in range(self._number, len(self._expected_s)):
            expected_s = self._of(number)
            if expected_s is None:
                return None
            if number == self._number:
                expected_s = max(expected_s - (self._clock() - self._began_s), 0.0)
            left_s += expected_s
        return left_s

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
