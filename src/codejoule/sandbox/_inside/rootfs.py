"""Build the worker's read-only root without bubblewrap, from the same list of steps."""

import os
from pathlib import Path
from typing import Any

from . import kernel

_STAGE = "/tmp"
"""Any directory that exists everywhere; it is covered in our own mount namespace only."""


def enter_namespaces(*, as_root: bool) -> None:
    """New mount, pid (for children), network, ipc and host-name namespaces, within a user
    namespace of our own unless root. Raises OSError where the kernel refuses."""
    uid, gid = os.getuid(), os.getgid()
    flags = (
        kernel.CLONE_NEWNS
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
    )
    kernel.unshare(flags if as_root else flags | kernel.CLONE_NEWUSER)
    if not as_root:
        kernel.map_identity(uid, gid)
    kernel.make_mounts_private()


def enter_root(steps: list[dict[str, Any]]) -> None:
    """Make `steps` the root of this mount namespace; raises OSError naming the step."""
    kernel.mount("tmpfs", _STAGE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    Path(_STAGE, "old").mkdir()
    Path(_STAGE, "new").mkdir()
    kernel.pivot_root(_STAGE, _STAGE + "/old")
    os.chdir("/")
    kernel.mount("tmpfs", "/new", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    for step in steps:
        _apply(step)
    kernel.detach("/old")
    os.chdir("/new")
    # The new root is mounted over the stage, which then lies beneath it and is let go.
    kernel.pivot_root(".", ".")
    kernel.detach(".")
    os.chdir("/")
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY
    kernel.mount("none", "/", "", flags | kernel.MS_NOSUID | kernel.MS_NODEV)


def _apply(step: dict[str, Any]) -> None:
    kind, path = step["kind"], "/new" + step["path"]
    place = Path(path)
    if kind == "dir":
        place.mkdir(exist_ok=True)
        place.chmod(0o755)
    elif kind == "symlink":
        place.symlink_to(step["target"])
    elif kind == "file":
        place.write_text(step["text"], encoding="utf-8")
        place.chmod(0o644)
    elif kind == "tmpfs":
        place.mkdir(exist_ok=True)
        data = f"size={step['bytes']},mode=1777"
        kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, data)
    elif kind == "bind":
        source = "/old" + step["source"]
        make_mount_point(source, path)
        kernel.bind_read_only(source, path)
    elif kind == "device":
        source = "/old" + step["path"]
        make_mount_point(source, path)
        kernel.mount(source, path, "", kernel.MS_BIND)
    elif kind == "proc":
        place.mkdir(exist_ok=True)
        kernel.mount("/old/proc", path, "", kernel.MS_BIND | kernel.MS_REC)
    else:
        raise AssertionError(f"unknown step {kind}")


def make_mount_point(source: str, path: str) -> None:
    """A directory or an empty file at `path`, whichever `source` is."""
    place = Path(path)
    if Path(source).is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
