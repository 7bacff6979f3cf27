"""Where runs wait for a tracking server that does not answer."""

import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from codejoule.config import home, write_whole
from codejoule.domain import from_json, to_json

_KNOWN_FOR_S = 3600.0
"""So long a server that did not answer is asked but briefly."""
_Fact = TypeVar("_Fact")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A run that waits in the outbox."""

    known_as: str
    """Its id in journals and outcomes: the server's for one that was begun there."""
    run_id: str
    """Its id in the outbox's own store."""
    experiment: str
    """Name of its experiment."""
    whole: bool
    """Whether all of it is here; else only what the server has not taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a run on the server was begun with: enough to go on without the server."""

    name: str
    """Name of the run."""
    start_time_ms: int
    """Its beginning [ms since the epoch]."""
    end_time_ms: int | None = None
    """Its end [ms since the epoch]; None where it has none."""
    status: str
    """As MLflow calls it."""
    tags: Mapping[str, str]
    """Its tags so far."""
    params: Mapping[str, str]
    """Its params."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A finished run of the server, so that nothing is measured twice while the server is away."""

    run_id: str
    """The server's id."""
    metrics: Mapping[str, float]
    """What it has measured."""
    generated: bool
    """Whether its samples were still to be judged."""


class Outbox:
    """Folder of one server's outbox. It holds an ordinary MLflow store, and small files: who waits
    there (``waiting``), what the server has confirmed since (``uploaded``), and what is known of
    the server's own runs (``started``, ``finished``)."""

    def __init__(self, tracking: Path, server: str) -> None:
        """`tracking` is the tracking folder, `server` the address."""
        self.server = server.rstrip("/")
        # MLflow opens no store below a folder with a percent sign in its name.
        name = re.sub(r"[^\w.-]+", "_", self.server.partition("://")[2])
        digest = hashlib.sha256(self.server.encode()).hexdigest()[:8]
        self.tracking = tracking
        self.folder = tracking / "outbox" / f"{name}-{digest}"

    @classmethod
    def below(cls, tracking: Path) -> "list[Outbox]":
        """Every outbox of a tracking folder."""
        files = sorted((tracking / "outbox").glob("*/server"))
        return [cls(tracking, file.read_text(encoding="utf-8")) for file in files]

    @property
    def command(self) -> str:
        """The command that uploads what waits."""
        usual = self.tracking.absolute() == (home() / "mlruns").absolute()
        return (
            "codejoule sync"
            if usual
            else f"codejoule sync --tracking-dir {shlex.quote(str(self.tracking))}"
        )

    def told(self) -> str | None:
        """A sentence on what waits; None where nothing does."""
        count = len(self.all_waiting())
        if not count:
            return None
        what = "1 run waits" if count == 1 else f"{count} runs wait"
        return f"{what} in {self.folder} for {self.server}: {self.command} uploads"

    def add(self, run: Waiting) -> Waiting:
        """Let a run wait. The one that waits: another process may have been faster."""
        if not (self.folder / "server").exists():
            write_whole(self.folder / "server", self.server)
        half = self.folder / "waiting" / f".{secrets.token_hex(8)}"
        write_whole(half, json.dumps(to_json(run)))
        try:
            os.link(half, self.folder / "waiting" / run.known_as)
        except FileExistsError:
            found = self.waiting(run.known_as)
            assert found is not None, "only an upload takes it away, and that holds the outbox"
            return found
        finally:
            half.unlink()
        return run

    def waiting(self, known_as: str) -> Waiting | None:
        """The run that waits under this id."""
        return _read(Waiting, self.folder / "waiting" / known_as)

    def all_waiting(self) -> list[Waiting]:
        """Every run that waits."""
        found = [_read(Waiting, file) for file in _files(self.folder / "waiting")]
        return [run for run in found if run is not None]

    def uploaded(self, run: Waiting, server_run: str) -> None:
        """The server has confirmed all of a run, which is known as its `server_run` from now on."""
        if run.known_as != server_run:
            write_whole(self.folder / "uploaded" / run.known_as, server_run)
        (self.folder / "waiting" / run.known_as).unlink(missing_ok=True)

    def canonical(self, run_id: str) -> str:
        """The server's id of a run that was uploaded; any other id as it is."""
        try:
            return (self.folder / "uploaded" / run_id).read_text(encoding="utf-8")
        except FileNotFoundError:
            return run_id

    def note(self, run_id: str) -> Note | None:
        """What is known of a run of the server's."""
        return _read(Note, self.folder / "started" / run_id)

    def write_note(self, run_id: str, note: Note) -> None:
        """Keep it. Raises `UserError` where that is not possible."""
        write_whole(self.folder / "started" / run_id, json.dumps(to_json(note)))

    def forget(self, run_id: str) -> None:
        """Keep it no longer."""
        (self.folder / "started" / run_id).unlink(missing_ok=True)

    def finish(self, experiment: str, fingerprint: str, run: Finished) -> None:
        """A run of the server's has finished."""
        write_whole(self._finished(experiment) / fingerprint, json.dumps(to_json(run)))

    def finished(self, experiment: str, fingerprint: str) -> Finished | None:
        """The run with this fingerprint that has last finished on the server, as far as this folder
        knows."""
        return _read(Finished, self._finished(experiment) / fingerprint)

    def finished_as(self, experiment: str, run_id: str) -> Finished | None:
        """The finished run with this id."""
        found = (_read(Finished, file) for file in _files(self._finished(experiment)))
        return next((run for run in found if run is not None and run.run_id == run_id), None)

    def _finished(self, experiment: str) -> Path:
        return self.folder / "finished" / quote(experiment, safe="")

    @contextmanager
    def held(self, *, alone: bool) -> Iterator[None]:
        """Inside, what waits is written to (by any number at a time), or, `alone`, taken away."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".held").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield

    @property
    def known_down(self) -> bool:
        """Whether the server was found not to answer a while ago."""
        try:
            age_s = time.time() - (self.folder / "down").stat().st_mtime
        except FileNotFoundError:
            return False
        return age_s < _KNOWN_FOR_S

    def note_down(self) -> None:
        """The server does not answer."""
        write_whole(self.folder / "down", "")

    def note_up(self) -> None:
        """It does."""
        with suppress(FileNotFoundError):
            (self.folder / "down").unlink()


def _files(folder: Path) -> Iterator[Path]:
    return iter(sorted(file for file in folder.glob("*") if not file.name.startswith(".")))


def _read(kind: type[_Fact], file: Path) -> _Fact | None:
    try:
        plain: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    found: _Fact = from_json(kind, plain)
    return found
