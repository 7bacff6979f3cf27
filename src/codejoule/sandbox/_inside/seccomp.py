"""The system calls that untrusted code is refused: a deny-list, installed with seccomp.

The namespaces already make most of these harmless; refusing them too keeps rarely used, and
so rarely reviewed, kernel code out of reach.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable

from . import kernel

ABI_OF_SCOPES = 6
"""The first version of Landlock that keeps signals within: Linux 6.12."""
_ABI_OF_TRUNCATE = 3
"""The first version that knows truncation: Linux 6.2."""
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_RET_ALLOW = 0x7FFF0000
_RET_ERRNO = 0x00050000
_RET_KILL_PROCESS = 0x80000000

_LD_W_ABS = 0x20
_JEQ = 0x15
_JGE = 0x35
_JSET = 0x45
_RET = 0x06

_OFFSET_NUMBER = 0
_OFFSET_ARCH = 4
_OFFSET_ARGUMENTS = 16

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_NEW_NAMESPACES = 0x7E020000
"""Every CLONE_NEW* flag that clone(2) takes."""

_ALLOWED_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK. Others, AF_VSOCK above all, ignore namespaces."""

_Table = dict[str, tuple[int | None, int | None]]
"""System calls by name, with their numbers on x86_64 and on aarch64. From 424 up these are
equal."""
_DENIED: _Table = {
    "ptrace": (101, 117), "syslog": (103, 116), "uselib": (134, None), "personality": (135, 92),
    "ustat": (136, None), "vhangup": (153, 58), "modify_ldt": (154, None), "pivot_root": (155, 41),
    "_sysctl": (156, None), "adjtimex": (159, 171), "chroot": (161, 51), "acct": (163, 89),
    "settimeofday": (164, 170), "mount": (165, 40), "umount2": (166, 39), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "sethostname": (170, 161),
    "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
    "init_module": (175, 105), "delete_module": (176, 106), "quotactl": (179, 60),
    "nfsservctl": (180, 42), "lookup_dcookie": (212, 18), "clock_settime": (227, 112),
    "kexec_load": (246, 104), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "migrate_pages": (256, 238), "unshare": (272, 97),
    "move_pages": (279, 239), "perf_event_open": (298, 241), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "clock_adjtime": (305, 266), "setns": (308, 268),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "finit_module": (313, 273), "kexec_file_load": (320, 294), "bpf": (321, 280),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "mount_setattr": (442, 442),
    "quotactl_fd": (443, 443), "memfd_secret": (447, 447),
}  # fmt: skip
_INSPECTED: _Table = {
    "ioctl": (16, 29), "socket": (41, 198), "clone": (56, 220), "prlimit64": (302, 261),
    "clone3": (435, 435),
}  # fmt: skip
_DENIED_WITHOUT_NAMESPACES: _Table = {
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "connect": (42, 203),
    "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "msgget": (68, 186),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "setpriority": (141, 140),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "semtimedop": (220, 192),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "ioprio_set": (251, 30),
    "sched_setattr": (314, 274),
}  # fmt: skip
"""What reaches other processes of the same user; their network and ipc namespace is ours."""
_TRUNCATE: _Table = {"truncate": (76, 45)}
_SIGNALS_TO_ONE: _Table = {
    "kill": (62, 129), "rt_sigqueueinfo": (129, 138), "tgkill": (234, 131),
    "rt_tgsigqueueinfo": (297, 240),
}  # fmt: skip
_SIGNALS_TO_ANYONE: _Table = {
    "tkill": (200, 130), "pidfd_send_signal": (424, 424),
}  # fmt: skip
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, k)


def _refuse(number: int) -> bytes:
    return _instruction(_RET, _RET_ERRNO | number)


def _numbers(table: _Table, machine: str) -> dict[str, int]:
    place = list(_AUDIT_ARCH).index(machine)
    return {name: number for name, both in table.items() if (number := both[place]) is not None}


def build_program(*, namespaces: bool = True, landlock: int = 0) -> bytes:
    """The filter as BPF instructions for this machine; raises OSError where it is unknown.
    Without `namespaces` there is no network at all, and what the kernel's version of
    `landlock` does not refuse yet is refused here, for the process that calls this: signals
    to others, its own children included, and truncation by name."""
    name = platform.machine()
    if name not in _AUDIT_ARCH:
        raise OSError(f"the sandbox knows x86_64 and aarch64, not {name}")
    allow = _instruction(_RET, _RET_ALLOW)
    out = [
        _instruction(_LD_W_ABS, _OFFSET_ARCH),
        _instruction(_JEQ, _AUDIT_ARCH[name], 1, 0),
        _instruction(_RET, _RET_KILL_PROCESS),
        _instruction(_LD_W_ABS, _OFFSET_NUMBER),
    ]
    if name == "x86_64":
        out += [_instruction(_JGE, _X32_BIT, 0, 1), _refuse(errno.EPERM)]
    denied = dict(_DENIED)
    if not namespaces:
        denied |= _DENIED_WITHOUT_NAMESPACES
        denied |= _TRUNCATE if landlock < _ABI_OF_TRUNCATE else {}
        denied |= _SIGNALS_TO_ANYONE if landlock < ABI_OF_SCOPES else {}
    for number in sorted(_numbers(denied, name).values()):
        out += [_instruction(_JEQ, number, 0, 1), _refuse(errno.EPERM)]
    calls = _numbers(_INSPECTED, name)
    # ENOSYS makes the C library fall back to clone, whose flags a filter can see.
    out += [_instruction(_JEQ, calls["clone3"], 0, 1), _refuse(errno.ENOSYS)]

    def inspect(
        call: int, argument: int, values: Iterable[int], verdict: bytes, otherwise: bytes,
        test: int = _JEQ,
    ) -> None:  # fmt: skip
        """The `verdict` on a `call` whose `argument` is one of the `values`."""
        # Each body ends in a verdict: what follows still holds the call's number.
        body = [_instruction(_LD_W_ABS, _OFFSET_ARGUMENTS + 8 * argument)]
        for value in values:
            body += [_instruction(test, value, 0, 1), verdict]
        body.append(otherwise)
        out.extend([_instruction(_JEQ, call, 0, len(body)), *body])

    refused = _refuse(errno.EPERM)
    inspect(calls["clone"], 0, [_NEW_NAMESPACES], refused, allow, test=_JSET)
    families = _ALLOWED_FAMILIES if namespaces else _ALLOWED_FAMILIES[:1]
    no_family = _refuse(errno.EAFNOSUPPORT if namespaces else errno.ENETUNREACH)
    inspect(calls["socket"], 0, families, allow, no_family)
    if not namespaces and landlock < ABI_OF_SCOPES:
        for number in _numbers(_SIGNALS_TO_ONE, name).values():
            # To itself, and to the process group, which is the sample's own.
            inspect(number, 0, [os.getpid(), 0], allow, refused)
    inspect(calls["ioctl"], 1, [_TIOCSTI, _TIOCLINUX], refused, allow)
    # Limits of other processes: init shares our user where only one can be mapped.
    inspect(calls["prlimit64"], 0, [0], allow, refused)
    out.append(allow)
    return b"".join(out)


def install(program: bytes) -> None:
    """Put this process and all its descendants under `program`; needs no_new_privs."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    if kernel.libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "prctl(PR_SET_SECCOMP): is seccomp compiled into this kernel?")
