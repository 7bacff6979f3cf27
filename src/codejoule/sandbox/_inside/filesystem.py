"""What a worker and its programs see of files: a read-only root, and private directories."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from . import kernel

_STAGE = "/tmp"
"""A directory that exists everywhere. It is covered in our own mount namespace only."""
_TMPFS_FILES = 65536
_PLAIN = kernel.MS_NOSUID | kernel.MS_NODEV


def enter_root(steps: list[dict[str, Any]]) -> None:
    """Make `steps` the root of this mount namespace; raises OSError naming the step."""
    kernel.make_mounts_private()
    kernel.mount("tmpfs", _STAGE, "tmpfs", _PLAIN, "mode=0755")
    Path(_STAGE, "old").mkdir()
    Path(_STAGE, "new").mkdir()
    Path(_STAGE, "proc").symlink_to("old/proc")
    kernel.pivot_root(_STAGE, _STAGE + "/old")
    os.chdir("/")
    kernel.mount("tmpfs", "/new", "tmpfs", _PLAIN, "mode=0755")
    for step in steps:
        _apply(step)
    kernel.detach("/old")
    os.chdir("/new")
    # The new root is mounted over the stage, which then lies beneath it and is let go.
    kernel.pivot_root(".", ".")
    kernel.detach(".")
    os.chdir("/")
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY
    kernel.mount("none", "/", "", flags | _PLAIN)


def _apply(step: dict[str, Any]) -> None:
    kind, path = step["kind"], "/new" + step["path"]
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "symlink":
        place.symlink_to(step["target"])
    elif kind == "file":
        place.write_text(step["text"], encoding="utf-8")
    elif kind == "tmpfs":
        place.mkdir(exist_ok=True)
        kernel.mount("tmpfs", path, "tmpfs", _PLAIN, f"size={step['bytes']},mode=1777")
    elif kind == "bind":
        source = "/old" + step["source"]
        _make_mount_point(source, path)
        kernel.bind_read_only(source, path)
    elif kind == "device":
        source = "/old" + step["path"]
        _make_mount_point(source, path)
        kernel.mount(source, path, "", kernel.MS_BIND)
    elif kind == "proc":
        place.mkdir(exist_ok=True)
        kernel.mount("/old/proc", path, "", kernel.MS_BIND | kernel.MS_REC)
    else:
        raise AssertionError(f"unknown step {kind}")


def _make_mount_point(source: str, path: str) -> None:
    """A directory or an empty file at `path`, whichever `source` is."""
    place = Path(path)
    if Path(source).is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def mount_private(tmp_bytes: int, private: list[str], exposed: list[str]) -> None:
    """Fresh directories at the `private` paths (/tmp and its like) of at most `tmp_bytes`
    each, and a /proc that knows this pid namespace alone. `exposed` are directories under
    those paths that hold the interpreter's files: they are brought back, read-only. Raises
    OSError."""
    kernel.make_mounts_private()
    held = [(path, os.open(path, os.O_PATH)) for path in exposed]
    limits = f"size={tmp_bytes},nr_inodes={_TMPFS_FILES},mode=1777"
    for path in private:
        kernel.mount("tmpfs", path, "tmpfs", _PLAIN, limits)
    for path, fd in held:
        source = f"/proc/self/fd/{fd}"
        _make_mount_point(source, path)
        kernel.bind_read_only(source, path)
        os.close(fd)
    kernel.mount("proc", "/proc", "proc", _PLAIN | kernel.MS_NOEXEC)


def remove_tree(folder: str) -> None:
    """Remove what a program left, however it set the modes of its directories; what cannot be
    removed now goes with the folder around it."""
    found = [folder]
    for place in found:
        # Links lead elsewhere: neither their modes nor what they name are touched.
        with contextlib.suppress(OSError):
            if not os.path.islink(place):  # noqa: PTH114
                os.chmod(place, 0o700)  # noqa: PTH101
                found += [entry.path for entry in os.scandir(place) if entry.is_dir()]
    shutil.rmtree(folder, ignore_errors=True)


def check_readable(paths: list[str]) -> None:
    """Raises OSError, with the remedy, where this user cannot read one of `paths`."""
    for path in paths:
        if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):  # noqa: PTH112
            # A sandbox binds `path` itself, so it passes by a closed directory above.
            closed = [str(above) for above in Path(path).parents if not os.access(above, os.X_OK)]
            more = f", and let others through: chmod a+x {closed[-1]}" if closed else ""
            raise OSError(
                f"{path} cannot be read by user {os.getuid()}, as which samples run; "
                f"make it so with: chmod -R a+rX {path}{more}"
            )
