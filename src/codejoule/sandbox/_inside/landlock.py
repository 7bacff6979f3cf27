"""Which files untrusted code may touch where there are no namespaces: Landlock."""

import os
import stat
import struct
from collections.abc import Iterable

from . import kernel

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

ABI_OF_SCOPES = 6
"""The first version that keeps signals within: Linux 6.12."""
ABI_OF_TRUNCATE = 3
"""The first version that knows truncation: Linux 6.2."""


def abi() -> int:
    """Version that this kernel offers; 0 where it is missing or switched off."""
    try:
        return kernel.syscall("Landlock", _SYS_CREATE_RULESET, None, 0, _QUERY_ABI)
    except OSError:
        return 0


def restrict(version: int, *, readable: Iterable[str], devices: Iterable[str], own: str) -> None:
    """From here on this process and its descendants may read and execute what lies at the
    `readable` paths, use the `devices`, do as they please in the directory `own`, and open
    nothing else. Needs no_new_privs; raises OSError."""
    handled = _ALL_BY_ABI[max(known for known in _ALL_BY_ABI if known <= version)]
    attributes = struct.pack("Q", handled)
    if version >= 4:
        attributes += struct.pack("Q", _TCP)
    if version >= ABI_OF_SCOPES:
        attributes += struct.pack("Q", _SCOPES)
    ruleset = kernel.syscall("Landlock", _SYS_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in readable:
            _allow(ruleset, path, _READ & handled)
        for path in devices:
            _allow(ruleset, path, (_READ_FILE | _WRITE_FILE | _TRUNCATE) & handled)
        _allow(ruleset, own, handled & ~_MAKE_DEVICE)
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
