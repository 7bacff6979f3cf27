"""The sampler's own process: ``python -m codejoule.measurement.recorder``. It appends records to a
file that the run reads. A process of its own keeps the slow reads of the counter (3 to 40 ms each)
out of the run's interpreter; it is started by its module's name, so that the run's main module is
not imported a second time. Each device has a thread, so that one card's slow read does not delay
another's tick (ctypes lets go of the interpreter meanwhile)."""

import argparse
import os
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path
from typing import Any

from codejoule.measurement.feed import Kind
from codejoule.measurement.processes import foreign_processes

AHEAD_S = 0.006
"""How long before the expected tick reading begins: two reads, one of which should see the old
value."""

ACQUIRE_TICKS = 6
"""Ticks observed by reading without pause before the next one is predicted."""

STILL_S = 0.25
"""After this long without a tick, the standing counter is put on record."""

SLOW_PERIOD_S = 0.5
"""How often temperature, slowed clocks and the processes on the device are looked at."""

NICENESS = 10
"""The run's own threads go first where there are not enough cores for all: the sampler then reads
late, which the ledger allows for, and decoding is not slowed."""

CHECK_S = 0.1
"""How often the threads are moved away from the core that decodes [s]."""

SLOWED = 0x8 | 0x20 | 0x40 | 0x80
"""NVML's reasons for slowed clocks: by the hardware, by heat (the driver's and the hardware's
limit), by a power brake. The board's power limit, which is part of the card, is not among them."""

HANGING_S = 1.0
"""A thread that has not ended this long after it was told to hangs in the driver."""

_LAYOUT = struct.Struct("<HHIddd")

Put = Callable[[Kind, int, float, float, float], None]


class Affinity:
    """Moves the threads of this process away from the core of another's main thread. The scheduler
    does not do so by itself everywhere: on a virtual machine whose cores share no cache that it
    knows of, a thread stays where it was woken (on an H200's host the sampler was found on the
    decoding thread's core at 41 of 48 looks). With a single core nothing is changed."""

    def __init__(self, owner: int, *, core_of: Callable[[int], int | None] | None = None) -> None:
        self._owner = owner
        self._core_of = core_of or _core_of
        self._allowed = os.sched_getaffinity(0)
        self._left: int | None = None

    def __call__(self) -> None:
        """Look where the owner runs, and leave that core (and its sibling, if others remain)."""
        core = self._core_of(self._owner)
        if core is None or core == self._left:
            return
        self._left = core
        free = self._allowed - _siblings(core) or self._allowed - {core}
        for task in os.listdir("/proc/self/task") if free else ():  # noqa: PTH208
            os.sched_setaffinity(int(task), free)


