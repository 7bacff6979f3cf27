"""How many samples may be judged at once, by the memory that is there."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from codejoule.sandbox.host_memory import Memory

_PER_WORKER_BYTES = 2**30
"""With less than this for each, fewer workers are started."""

_PER_SAMPLE_BYTES = 2**28
"""With less than this left, no sample begins beside another, and one that has taken less is
not what the memory went to."""

_FASTEST_BYTES_PER_S = 2**36
"""At which processes of one machine fill memory together."""

_SHORTEST_S, _LONGEST_S = 0.01, 0.5
_SETTLE_S = 0.1
"""How long what a killed sample had takes to be free again."""

_AHEAD_S = 0.15
"""How far ahead to look while several are judged: the kernel, once out of memory, kills
several, and does not stop at samples."""


class Evictable(Protocol):
    """What is asked of a worker."""

    def sample_bytes(self) -> int:
        """Memory that its sample has taken so far."""

    def evict(self) -> None:
        """From another thread: end its sample without a verdict."""


def workers_for(wanted: int, memory: Memory) -> int:
    """As many of the `wanted` workers as there is memory for, at least one."""
    return max(1, min(wanted, memory.available_bytes() // _PER_WORKER_BYTES))


class Admission:
    """Lets samples begin while there is memory for one more, and ends the largest of them
    before the kernel has to kill. `watch` runs in a thread of its own."""

    def __init__(self, memory: Memory, *, most: int) -> None:
        self._memory = memory
        self._most = most
        self._judging: list[Evictable] = []
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def place(self, worker: Evictable) -> Iterator[None]:
        """Wait until `worker` may judge one more sample, and hold its place meanwhile."""
        with self._changed:
            while self._judging and not self._has_room():
                self._changed.wait(_LONGEST_S)
            self._judging.append(worker)
        try:
            yield
        finally:
            with self._changed:
                self._judging.remove(worker)
                self._changed.notify_all()

    def allow_fewer(self) -> None:
        """For the holder of a place whose sample found too little memory: from now on, one
        sample fewer at once than now."""
        with self._changed:
            self._most = max(1, min(self._most, len(self._judging)) - 1)

    def watch(self, over: threading.Event) -> None:
        """Look at the memory until all is `over`."""
        wait_s, before, before_s = _SHORTEST_S, self._memory.available_bytes(), time.monotonic()
        while not over.wait(wait_s):
            left, now_s = self._memory.available_bytes(), time.monotonic()
            taken_per_s = max(0, before - left) / (now_s - before_s)
            ahead_s = _AHEAD_S if len(self._judging) > 1 else 0.0
            wait_s = min(max(left / _FASTEST_BYTES_PER_S, _SHORTEST_S), _LONGEST_S)
            if left < taken_per_s * ahead_s and self._evict_largest():
                wait_s = _SETTLE_S
            before, before_s = left, now_s

    def _has_room(self) -> bool:
        return (
            len(self._judging) < self._most and self._memory.available_bytes() >= _PER_SAMPLE_BYTES
        )

    def _evict_largest(self) -> bool:
        """Whether there was one that is worth it."""
        with self._changed:
            judging: Sequence[Evictable] = tuple(self._judging)
        sizes = {worker: worker.sample_bytes() for worker in judging}
        largest = max(sizes, key=lambda worker: sizes[worker], default=None)
        if largest is None or sizes[largest] < _PER_SAMPLE_BYTES:
            return False
        largest.evict()
        return True
