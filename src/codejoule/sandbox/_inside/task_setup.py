"""Sets up what every task begins with: slow imports, and the state of what judges."""

import dataclasses
import gc
import importlib
import os
import shutil
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

from . import seccomp
from .outcomes import Outcomes
from .process_guards import ProcessGuards
from .snapshot import Snapshot

_FORKABLE_THREADS = frozenset({"jemalloc_bg_thd"})
"""Threads of libraries that look after themselves when the process forks: jemalloc's."""


class Ends(NamedTuple):
    """One side's ends of the channels between init and task, as file descriptors."""

    channel: int
    failures: int
    output: int


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
    # What programs will call home, for the imports to write to: matplotlib's list of fonts takes
    # seconds to make, and remembers where it lies.
    home = Path(settings["home"])
    for folder in (".cache", ".config"):
        (home / folder / "matplotlib").mkdir(parents=True)
    for path in settings["font_caches"]:
        shutil.copy(path, home / ".cache" / "matplotlib")
    os.environ["HOME"] = str(home)
    imported = []
    for name in settings["preimport"]:
        try:
            importlib.import_module(name)
        except Exception:
            # The programs will raise this error themselves.
            continue
        imported.append(name)
        comms = [entry / "comm" for entry in Path("/proc/self/task").iterdir()]
        threads = [comm.read_text(encoding="utf-8").strip() for comm in comms]
        if len([one for one in threads if one not in _FORKABLE_THREADS]) > 1:
            # A fork would lack them.
            return {"start_without": name}, None
    left = [path for path in sorted(home.rglob("*")) if path.suffix != ".matplotlib-lock"]
    setup = TaskSetup(
        guards=guards,
        by_user_namespace=by_user_namespace,
        settings=settings,
        files={str(p.relative_to(home)): p.read_bytes() for p in left if p.is_file()},
        seccomp_program=seccomp.build_program(),
        snapshot=Snapshot(Outcomes),
    )
    # Anyone could otherwise reach this program's modules through sys.modules.
    for name in [name for name in sys.modules if name.startswith("codejoule_inside")]:
        del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")
    # All objects so far are out of later garbage collections and of `gc.get_objects`.
    gc.collect()
    gc.freeze()
    return {"preimported": imported}, setup
