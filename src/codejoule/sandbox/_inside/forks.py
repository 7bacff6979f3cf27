"""Forked children that leave their parent's stack behind, and such that try something out."""

import os
from collections.abc import Callable
from typing import NoReturn


class Unwind(BaseException):
    """Raised in a fresh child to unwind to `trampoline`, so that no frame of the parent, and
    nothing such a frame holds, can be reached from code that runs later in the child."""

    def __init__(self, step: Callable[[], NoReturn]) -> None:
        super().__init__()
        self.step = step


def trampoline(first: Callable[[], NoReturn]) -> NoReturn:
    """Run `first` and whatever the children forked in it become."""
    pending = [first]
    while True:
        try:
            pending.pop()()
        except Unwind as turn:
            pending.append(turn.step)


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
