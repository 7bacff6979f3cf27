"""A forked child that leaves its parent's stack behind."""

from collections.abc import Callable
from typing import NoReturn


class Become(BaseException):
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
        except Become as turn:
            pending.append(turn.step)
