"""Jobs of codejoule on one machine: they reserve devices, and record which other jobs worked at the
same time."""

import fcntl
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
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
_LOOK_S = 0.2
"""How often a job that waits looks whether what it needs is free [s]."""
_HALF = "new-"


class Work(Enum):
    """What a job does."""

    generation = "generation"
    evaluation = "evaluation"
    command = "command"
    standby = "standby"
    """It keeps a model loaded for its next job, and computes nothing."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Devices of which any will do."""

    count: int
    """How many are needed."""
    among: tuple[str, ...]
    """The devices, those that are liked best first."""


@contextmanager
def at_work(
    name: str,
    work: Work,
    *,
    devices: Sequence[str] = (),
    choice: Choice | None = None,
    on_metered_device: OnMeteredDevice = OnMeteredDevice.wait,
) -> Iterator[tuple[str, ...]]:
    """Announce a job while inside, and reserve `devices` for it (see `metered_devices`), and as
    many free ones of a `choice`, which are given. Where another job has what is needed, this one
    holds nothing and waits for all of it at once, or raises `UserError`. What this process or an
    ancestor of it has already (``codejoule meter -- codejoule run``) is shared. The kernel ends all
    of it with the process. Raises `UserError` where jobs cannot meet."""
    files: list[int] = []
    try:
        with _explained():
            folder, own = _meeting_place(), _lineage()
            chosen = _reserve(devices, choice, folder, own, files, on_metered_device)
            now_s, taken = time.time(), (*devices, *chosen)
            job = Job(name=name, work=work, devices=taken, processes=own, since_s=now_s)
            _announce(job, folder, files)
        yield chosen
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


def _reserve(
    devices: Sequence[str],
    choice: Choice | None,
    folder: Path,
    own: Sequence[str],
    files: list[int],
    on_metered: OnMeteredDevice,
) -> tuple[str, ...]:
    """Lock them all, put the locks into `files`, which is empty, and give the devices that were
    chosen. Nothing is held while something is missing, so that no two jobs wait for each other."""
    told = False
    while True:
        jobs = _living(folder, {})
        lacking = [each for each in devices if not _take(each, folder, jobs, own, files)]
        found: list[str] = []
        if choice is not None and not lacking:
            for each in choice.among:
                if len(found) < choice.count and _take(each, folder, jobs, own, files):
                    found.append(each)
        if not lacking and (choice is None or len(found) == choice.count):
            return tuple(found)
        while files:
            os.close(files.pop())
        if not told:
            others = [job for job in jobs if job.process not in own]
            holders = {device: job for job in others for device in job.devices}
            _say_busy(lacking, found, choice, holders, on_metered)
            told = True
        time.sleep(_LOOK_S)


def _take(
    device: str, folder: Path, jobs: Sequence[Job], own: Sequence[str], files: list[int]
) -> bool:
    """Whether this job has it from now on; its lock is put into `files`. What an ancestor has is
    shared with this process, but not among the ancestor's descendants."""
    holding = {job.process for job in jobs if device in job.devices}
    nearest = next((process for process in own if process in holding), None)
    if nearest == own[0]:
        return True
    within = "" if nearest is None else f"-in-{nearest}"
    file = _open_lock(folder / f"{device}{within}.lock")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    files.append(file)
    return True


def _say_busy(
    lacking: Sequence[str],
    found: Sequence[str],
    choice: Choice | None,
    holders: Mapping[str, Job],
    on_metered: OnMeteredDevice,
) -> None:
    """Tell who has what is wanted, and that this job waits; `UserError` where it shall not."""
    front = ""
    if choice is not None and not lacking:
        lacking = [each for each in choice.among if each not in found]
        front = f"{choice.count} of {len(choice.among)} GPUs are needed, and too few are free: "
    busy = "; ".join(
        f"{device} is being metered by {holders.get(device, 'another job of codejoule')}"
        for device in lacking
    )
    text = f"{front}{busy}, and its counter is everybody's"
    if on_metered is OnMeteredDevice.error:
        raise UserError(
            f"{text}: wait until it has ended, choose another GPU (CUDA_VISIBLE_DEVICES), or "
            "let the job wait by itself (meter.on_metered_device=wait)"
        )
    _log.warning("%s: this job waits until that one has ended", text)
    doing("waiting for a device that another job meters")


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
