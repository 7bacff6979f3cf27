"""Which functions and dictionaries are certainly what they were, told from their bytes.

To read an attribute counts a reference, which writes to the object; in a forked process each
page that is written to is copied first, and comparing a thousand objects that way costs
milliseconds. Looking at their bytes writes nothing. Whatever changes a function changes one of
its pointers, and whatever changes a dictionary changes its version, which CPython keeps up to
3.13. Where that is not so, nothing is believed to be untouched.
"""

import ctypes
import sys
import types
from collections.abc import Sequence

_REFERENCE_COUNT_BYTES = 8
"""At the beginning of each object; it changes all the time."""

_SIZES: dict[type, int] = {
    types.FunctionType: types.FunctionType.__basicsize__,
    dict: dict.__basicsize__,
}


class Untouched:
    """Remembers the bytes of `objects`, which must be functions and dictionaries."""

    def __init__(self, objects: Sequence[object]) -> None:
        self._objects = objects
        self._views = [_view(one) for one in objects] if _bytes_tell_changes() else []
        self._before = [view.raw for view in self._views]

    def touched(self) -> list[int]:
        """Places, in the sequence, of those that may have changed."""
        if not self._views:
            return list(range(len(self._objects)))
        pairs = enumerate(zip(self._views, self._before, strict=True))
        return [place for place, (view, before) in pairs if view.raw != before]


def _view(one: object) -> "ctypes.Array[ctypes.c_char]":
    size = _SIZES[type(one)] - _REFERENCE_COUNT_BYTES
    return (ctypes.c_char * size).from_address(id(one) + _REFERENCE_COUNT_BYTES)


def _bytes_tell_changes() -> bool:
    """Whether they do in this interpreter, found by changing things."""
    if sys.implementation.name != "cpython":
        return False
    names: dict[str, int] = {"one": 1, "two": 2}
    seen = [_view(names).raw]
    names["one"] = 3
    seen.append(_view(names).raw)
    names["three"] = 3
    seen.append(_view(names).raw)
    names["three"] = names.pop("one")
    seen.append(_view(names).raw)

    def function(one: int = 1, *, two: int = 2) -> int:
        return one + two

    seen.append(_view(function).raw)
    function.__code__ = _bytes_tell_changes.__code__.replace(co_freevars=())
    seen.append(_view(function).raw)
    function.__defaults__ = (3,)
    seen.append(_view(function).raw)
    function.__kwdefaults__ = {"two": 4}
    seen.append(_view(function).raw)
    return len(set(seen)) == len(seen)
