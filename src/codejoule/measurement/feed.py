"""Where a ledger's records come from: the sampler's process, or a recording of one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codejoule.config import UserError, python_path


class Kind(IntEnum):
    """What a record holds in ``value``. A recording may have others, of which nothing is made."""

    tick = 1
    """Energy counter after a step [J]; ``before_s`` is the start of the last read without it."""
    still = 2
    """Energy counter that has not moved since the last record of it [J]."""
    power = 3
    """Instantaneous power [W]."""
    temperature = 7
    """Temperature of the chip [degrees Celsius]."""
    foreign = 10
    """Process id of a process on the device that does not belong to the run."""
    suspended = 11
    """Time that the machine has spent suspended since sampling began [s]; device 0."""
    slowed = 12
    """Whether the driver holds the clocks down, for heat or a power brake: 1 or 0."""


RECORD = np.dtype(
    [
        ("kind", "<u2"),
        ("device", "<u2"),
        ("unused", "<u4"),
        ("before_s", "<f8"),
        ("after_s", "<f8"),
        ("value", "<f8"),
    ]
)
"""Layout of a record: 32 bytes. Times are CLOCK_MONOTONIC [s], before and after the query;
``device`` counts the devices sampled, from 0."""

Records = NDArray[np.void]


class LiveFeed:
    """Records of a sampler that runs in a process of its own. They come through a file without a
    name, which neither blocks the sampler nor loses a record if the run is busy, and which the
    system removes with its last user."""

    def __init__(
        self, uuids: Mapping[str, str], *, period_s: float, processes: Sequence[int] = ()
    ) -> None:
        """`processes` are others that may use the devices: a server's that works for this one."""
        self.devices = tuple(uuids)
        self._file, self._errors = TemporaryFile(), TemporaryFile()  # noqa: SIM115
        self._offset = 0
        self._last = b""
        self._closed = False
        command = [sys.executable, "-P", "-m", "codejoule.measurement.recorder"]
        command += ["--file", str(self._file.fileno()), "--period-s", str(period_s)]
        command += ["--owner", str(os.getpid())]
        command += [f"--also={pid}" for pid in processes]
        command += [f"--uuid={uuid}" for uuid in uuids.values()]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            pass_fds=(self._file.fileno(),),
            env=os.environ | python_path(),
            # Ctrl-C in a terminal reaches its whole process group; sampling ends with the run.
            start_new_session=True,
        )

    def read(self) -> Records:
        """Records since the last call; UserError if the sampler has died."""
        if self._closed:
            data, self._last = self._last, b""
            return np.frombuffer(data, dtype=RECORD)
        died = self._process.poll() is not None
        data = self._new()
        if died:
            said = os.pread(self._errors.fileno(), 2**16, 0).decode(errors="replace").strip()
            raise UserError(
                f"the energy sampler ended by itself (status {self._process.returncode}: "
                f"{said.splitlines()[-1] if said else 'no message'}), so the energy since then is "
                "not known; run the job again, which continues after its last batch. `codejoule "
                "doctor` tries the counters"
            )
        return np.frombuffer(data, dtype=RECORD)

    def _new(self) -> bytes:
        """Whole records that the file holds beyond those read."""
        size = os.fstat(self._file.fileno()).st_size - self._offset
        data = os.pread(self._file.fileno(), size - size % RECORD.itemsize, self._offset)
        self._offset += len(data)
        return data

    def close(self) -> None:
        """End the sampler and wait for it; what it has written can still be read."""
        if self._closed:
            return
        self._closed = True
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._last = self._new()
        self._file.close()
        self._errors.close()


class ReplayFeed:
    """A recording that starts to run when this object is made."""

    def __init__(self, path: Path) -> None:
        recording = load_recording(path)
        self.devices = tuple(recording.devices)
        self.idle_power_w: float | None = recording.about.get("idle_w")
        """Idle power of all its devices, as the recording states it [W]."""
        self._path = path
        records = recording.records.copy()
        self._start_s = time.monotonic()
        shift_s = self._start_s - float(records["after_s"].min())
        records["before_s"] += shift_s
        records["after_s"] += shift_s
        self._records = records
        self._next = 0

    def read(self) -> Records:
        """Records whose time has come; UserError once the recording is over."""
        now_s = time.monotonic()
        after_s = self._records["after_s"]
        if now_s > after_s[-1] + 1.0:
            length_s = after_s[-1] - after_s[0]
            raise UserError(
                f"meter.recording={self._path}: the recording of {length_s:.0f} s is over, and the "
                "run goes on; choose a longer recording or a shorter run"
            )
        end = int(np.searchsorted(after_s, now_s, side="right"))
        new = self._records[self._next : end]
        self._next = end
        return new

    def close(self) -> None:
        """No further records are needed."""


Feed = LiveFeed | ReplayFeed
"""Records of the energy counters of some devices, as they come."""


class Recording(NamedTuple):
    """Records and what is known about them."""

    records: Records
    devices: Sequence[str]
    about: Mapping[str, Any]
    """Free facts: hardware, driver, windows and so on (JSON)."""


BUNDLED_RECORDING = Path(__file__).parent / "data" / "h200_ledger.npz"
"""166 s of a real NVIDIA H200; tests/golden/README.md says how it was made."""

_COLUMNS = ("kind", "device", "before_s", "after_s", "value")


def load_recording(path: Path) -> Recording:
    """Read what `save_recording` wrote; UserError where it is no recording."""
    try:
        with np.load(path) as parts:
            about = json.loads(str(parts["about"]))
            columns = {name: parts[name] for name in _COLUMNS}
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(
            f"meter.recording={path}: not a recording of energy ticks ({error}); "
            "leave it out to play the one that comes with codejoule"
        ) from error
    records = np.zeros(len(columns["kind"]), dtype=RECORD)
    for name, column in columns.items():
        records[name] = column
    if len(records) == 0:
        raise UserError(f"meter.recording={path}: holds no records")
    order = np.argsort(records["after_s"], kind="stable")
    return Recording(records[order], about["devices"], about)


def save_recording(path: Path, recording: Recording) -> None:
    """Write a recording as one compressed file of numpy arrays."""
    about = json.dumps({**recording.about, "devices": list(recording.devices)})
    columns: dict[str, Any] = {name: recording.records[name] for name in _COLUMNS}
    np.savez_compressed(path, about=np.array(about), **columns)
