"""What guards a program where there are no namespaces."""

import dataclasses
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from . import kernel, landlock, seccomp
from .filesystem import check_readable
from .forks import failure_of


@dataclasses.dataclass(frozen=True)
class ProcessGuards:
    """The guards that were found."""

    as_root: bool
    """Whether the trusted processes are root, and the task becomes nobody."""
    landlock: int
    """Version of Landlock, 0 where it is missing."""
    seccomp: bool
    """Whether the kernel filters system calls."""
    readable: list[str]
    devices: list[str]


def find_guards(settings: dict[str, Any]) -> ProcessGuards:
    """Find out which there are. Raises OSError where programs would be root, or could not read
    their Python."""
    os.umask(0o022)
    os.chdir("/")
    kernel.adopt_orphans()
    none = ProcessGuards(
        as_root=os.getuid() == 0,
        landlock=0,
        seccomp=False,
        readable=settings["readable"],
        devices=settings["devices"],
    )
    folder = tempfile.mkdtemp(dir=Path(settings["home"]).parents[1])

    def works(guards: ProcessGuards) -> bool:
        return failure_of(functools.partial(confine, guards, folder)) is None

    found = dataclasses.replace(none, landlock=landlock.abi())
    if not works(dataclasses.replace(found, as_root=False)):
        found = none
    filtering = dataclasses.replace(found, seccomp=True)
    if works(dataclasses.replace(filtering, as_root=False)):
        found = filtering

    def whole() -> None:
        confine(found, folder)
        check_readable(settings["must_read"])

    failure = failure_of(whole)
    if failure is not None:
        raise OSError(failure)
    shutil.rmtree(folder)
    kernel.set_dumpable(False)
    return found


def confine(guards: ProcessGuards, folder: str) -> None:
    """Give up what can be given up without namespaces; only `folder` may be written to.
    Raises OSError."""
    if guards.as_root:
        kernel.become_sandbox_user()
    kernel.drop_capabilities_for_good()
    if guards.landlock:
        landlock.restrict(
            guards.landlock, readable=guards.readable, devices=guards.devices, own=folder
        )
    if guards.seccomp:
        seccomp.install(seccomp.build_program(namespaces=False, landlock=guards.landlock))