def _core_of(pid: int) -> int | None:
    """Core on which the main thread of a process was last; None where that is not told."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, IndexError, ValueError):
        return None


def _siblings(core: int) -> set[int]:
    """Hardware threads of the same physical core."""
    listed = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        parts = [part.partition("-") for part in listed.read_text().strip().split(",")]
    except OSError:
        return {core}
    ranges = [range(int(first), int(last or first) + 1) for first, _, last in parts]
    return {core, *(number for each in ranges for number in each)}


class DeviceSampler:
    """Records what one device does: each tick of its counter, which is read when the next
    one is due, and its other quantities as they change, unless the driver lacks them."""

    def __init__(self, device: int, handle: Any, put: Put, *, owners: Sequence[int]) -> None:
        self._device, self._handle, self._put, self._owners = device, handle, put, owners
        self._last: dict[Kind, float] = {}
        self._lacking: set[Kind] = set()
        self._asleep_s = _suspended_s()
        self._old_s = self._recorded_s = self._due_s = time.monotonic()
        self._value_j = self._read_j()
        self._seen_s: list[float] = []

    def run(self, *, period_s: float, wait: Callable[[float], bool]) -> None:
        """Look for ticks when they are due, at power every `period_s` and at the rest every
        `SLOW_PERIOD_S`, until `wait`, which waits so many seconds, says that it is over."""
        quick_s = slow_s = time.monotonic()
        while True:
            if time.monotonic() >= self._due_s:
                self._poll()
            now_s = time.monotonic()
            if now_s >= quick_s:
                self._note(Kind.power, self._power_w)
                quick_s = max(quick_s + period_s, now_s)
            if now_s >= slow_s:
                self._look_slowly()
                slow_s = now_s + SLOW_PERIOD_S
            if wait(max(0.0, min(quick_s, self._due_s) - time.monotonic())):
                return

    def _poll(self) -> None:
        before_s = time.monotonic()
        value_j = self._read_j()
        after_s = time.monotonic()
        if value_j == self._value_j:
            self._old_s = before_s
            if after_s - self._recorded_s > STILL_S:
                self._put(Kind.still, self._device, before_s, after_s, value_j)
                self._recorded_s = after_s
            return
        self._put(Kind.tick, self._device, self._old_s, after_s, value_j)
        self._recorded_s, self._value_j, self._old_s = after_s, value_j, before_s
        self._expect(after_s)

    def _expect(self, seen_s: float) -> None:
        """Predict the next tick: the least late of the last ones, plus a period."""
        self._seen_s = [*self._seen_s[-31:], seen_s]
        seen = self._seen_s
        if len(seen) <= ACQUIRE_TICKS:
            return
        steps_s = sorted(later - earlier for earlier, later in pairwise(seen))
        period_s = steps_s[len(steps_s) // 2]
        if len(seen) > 16:
            turns = round((seen[-1] - seen[0]) / period_s)
            period_s = (seen[-1] - seen[0]) / turns
        # Late reads must not push the prediction later and later: take the earliest phase.
        late_s = [s - seen[-1] - round((s - seen[-1]) / period_s) * period_s for s in seen[-16:]]
        self._due_s = seen_s + min(late_s) + period_s - AHEAD_S

    def _look_slowly(self) -> None:
        self._note(Kind.temperature, self._temperature_c)
        self._note(Kind.slowed, self._slowed)
        now_s = time.monotonic()
        for pid in foreign_processes(self._handle, self._owners):
            self._put(Kind.foreign, self._device, now_s, now_s, pid)
        if self._device == 0:
            self._note(Kind.suspended, lambda: round(_suspended_s() - self._asleep_s, 1))

    def _note(self, kind: Kind, query: Callable[[], float]) -> None:
        import pynvml

        if kind in self._lacking:
            return
        before_s = time.monotonic()
        try:
            value = query()
        except pynvml.NVMLError:
            if kind in self._last:
                raise
            self._lacking.add(kind)
            return
        if self._last.get(kind) != value:
            self._last[kind] = value
            self._put(kind, self._device, before_s, time.monotonic(), value)

    def _read_j(self) -> float:
        import pynvml

        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3

    def _temperature_c(self) -> float:
        import pynvml

        return float(pynvml.nvmlDeviceGetTemperature(self._handle, pynvml.NVML_TEMPERATURE_GPU))

    def _slowed(self) -> float:
        import pynvml

        reasons = int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))
        return float(reasons & SLOWED != 0)

    def _power_w(self) -> float:
        import pynvml

        fields = [pynvml.NVML_FI_DEV_POWER_INSTANT]
        (field,) = pynvml.nvmlDeviceGetFieldValues(self._handle, fields)
        if field.nvmlReturn != pynvml.NVML_SUCCESS:
            raise pynvml.NVMLError(field.nvmlReturn)
        return float(field.value.uiVal) / 1e3


def _suspended_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def main() -> None:
    """Sample the NVML devices named on the command line into an inherited file."""
    import pynvml

    # Slurm tells all processes of a step to end, and the run then finishes its window.
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="codejoule.measurement.recorder")
    parser.add_argument("--file", type=int, required=True)
    parser.add_argument("--uuid", action="append", required=True)
    parser.add_argument("--period-s", type=float, required=True)
    parser.add_argument("--owner", type=int, required=True)
    parser.add_argument("--also", type=int, action="append", default=[])
    args = parser.parse_args()
    os.nice(NICENESS)
    parent, ended = os.getppid(), threading.Event()

    def put(kind: Kind, device: int, before_s: float, after_s: float, value: float) -> None:
        record = _LAYOUT.pack(kind, device, 0, before_s, after_s, value)
        if os.write(args.file, record) != len(record):
            raise OSError("the file of the energy records took only part of a record: disk full?")

    def stopped() -> bool:
        """Wait on stdin, which the run closes to end sampling, and which closes as the run dies.
        Not by PR_SET_PDEATHSIG alone: it fires when the *thread* that started us ends. A child of
        the run may have inherited the pipe and outlive it, hence the look at the parent."""
        readable, _, _ = select.select([sys.stdin], [], [], CHECK_S)
        return bool(readable) or os.getppid() != parent

    def follow(device: int, handle: Any) -> None:
        sampler = DeviceSampler(device, handle, put, owners=(args.owner, *args.also))
        sampler.run(period_s=args.period_s, wait=ended.wait)

    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in args.uuid]
    keep_off = Affinity(args.owner)
    pool = ThreadPoolExecutor(len(handles))
    threads = [pool.submit(follow, device, handle) for device, handle in enumerate(handles)]
    try:
        while not stopped():
            keep_off()
            for thread in threads:
                # A device that fails ends the process, with the driver's words on stderr.
                if thread.done():
                    thread.result()
    finally:
        ended.set()
        if wait(threads, timeout=HANGING_S).not_done:
            # The interpreter would wait for a thread that hangs in the driver.
            os._exit(1)


if __name__ == "__main__":
    main()
