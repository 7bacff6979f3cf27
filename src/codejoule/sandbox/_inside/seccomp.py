"""The system calls that untrusted code is refused: a deny-list, installed with seccomp.

The namespaces already make most of these harmless; refusing them too keeps rarely used, and
so rarely reviewed, kernel code out of reach.
"""

import ctypes
import errno
import os
import struct

from . import kernel
from .landlock import ABI_OF_SCOPES, ABI_OF_TRUNCATE

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

# Numbers from 424 up are the same on every architecture.
_DENIED_EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
    "memfd_secret": 447,
}  # fmt: skip
_DENIED = {
    "x86_64": {
        "ptrace": 101, "syslog": 103, "uselib": 134, "personality": 135, "ustat": 136,
        "vhangup": 153, "modify_ldt": 154, "pivot_root": 155, "_sysctl": 156, "adjtimex": 159,
        "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166,
        "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171,
        "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179,
        "nfsservctl": 180, "lookup_dcookie": 212, "clock_settime": 227, "kexec_load": 246,
        "add_key": 248, "request_key": 249, "keyctl": 250, "migrate_pages": 256, "unshare": 272,
        "move_pages": 279, "perf_event_open": 298, "name_to_handle_at": 303,
        "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310,
        "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320,
        "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "lookup_dcookie": 18, "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42,
        "chroot": 51, "vhangup": 58, "quotactl": 60, "acct": 89, "personality": 92,
        "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
        "clock_settime": 112, "syslog": 116, "ptrace": 117, "reboot": 142, "sethostname": 161,
        "setdomainname": 162, "settimeofday": 170, "adjtimex": 171, "add_key": 217,
        "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225, "migrate_pages": 238,
        "move_pages": 239, "perf_event_open": 241, "name_to_handle_at": 264,
        "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "bpf": 280,
        "userfaultfd": 282, "kexec_file_load": 294,
    },
}  # fmt: skip
_INSPECTED = {
    "x86_64": {"ioctl": 16, "socket": 41, "clone": 56, "prlimit64": 302, "clone3": 435},
    "aarch64": {"ioctl": 29, "socket": 198, "clone": 220, "prlimit64": 261, "clone3": 435},
}
_DENIED_WITHOUT_NAMESPACES = {
    "x86_64": {
        "shmget": 29, "shmat": 30, "shmctl": 31, "connect": 42, "semget": 64, "semop": 65,
        "semctl": 66, "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "setpriority": 141,
        "sched_setparam": 142, "sched_setscheduler": 144, "semtimedop": 220, "mq_open": 240,
        "mq_unlink": 241, "ioprio_set": 251, "sched_setattr": 314,
    },
    "aarch64": {
        "ioprio_set": 30, "sched_setparam": 118, "sched_setscheduler": 119, "setpriority": 140,
        "mq_open": 180, "mq_unlink": 181, "msgget": 186, "msgctl": 187, "msgrcv": 188,
        "msgsnd": 189, "semget": 190, "semctl": 191, "semtimedop": 192, "semop": 193,
        "shmget": 194, "shmctl": 195, "shmat": 196, "connect": 203, "sched_setattr": 274,
    },
}  # fmt: skip
"""What reaches other processes of the same user; their network and ipc namespace is ours."""
_TRUNCATE = {"x86_64": 76, "aarch64": 45}
_SIGNALS_TO_ONE = {
    "x86_64": {"kill": 62, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297},
    "aarch64": {"kill": 129, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240},
}
_SIGNALS_TO_ANYONE = {"x86_64": {"tkill": 200}, "aarch64": {"tkill": 130}}
_PIDFD_SEND_SIGNAL = 424
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, k)


def _refuse(number: int) -> bytes:
    return _instruction(_RET, _RET_ERRNO | number)


