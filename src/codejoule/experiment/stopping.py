"""Stopping when asked: Ctrl-C, or SIGTERM, which Slurm, Kubernetes and ``kill`` send.

The first time, what is under way is finished and kept: whoever begins something that would be lost
(a batch, a record) does it inside `finishing`, and calls `check` once it is kept. Where nothing is
under way the work ends at once. The second time it ends at once wherever it is.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from codejoule.common.progress import say

ORDER = signal.SIGRTMIN + 5
"""What the process that holds a model is told to stop with. A terminal sends its signals to all
processes of a group, and Slurm to all of a job's step; only one of them decides what they mean."""

EXIT_CODE = 130
"""Of a process that was asked to stop."""

_ASKED_BY = (signal.SIGINT, signal.SIGTERM)
_TO_ALL = (*_ASKED_BY, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(KeyboardInterrupt):
    """A stop was asked for, and what was under way is kept."""


class _State:
    asked: str | None = None
    under_way: int = 0
    hand_on: Callable[[], None] | None = None


_state = _State()


def asked() -> str | None:
    """What a stop was asked for with, e.g. ``SIGINT``; None where nobody has."""
    return _state.asked


def check() -> None:
    """Raises `Stopped` where a stop was asked for."""
    if _state.asked is not None:
        raise Stopped(f"stopped by {_state.asked}")


def ask(why: str) -> None:
    """Ask for a stop, as a signal does whose handler calls this in the main thread; `why` is the
    signal's name. Raises `Stopped` where nothing is under way, and KeyboardInterrupt the second
    time."""
    again, _state.asked = _state.asked is not None, _state.asked or why
    if _state.hand_on is not None:
        _state.hand_on()
    if again:
        raise KeyboardInterrupt
    if _state.under_way == 0 and _state.hand_on is None:
        check()


@contextmanager
def finishing() -> Iterator[None]:
    """Inside, something is under way that the first request to stop does not break off."""
    _state.under_way += 1
    try:
        yield
    finally:
        _state.under_way -= 1


@contextmanager
def handing_on(order: Callable[[], None]) -> Iterator[None]:
    """Inside, another process does the work, and `order` tells it what is asked here. It ends when
    it has stopped."""
    _state.hand_on = order
    try:
        yield
    finally:
        _state.hand_on = None


@contextmanager
def listening() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM ask for a stop, unless this process ignores them or has handlers
    of its own for them (a launcher's), or listens already. Does nothing in another thread than the
    main one, which gets no signals."""
    usual: dict[int, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    ours = [number for number, handler in usual.items() if signal.getsignal(number) is handler]
    if threading.current_thread() is not threading.main_thread() or not ours:
        yield
        return
    _state.asked = None
    for number in ours:
        signal.signal(number, _heard)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, usual[number])


def obey_orders() -> None:
    """From here on this process works for another, and only its order asks for a stop."""
    for number in _TO_ALL:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(ORDER, lambda *_: ask("its parent"))


def _heard(number: int, frame: object) -> None:
    if _state.asked is None and (_state.under_way or _state.hand_on):
        with suppress(RuntimeError):  # it interrupts a line that is just being written
            say(
                f"{signal.Signals(number).name}: stops as soon as what is under way is kept; "
                "once more stops it now"
            )
    ask(signal.Signals(number).name)
