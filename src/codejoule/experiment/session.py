"""The windows of an engine that refills: slices of its time, cut as sequences end."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codejoule.domain import Completion, EnergyReading
from codejoule.generation import Ended
from codejoule.measurement import Slices, Window
from codejoule.tracking.entries import Batch, SliceFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """A window that has ended, or is about to, and what ended in it."""

    window: Window
    completions: dict[int, Completion]
    last: Ended
    positions: int | None


class Session:
    """What an engine was given in one go. A window is cut once `window_tasks` more sequences have
    ended, it is `shortest_s` long, and as many are left as make another. Its reading is waited for
    while decoding goes on: a ledger has it with the next tick."""

    def __init__(
        self,
        slices: Slices,
        *,
        places: Sequence[int],
        at_once: int,
        window_tasks: int,
        shortest_s: float,
        first: int,
    ) -> None:
        """`places` are those of the prompts among the run's requests; `first` is the number of the
        first window."""
        self._slices = slices
        self._places = places
        self._at_once = at_once
        self._window_tasks = window_tasks
        self._shortest_s = shortest_s
        self._number = first
        self._left = len(places)
        self._completions: dict[int, Completion] = {}
        self._last: Ended | None = None
        self._positions: int | None = 0
        self._waiting: deque[_Slice] = deque()
        self._began_s = 0.0
        self.lost: EnergyReading | None = None
        """Energy of the last window where nothing ended in it; known after `rest`."""

    def take(self, ended: Ended) -> None:
        """Sequences have ended: the moment at which a window may."""
        self._completions |= ended.completions
        self._left -= len(ended.completions)
        self._last = ended
        if (
            len(self._completions) >= self._window_tasks
            and self._slices.window.age_s >= self._shortest_s
            and self._left >= self._window_tasks
        ):
            self._end(self._slices.cut())

    def settled(self) -> Iterator[Batch]:
        """The windows that have become known since."""
        while self._waiting and self._waiting[0].window.settled:
            yield self._entry(self._waiting.popleft())

    def rest(self) -> Iterator[Batch]:
        """The others, once the block of all windows has ended."""
        if self._completions:
            self._end(self._slices.window)
            self.lost = None
        else:
            self.lost = self._slices.window.reading
        while self._waiting:
            yield self._entry(self._waiting.popleft())

    def _end(self, window: Window) -> None:
        assert self._last is not None
        now, self._positions, before = self._last.positions, self._last.positions, self._positions
        self._waiting.append(
            _Slice(
                window=window,
                completions=self._completions,
                last=self._last,
                positions=None if now is None or before is None else now - before,
            )
        )
        self._completions = {}

    def _entry(self, ended: _Slice) -> Batch:
        reading, begin_s = ended.window.reading, self._began_s
        self._began_s += reading.latency_s
        number, self._number = self._number, self._number + 1
        return Batch(
            batch=number,
            completions=tuple(ended.completions.values()),
            reading=reading,
            positions=ended.positions,
            memory_peak_bytes=None,
            slice=SliceFacts(
                places=tuple(self._places[place] for place in ended.completions),
                begin_s=begin_s,
                end_s=self._began_s,
                end=ended.last.clock,
                at_once=self._at_once,
                running=ended.last.running,
            ),
        )