def build_program(*, namespaces: bool = True, landlock: int = 0) -> bytes:
    """The filter as BPF instructions for this machine; raises OSError where it is unknown.
    Without `namespaces` there is no network at all, and what the kernel's version of
    `landlock` does not refuse yet is refused here, for the process that calls this: signals
    to others, its own children included, and truncation by name."""
    name = kernel.machine()
    allow = _instruction(_RET, _RET_ALLOW)
    calls = _INSPECTED[name]
    out = [
        _instruction(_LD_W_ABS, _OFFSET_ARCH),
        _instruction(_JEQ, _AUDIT_ARCH[name], 1, 0),
        _instruction(_RET, _RET_KILL_PROCESS),
        _instruction(_LD_W_ABS, _OFFSET_NUMBER),
    ]
    if name == "x86_64":
        out += [_instruction(_JGE, _X32_BIT, 0, 1), _refuse(errno.EPERM)]
    denied = {**_DENIED_EVERYWHERE, **_DENIED[name]}
    if not namespaces:
        denied.update(_DENIED_WITHOUT_NAMESPACES[name])
    if not namespaces and landlock < ABI_OF_TRUNCATE:
        denied["truncate"] = _TRUNCATE[name]
    if not namespaces and landlock < ABI_OF_SCOPES:
        denied.update(_SIGNALS_TO_ANYONE[name], pidfd_send_signal=_PIDFD_SEND_SIGNAL)
    for number in sorted(denied.values()):
        out += [_instruction(_JEQ, number, 0, 1), _refuse(errno.EPERM)]

    def inspect(call: str, body: list[bytes]) -> None:
        # Each body ends in a verdict: what follows still holds the call's number.
        out.append(_instruction(_JEQ, calls[call], 0, len(body)))
        out.extend(body)

    # ENOSYS makes the C library fall back to clone, whose flags a filter can see.
    inspect("clone3", [_refuse(errno.ENOSYS)])
    inspect(
        "clone",
        [
            _instruction(_LD_W_ABS, _OFFSET_ARGUMENTS),
            _instruction(_JSET, _NEW_NAMESPACES, 0, 1),
            _refuse(errno.EPERM),
            allow,
        ],
    )
    families = [_instruction(_LD_W_ABS, _OFFSET_ARGUMENTS)]
    for family in _ALLOWED_FAMILIES if namespaces else _ALLOWED_FAMILIES[:1]:
        families += [_instruction(_JEQ, family, 0, 1), allow]
    refusal = errno.EAFNOSUPPORT if namespaces else errno.ENETUNREACH
    inspect("socket", [*families, _refuse(refusal)])
    if not namespaces and landlock < ABI_OF_SCOPES:
        for number in _SIGNALS_TO_ONE[name].values():
            to_itself = [
                _instruction(_LD_W_ABS, _OFFSET_ARGUMENTS),
                _instruction(_JEQ, os.getpid(), 1, 0),
                # The process group, which is the sample's own.
                _instruction(_JEQ, 0, 0, 1),
                allow,
                _refuse(errno.EPERM),
            ]
            out += [_instruction(_JEQ, number, 0, len(to_itself)), *to_itself]
    inspect(
        "ioctl",
        [
            _instruction(_LD_W_ABS, _OFFSET_ARGUMENTS + 8),
            _instruction(_JEQ, _TIOCSTI, 1, 0),
            _instruction(_JEQ, _TIOCLINUX, 0, 1),
            _refuse(errno.EPERM),
            allow,
        ],
    )
    # Limits of other processes: init shares our user where only one can be mapped.
    inspect(
        "prlimit64",
        [
            _instruction(_LD_W_ABS, _OFFSET_ARGUMENTS),
            _instruction(_JEQ, 0, 1, 0),
            _refuse(errno.EPERM),
            allow,
        ],
    )
    out.append(allow)
    return b"".join(out)


def install(program: bytes) -> None:
    """Put this process and all its descendants under `program`; needs no_new_privs."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    if kernel.libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "prctl(PR_SET_SECCOMP): is seccomp compiled into this kernel?")
