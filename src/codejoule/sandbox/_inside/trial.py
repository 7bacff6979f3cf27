"""Trying out what the samples will need, before anything is promised."""

import os
from collections.abc import Callable
from pathlib import Path


def failure_of(step: Callable[[], None]) -> str | None:
    """Text of the error that `step` raises in a child, None if it succeeds."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            step()
        except Exception as error:
            os.write(writer, (str(error) or repr(error)).encode("utf-8", "backslashreplace"))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read().decode("utf-8")
    os.waitpid(child, 0)
    return text or None


def check_readable(paths: list[str]) -> None:
    """Raises OSError, with the remedy, where this user cannot read one of `paths`."""
    for path in paths:
        if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):  # noqa: PTH112
            raise OSError(
                f"{path} cannot be read by user {os.getuid()}, as which samples run; "
                f"make it so with: chmod -R a+rX {path}{_and_above(path)}"
            )


def _and_above(path: str) -> str:
    """The topmost closed directory above `path`, if any: a sandbox that binds it passes by."""
    closed = [str(above) for above in Path(path).parents if not os.access(above, os.X_OK)]
    return f", and let others through {closed[-1]}: chmod a+x {closed[-1]}" if closed else ""
