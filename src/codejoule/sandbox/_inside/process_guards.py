"""What guards a sample where there are no namespaces."""

import contextlib
import dataclasses
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from . import kernel, landlock, seccomp
from .trial import check_readable, failure_of


@dataclasses.dataclass(frozen=True)
class Alone:
    """The guards that were found."""

    as_root: bool
    """Whether the trusted processes are root, and the task becomes nobody."""
    landlock: int
    """Version of Landlock, 0 where it is missing."""
    seccomp: bool
    """Whether the kernel filters system calls."""
    readable: list[str]
    devices: list[str]


def settle(settings: dict[str, Any]) -> Alone:
    """Find out which guards there are. Raises OSError where samples would be root, or could
    not read their Python."""
    os.umask(0o022)
    os.chdir("/")
    kernel.adopt_orphans()
    wanted = Alone(
        as_root=os.getuid() == 0,
        landlock=landlock.abi(),
        seccomp=True,
        readable=settings["readable"],
        devices=settings["devices"],
    )
    folder = tempfile.mkdtemp(dir=Path(settings["home"]).parents[1])
    if failure_of(functools.partial(_try_landlock, wanted, folder)) is not None:
        wanted = dataclasses.replace(wanted, landlock=0)
    if failure_of(functools.partial(_try_seccomp, wanted)) is not None:
        wanted = dataclasses.replace(wanted, seccomp=False)

    def whole() -> None:
        confine(wanted, folder)
        check_readable(settings["must_read"])

    failure = failure_of(whole)
    if failure is not None:
        raise OSError(failure)
    shutil.rmtree(folder)
    kernel.set_dumpable(False)
    return wanted


def confine(alone: Alone, folder: str) -> None:
    """Give up what can be given up without namespaces; only `folder` may be written to.
    Raises OSError."""
    if alone.as_root:
        kernel.become_sandbox_user()
    kernel.drop_capabilities_for_good()
    if alone.landlock:
        landlock.restrict(
            alone.landlock, readable=alone.readable, devices=alone.devices, own=folder
        )
    if alone.seccomp:
        seccomp.install(seccomp.build_program(alone=True, landlock=alone.landlock))


def threads_of(uid: int) -> int:
    """How many the user has already: without a user namespace they count against the limit."""
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid:
                    count += len(list((entry / "task").iterdir()))
    return count


def _try_landlock(wanted: Alone, folder: str) -> None:
    kernel.drop_capabilities_for_good()
    landlock.restrict(wanted.landlock, readable=wanted.readable, devices=wanted.devices, own=folder)


def _try_seccomp(wanted: Alone) -> None:
    kernel.drop_capabilities_for_good()
    seccomp.install(seccomp.build_program(alone=True, landlock=wanted.landlock))
