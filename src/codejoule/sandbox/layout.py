"""What of this machine's file system the sandbox shows, all of it read-only."""

import os
from pathlib import Path
from typing import Any

from codejoule.sandbox._inside.kernel import SANDBOX_ID
from codejoule.sandbox.interpreter import Interpreter

Step = dict[str, Any]
"""One step of building the root: ``kind`` and ``path``, and what the kind needs."""

_TMP_BYTES = 64 * 2**20
"""The worker's own /tmp; each program gets another, fresh one."""

_SHOWN = (
    "/usr", "/nix/store", "/gnu/store",
    "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives",
    "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/ca-certificates",
    "/etc/fonts", "/etc/mime.types", "/etc/magic", "/etc/protocols", "/etc/services",
)  # fmt: skip
_ETC_OF_A_HOST = ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime")
_FONT_CACHES = "share/codejoule/matplotlib/fontlist-*.json"
_PARTS_OF_PREFIX = (
    "bin", "lib", "lib32", "lib64", "libexec", "include", "share", "etc", "nltk_data",
    "pyvenv.cfg",
)  # fmt: skip
"""An installation's own parts; its prefix may be a home directory, which stays hidden."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
"""The devices a program may use."""

HOME = "/tmp/sandbox-home"
"""A program's home directory."""

PRIVATE = ("/tmp", "/dev/shm", "/var/tmp")
"""Where a program may write: empty, its own, and of limited size."""

_FILES = {
    "/etc/passwd": (
        "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
        f"sandbox:x:{SANDBOX_ID}:{SANDBOX_ID}:sandbox:/tmp/sandbox-home:/bin/sh\n"
    ),
    "/etc/group": f"root:x:0:\nsandbox:x:{SANDBOX_ID}:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\n",
    "/etc/hostname": "sandbox\n",
}
_LINKS = {
    "/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}  # fmt: skip


def plan_root(interpreter: Interpreter) -> list[Step]:
    """Steps that build the sandbox's root for `interpreter`, parents before children."""
    plan = _Plan()
    for path in ("/dev", *PRIVATE):
        plan.add("tmpfs", path, bytes=_TMP_BYTES)
    for path in _SHOWN:
        plan.show(path)
    for path, text in _FILES.items():
        plan.add("file", path, text=text)
    for path in DEVICES:
        plan.add("device", path)
    for path, target in _LINKS.items():
        plan.add("symlink", path, target=target)
    for prefix in interpreter.prefixes:
        for part in _PARTS_OF_PREFIX:
            plan.show(f"{prefix.rstrip('/')}/{part}")
    for path in (interpreter.executable, *data_paths()):
        plan.show(path)
    plan.add("proc", "/proc")
    return plan.steps


def readable_paths(steps: list[Step]) -> list[str]:
    """What `steps` shows, as paths of this machine: what programs may read where the root
    stays what it is."""
    bound = [step["source"] for step in steps if step["kind"] == "bind"]
    return list(dict.fromkeys([*bound, *_ETC_OF_A_HOST, "/proc"]))


def font_caches(interpreter: Interpreter) -> list[str]:
    """matplotlib's lists of fonts that were made together with the environment."""
    found = [Path(prefix).glob(_FONT_CACHES) for prefix in interpreter.prefixes[:1]]
    return [str(path) for paths in found for path in sorted(paths)]


def data_paths() -> list[str]:
    """Folders of data that the user has named for NLTK, where they exist."""
    named = os.environ.get("NLTK_DATA", "").split(os.pathsep)
    return [str(Path(path).resolve()) for path in named if path and Path(path).is_dir()]


def exposed_paths(steps: list[Step]) -> list[str]:
    """Top directories of what `steps` shows below a path that each program gets afresh."""
    found = [
        f"{private}/{step['path'][len(private) + 1 :].split('/')[0]}"
        for step in steps
        for private in PRIVATE
        if step["path"].startswith(private + "/") and step["kind"] in ("bind", "symlink")
    ]
    return list(dict.fromkeys(found))


class _Plan:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._made = {"/"}
        self._shown: list[str] = []

    def add(self, kind: str, path: str, **more: Any) -> None:
        """Append a step, after the directories above it."""
        if path in self._made:
            return
        for parent in [*reversed(Path(path).parents)]:
            if str(parent) not in self._made:
                self._made.add(str(parent))
                self.steps.append({"kind": "dir", "path": str(parent)})
        self._made.add(path)
        self.steps.append({"kind": kind, "path": path, **more})

    def show(self, path: str) -> None:
        """Show what lies at `path`, if anything: a link as a link, else bound read-only."""
        place = Path(path)
        hidden = any(path.startswith(shown + "/") or path == shown for shown in self._shown)
        if hidden or not place.exists():
            return
        self._shown.append(path)
        target = str(place.readlink()) if place.is_symlink() else "/"
        if target.startswith("/"):
            self.add("bind", path, source=str(place.resolve()))
        else:
            self.add("symlink", path, target=target)
