"""What every task begins with: the imports that are slow, and the state of what judges."""

import dataclasses
import importlib
import os
import shutil
import sys
import types
from pathlib import Path
from typing import Any

from . import seccomp
from .outcomes import Outcomes
from .process_guards import ProcessGuards
from .snapshot import Snapshot, freeze

_FORKABLE_THREADS = frozenset({"jemalloc_bg_thd"})
"""Threads of libraries that look after themselves when the process forks: jemalloc's."""


@dataclasses.dataclass(frozen=True)
class TaskSetup:
    """What every task begins with, settled once for all."""

    guards: ProcessGuards | None
    """Set under process isolation only."""
    by_user_namespace: bool
    """Whether a task has a user namespace of its own; else it may be root until it confines
    itself."""
    settings: dict[str, Any]
    """What the host has said."""
    files: dict[str, bytes]
    """What its home holds at first, by relative path."""
    seccomp_program: bytes
    snapshot: Snapshot

    @property
    def home(self) -> Path:
        """A program's home; it may write in the folder around it."""
        return Path(self.settings["home"])


def prepare(
    settings: dict[str, Any], guards: ProcessGuards | None, *, by_user_namespace: bool
) -> tuple[dict[str, Any], TaskSetup | None]:
    """What to tell the host, and what every task begins with: None where it is bad news. Raises
    OSError."""
    home = Path(settings["home"])
    _seed_home(home, settings["font_caches"])
    imported = []
    for name in settings["preimport"]:
        try:
            importlib.import_module(name)
        except Exception:
            # Left for the programs to find out.
            continue
        imported.append(name)
        if _has_started_threads():
            # A fork would lack them.
            return {"start_without": name}, None
    setup = TaskSetup(
        guards=guards,
        by_user_namespace=by_user_namespace,
        settings=settings,
        files=_files_in(home),
        seccomp_program=seccomp.build_program(),
        snapshot=Snapshot(Outcomes),
    )
    # Anyone could otherwise reach this program's modules through sys.modules.
    for name in [name for name in sys.modules if name.startswith("codejoule_inside")]:
        del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")
    freeze()
    return {"preimported": imported}, setup


def _seed_home(home: Path, font_caches: list[str]) -> None:
    """The directory that programs will call home, for the imports to write to: matplotlib's
    list of fonts takes seconds to make, and remembers where it lies."""
    cache = home / ".cache" / "matplotlib"
    cache.mkdir(parents=True)
    (home / ".config" / "matplotlib").mkdir(parents=True)
    for path in font_caches:
        shutil.copy(path, cache)
    os.environ["HOME"] = str(home)


def _files_in(home: Path) -> dict[str, bytes]:
    """What imports have left there, by relative path."""
    files = [path for path in sorted(home.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in files
        if path.suffix != ".matplotlib-lock"
    }


def _has_started_threads() -> bool:
    comms = [entry / "comm" for entry in Path("/proc/self/task").iterdir()]
    names = [comm.read_text(encoding="utf-8").strip() for comm in comms]
    return sum(name not in _FORKABLE_THREADS for name in names) > 1
