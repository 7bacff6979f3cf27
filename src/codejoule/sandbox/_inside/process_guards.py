"""What guards a program where there are no namespaces: Landlock says which files it may touch,
and seccomp keeps it from sockets, and from other processes."""

import dataclasses
import functools
import os
import shutil
import stat
import struct
import tempfile
from pathlib import Path
from typing import Any

from . import kernel, seccomp
from .filesystem import check_readable
from .processes import failure_of

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
"""The same on every architecture."""
_QUERY_ABI = 1
_RULE_PATH_BENEATH = 1

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_TRUNCATE = 1 << 14
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_MAKE_DEVICE = 1 << 6 | 1 << 11
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP = 3
"""Binding to and connecting with any port (ABI 4)."""
_SCOPES = 3
"""Abstract sockets and signals of processes outside (ABI 6)."""


@dataclasses.dataclass(frozen=True)
class ProcessGuards:
    """The guards that were found."""

    as_root: bool
    """Whether the trusted processes are root, and the task becomes nobody."""
    landlock: int
    """Version of Landlock, 0 where it is missing."""
    seccomp: bool
    """Whether the kernel filters system calls."""


def find_guards(settings: dict[str, Any]) -> ProcessGuards:
    """Find out, by trying, which there are: as many as work. Raises OSError where programs would
    be root, or could not read their Python."""
    os.chdir("/")
    kernel.adopt_orphans()
    # By such lists the processes of a program are found. Not every kernel has them.
    Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    folder = tempfile.mkdtemp(dir=Path(settings["home"]).parents[1])

    def try_out(guards: ProcessGuards) -> None:
        confine(guards, settings, folder)
        check_readable(settings["must_read"])

    failure = None
    version = landlock_version()
    for abi, filtering in ((version, True), (version, False), (0, True), (0, False)):
        guards = ProcessGuards(as_root=os.getuid() == 0, landlock=abi, seccomp=filtering)
        failure = failure_of(functools.partial(try_out, guards))
        if failure is None:
            shutil.rmtree(folder)
            kernel.set_dumpable(False)
            return guards
    raise OSError(failure)


def confine(guards: ProcessGuards, settings: dict[str, Any], folder: str) -> None:
    """Give up what can be given up without namespaces; only `folder` may be written to.
    Raises OSError."""
    if guards.as_root:
        kernel.become_sandbox_user()
    kernel.drop_capabilities_for_good()
    if guards.landlock:
        _restrict(guards.landlock, settings, folder)
    if guards.seccomp:
        seccomp.install(seccomp.build_program(namespaces=False, landlock=guards.landlock))


def landlock_version() -> int:
    """Version that this kernel offers; 0 where it is missing or switched off."""
    try:
        return kernel.syscall("Landlock", _SYS_CREATE_RULESET, None, 0, _QUERY_ABI)
    except OSError:
        return 0


def _restrict(version: int, settings: dict[str, Any], folder: str) -> None:
    """From here on this process and its descendants may read and execute what lies at the
    readable paths, use the devices, do as they please in `folder`, and open nothing else. Needs
    no_new_privs; raises OSError."""
    handled = _ALL_BY_ABI[max(known for known in _ALL_BY_ABI if known <= version)]
    attributes = struct.pack("Q", handled)
    if version >= 4:
        attributes += struct.pack("Q", _TCP)
    if version >= seccomp.ABI_OF_SCOPES:
        attributes += struct.pack("Q", _SCOPES)
    ruleset = kernel.syscall("Landlock", _SYS_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in settings["readable"]:
            _allow(ruleset, path, _READ & handled)
        for path in settings["devices"]:
            _allow(ruleset, path, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & handled)
        _allow(ruleset, folder, handled & ~_MAKE_DEVICE)
        kernel.syscall("Landlock", _SYS_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        # What is not there, or closed to this user, needs no permission.
        return
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            access &= _FOR_FILES
        rule = struct.pack("=Qi", access, beneath)
        kernel.syscall("Landlock", _SYS_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(beneath)
