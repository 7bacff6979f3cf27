"""Jobs of codejoule on one machine: they reserve devices, and record which other jobs worked at the
same time."""

import fcntl
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from codejoule.common.progress import doing
from codejoule.config import UserError
from codejoule.config.schema import OnMeteredDevice
from codejoule.domain import to_json, visible

_log = logging.getLogger(__name__)

PLACE = "CODEJOULE_LOCK_DIR"
"""Environment variable with the folder in which jobs meet; containers that share a GPU or a
processor need one that they share, too."""

_KEPT_S = 3600.0
"""How long the note of a job that has ended stays, for windows that began before it."""
_NOTE_BYTES = 2**16
_HALF = "new-"


class Work(Enum):
    """What a job does."""

    generation = "generation"
    evaluation = "evaluation"
    command = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A stage of a run, or a command, at work."""

    name: str
    """Name of the run or of the command."""
    work: Work
    """What it does."""
    devices: tuple[str, ...]
    """The devices whose counters it has reserved."""
    processes: tuple[str, ...]
    """Its process and that one's ancestors, each with its namespace."""
    since_s: float
    """When it began [s since the epoch]."""

    @property
    def process(self) -> str:
        """The process that it runs in."""
        return self.processes[0]

    def __str__(self) -> str:
        # Another user may have written it, so it must not steer a terminal.
        name = visible(self.name.replace("\n", "\\n"))
        pid = self.process.partition("@")[0]
        return f"{name} (process {pid}, since {time.ctime(self.since_s)})"


@contextmanager
def at_work(
    name: str,
    work: Work,
    *,
    devices: Sequence[str] = (),
    on_metered_device: OnMeteredDevice = OnMeteredDevice.wait,
) -> Iterator[None]:
    """Announce a job while inside, and reserve `devices` for it (see `metered_devices`). A
    device that another job has is waited for, or is a `UserError`; what this process or an ancestor
    of it has already (``codejoule meter -- codejoule run``) is shared. The kernel ends all of
    it with the process. Raises `UserError` where jobs cannot meet."""
    files: list[int] = []
    try:
        with _explained():
            folder, own = _meeting_place(), _lineage()
            # In one order everywhere, so that no two jobs wait for each other.
            for device in sorted(devices):
                _take(device, folder, own, files, on_metered_device)
            now_s, taken = time.time(), tuple(devices)
            job = Job(name=name, work=work, devices=taken, processes=own, since_s=now_s)
            _announce(job, folder, files)
        yield
    finally:
        for file in files:
            os.close(file)


class OtherJobs:
    """The jobs beside this process; its ancestors and what it starts are none."""

    def __init__(self) -> None:
        self._own = _lineage()
        self._ended: dict[str, Job | None] = {}

    def since(self, moment_s: float) -> list[Job]:
        """Those at work, and those that began after `moment_s` [s since the epoch] and have ended.
        Raises `UserError` where jobs cannot meet."""
        with _explained():
            living = _living(_meeting_place(), self._ended)
        ended = [job for job in self._ended.values() if job and job.since_s >= moment_s]
        return [
            job
            for job in (*living, *ended)
            if job.process not in self._own and self._own[0] not in job.processes
        ]


def _meeting_place() -> Path:
    """The folder, one for every start of the machine, in which all users may write."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    folder = Path(os.environ.get(PLACE, "/tmp"), f"codejoule-{boot}")
    folder.mkdir(exist_ok=True)
    if folder.is_symlink():
        raise NotADirectoryError(0, "it is a symbolic link", str(folder))
    with suppress(PermissionError):  # another user made it, and did this
        folder.chmod(0o1777)
    return folder


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or 'the jobs of this machine'}: {error.strerror}. Jobs of codejoule "
            "meet there, so that none distorts another's energy unnoticed; mend it, or name a "
            f"folder that all users of this machine can write to, {PLACE}=/path"
        ) from error


def _take(
    device: str, folder: Path, own: Sequence[str], files: list[int], on_metered: OnMeteredDevice
) -> None:
    holders = [job for job in _living(folder, {}) if device in job.devices]
    if any(job.process in own for job in holders):
        return
    files.append(_open_lock(folder / f"{device}.lock"))
    try:
        fcntl.flock(files[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = str(holders[0]) if holders else "another job of codejoule"
        busy = f"{device} is being metered by {holder}, and its counter is everybody's"
        if on_metered is OnMeteredDevice.error:
            raise UserError(
                f"{busy}: wait until it has ended, choose another GPU (CUDA_VISIBLE_DEVICES), or "
                "let the job wait by itself (meter.on_metered_device=wait)"
            ) from error
        _log.warning("%s: this job waits until that one has ended", busy)
        doing("waiting for a device that another job meters")
        fcntl.flock(files[-1], fcntl.LOCK_EX)


def _open_lock(path: Path) -> int:
    """Open it, made where missing; it stays, because others may be waiting for it."""
    while True:
        try:
            # Without O_CREAT, which Linux refuses here for files of another user
            # (fs.protected_regular).
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            file, half = _create(path.parent)
            os.close(file)
            with suppress(FileExistsError):
                path.hardlink_to(half)
            half.unlink()


def _create(folder: Path) -> tuple[int, Path]:
    """A new file that all users may read, not yet under the name that it will have."""
    file, path = tempfile.mkstemp(prefix=_HALF, dir=folder)
    os.fchmod(file, 0o644)
    return file, Path(path)


def _announce(job: Job, folder: Path, files: list[int]) -> None:
    """Leave a note that is locked as long as this process works on the job."""
    _remove_old(folder)
    file, half = _create(folder)
    files.append(file)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.write(file, json.dumps(to_json(job)).encode())
    # Others see it only once it is whole and locked.
    half.rename(folder / f"{time.time_ns()}-{os.getpid()}.job")


def _remove_old(folder: Path) -> None:
    for note in (*folder.glob("*.job"), *folder.glob(f"{_HALF}*")):
        with suppress(OSError):  # another user's, or somebody else removes it too
            if time.time() - note.stat().st_ctime > _KEPT_S and _read(note)[1]:
                note.unlink()


def _living(folder: Path, ended: dict[str, Job | None]) -> list[Job]:
    """Jobs at work; those found to have ended are put into `ended`, and not looked at again."""
    living = []
    for name in os.listdir(folder):  # noqa: PTH208
        if not name.endswith(".job") or name in ended:
            continue
        try:
            job, over = _read(folder / name)
        except OSError:  # removed meanwhile, or no note of ours
            continue
        if over:
            ended[name] = job
        elif job is not None:
            living.append(job)
    return living


def _read(note: Path) -> tuple[Job | None, bool]:
    """The job, None where that is no note of ours; and whether it has ended."""
    file = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        job = _parse(os.pread(file, _NOTE_BYTES, 0), since_s=os.fstat(file).st_ctime)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return job, False
        return job, True
    finally:
        os.close(file)


def _parse(text: bytes, *, since_s: float) -> Job | None:
    try:
        row = json.loads(text)
        process, *ancestors = map(str, row["processes"])
        return Job(
            name=str(row["name"]),
            work=Work(row["work"]),
            devices=tuple(map(str, row["devices"])),
            processes=(process, *ancestors),
            since_s=since_s,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _lineage() -> tuple[str, ...]:
    """This process and its ancestors: a pid alone may be another's in another container."""
    import psutil

    namespace = Path("/proc/self/ns/pid").stat().st_ino
    own = psutil.Process()
    return tuple(f"{process.pid}@{namespace}" for process in (own, *own.parents()))
