"""Linux calls that the standard library of Python 3.10 has no name for."""

import ctypes
import fcntl
import os
import re
import socket
import struct
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

SANDBOX_ID = 65534
"""User and group inside the sandbox, and outside where root started it ("nobody")."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_OCTAL = re.compile(rb"\\([0-7]{3})")
"""How the kernel writes odd characters of paths."""

libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def syscall(what: str, number: int, *arguments: "bytes | int | None") -> int:
    """Result of a system call that the C library has no name for; raises OSError."""
    plain = (ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    result = int(libc.syscall(ctypes.c_long(number), *plain))
    _check(min(result, 0), what)
    return result


def unshare(flags: int) -> None:
    """Move this process (pid: its children) into new namespaces; raises OSError."""
    _check(libc.unshare(flags), "unshare")


def enter_namespace(fd: int, kind: int) -> None:
    """Move this process (pid: its children) into the open namespace `fd` of that `kind`;
    raises OSError."""
    _check(libc.setns(fd, kind), "setns")


def enter_user_namespace() -> None:
    """Move this process into a user namespace of its own, in which it keeps its user and group
    and has all rights; raises OSError."""
    uid, gid = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER)
    map_identity(uid, gid)


def map_identity(outside_uid: int, outside_gid: int) -> None:
    """After ``unshare(CLONE_NEWUSER)``: call the outer user and group `SANDBOX_ID`."""
    Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
    Path("/proc/self/uid_map").write_text(f"{SANDBOX_ID} {outside_uid} 1", encoding="utf-8")
    Path("/proc/self/gid_map").write_text(f"{SANDBOX_ID} {outside_gid} 1", encoding="utf-8")


def become_sandbox_user() -> None:
    """Give up root for good: no groups, user and group `SANDBOX_ID`."""
    os.setgroups([])
    os.setresgid(SANDBOX_ID, SANDBOX_ID, SANDBOX_ID)
    os.setresuid(SANDBOX_ID, SANDBOX_ID, SANDBOX_ID)
    # A change of user makes /proc/self belong to root; uid_map could not be written.
    set_dumpable(True)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2); raises OSError naming the target."""
    where = (os.fsencode(source), os.fsencode(target), kind.encode("utf-8"))
    result = libc.mount(*where, ctypes.c_ulong(flags), os.fsencode(data))
    _check(result, f"mount {kind or 'bind'} on {target}")


def make_mounts_private() -> None:
    """Keep mounts made here from showing up elsewhere."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def bind_read_only(source: str, target: str) -> None:
    """Bind `source` and everything mounted under it to `target`, read-only, no setuid."""
    mount(source, target, "", MS_BIND | MS_REC)
    columns = [line.split() for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]
    points = [os.fsdecode(_OCTAL.sub(lambda m: bytes([int(m[1], 8)]), one[4])) for one in columns]
    # Linux 5.12 has a recursive form; this one is for every kernel. Each mount keeps what is
    # locked of its own flags.
    for point in [target, *(point for point in points if point.startswith(target + "/"))]:
        kept = os.statvfs(point).f_flag & (MS_NODEV | MS_NOEXEC)
        mount("none", point, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(libc.pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root")


def detach(target: str) -> None:
    """Unmount `target` and everything under it, now or as soon as nobody uses it."""
    _check(libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def die_with_parent() -> None:
    """Be killed when the parent ends. A change of user clears this: call it after."""
    _check(libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def adopt_orphans() -> None:
    """Unwind the parent of every descendant that loses its own."""
    _check(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same user may look into this one's memory."""
    _check(libc.prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def drop_capabilities_for_good() -> None:
    """Empty every capability set, the bounding set included, and set no_new_privs."""
    for capability in range(64):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(libc.capset(header, bytes(24)), "capset")
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def raise_loopback() -> None:
    """Bring up 127.0.0.1 in this network namespace: many tests serve themselves."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 0)
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
        flags = struct.unpack("16sH14x", answer)[1] | _IFF_UP
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))
