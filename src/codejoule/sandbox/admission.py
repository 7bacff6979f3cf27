"""How many programs may run at once, by the memory and the cores that are idle."""

import contextlib
import threading
import time
from collections.abc import Iterator

from codejoule.sandbox.host_memory import HostMemory
from codejoule.sandbox.sandbox import Sandbox

_PER_WORKER_BYTES = 2**30
"""With less than this for each, fewer workers are started."""
_PER_SAMPLE_BYTES = 2**28
"""With less than this left, no program begins beside another. A program that has taken less than
this is not what used up the memory [bytes]."""
_FASTEST_BYTES_PER_S = 2**36
"""Rate at which the processes of one machine can fill memory together [bytes/s]."""
_SHORTEST_S, _LONGEST_S = 0.01, 0.5
_SETTLE_S = 0.1
"""How long what a killed program had takes to be free again."""
_AHEAD_S = 0.15
"""How far ahead to look while several run [s]. Once out of memory, the kernel kills several
processes, and not programs alone."""
_SLEEP_PERIOD_S = 1.0
_ASLEEP = 0.1
"""Share of a core, over a period, below which a program counts as asleep."""


def workers_for(wanted: int, memory: HostMemory) -> int:
    """As many of the `wanted` workers as there is memory for, at least one."""
    return max(1, min(wanted, memory.available_bytes() // _PER_WORKER_BYTES))


class Admission:
    """Lets programs begin while there is memory for one more, and ends the largest of them
    before the kernel has to kill. Spare workers may begin while programs of others sleep, so
    that no core idles. `watch` runs in a thread of its own."""

    def __init__(self, memory: HostMemory, *, most: int) -> None:
        self._memory = memory
        self._most = most
        self._running: list[Sandbox] = []
        self._spares = self._asleep = 0
        self._over = False
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def place(self, worker: Sandbox, *, spare: bool = False) -> Iterator[bool]:
        """Wait until `worker` may run one more program, and hold its place meanwhile. False, for
        a `spare` one, when all is over."""
        with self._changed:
            while spare and not self._over and self._spares >= self._asleep:
                self._changed.wait()
            granted = not (spare and self._over)
            if granted:
                self._spares += spare
                while self._running and (
                    len(self._running) >= self._most
                    or self._memory.available_bytes() < _PER_SAMPLE_BYTES
                ):
                    self._changed.wait(_LONGEST_S)
                self._running.append(worker)
        try:
            yield granted
        finally:
            with self._changed:
                if granted:
                    self._running.remove(worker)
                    self._spares -= spare
                self._changed.notify_all()

    def allow_fewer(self) -> None:
        """For the holder of a place whose program found too little memory: from now on, one
        fewer at once than now."""
        with self._changed:
            self._most = max(1, min(self._most, len(self._running)) - 1)

    def watch(self, over: threading.Event) -> None:
        """Look at the memory, and at who sleeps, until all is `over`."""
        wait_s, before, before_s = _SHORTEST_S, self._memory.available_bytes(), time.monotonic()
        seen, seen_s = self._progress(), before_s
        while not over.wait(wait_s):
            left, now_s = self._memory.available_bytes(), time.monotonic()
            taken_per_s = max(0, before - left) / (now_s - before_s)
            ahead_s = _AHEAD_S if len(self._running) > 1 else 0.0
            wait_s = min(max(left / _FASTEST_BYTES_PER_S, _SHORTEST_S), _LONGEST_S)
            if left < taken_per_s * ahead_s and self._evict_largest():
                wait_s = _SETTLE_S
            before, before_s = left, now_s
            if now_s - seen_s >= _SLEEP_PERIOD_S:
                now = self._progress()
                asleep_s = _ASLEEP * (now_s - seen_s)
                with self._changed:
                    self._asleep = sum(
                        done_s - seen.get(program, -asleep_s) < asleep_s
                        for program, done_s in now.items()
                    )
                    self._changed.notify_all()
                seen, seen_s = now, now_s
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _progress(self) -> dict[tuple[Sandbox, int], float]:
        """CPU time of each worker by the program that it is on."""
        told = {worker: worker.progress() for worker in tuple(self._running)}
        return {(worker, one[0]): one[1] for worker, one in told.items() if one is not None}

    def _evict_largest(self) -> bool:
        """End the largest program; False where ending none of them would help."""
        sizes = {worker: worker.taken_bytes() for worker in tuple(self._running)}
        largest = max(sizes, key=lambda worker: sizes[worker], default=None)
        if largest is None or sizes[largest] < _PER_SAMPLE_BYTES:
            return False
        largest.evict()
        return True
