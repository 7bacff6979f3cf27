"""A sequence whose items are made when they are asked for."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar, overload

_Item = TypeVar("_Item")


class Lazily(Sequence[_Item], Generic[_Item]):
    """`count` items that `make` makes by their places, each time anew: of a hundred thousand of
    them no more is held in memory than is in use."""

    def __init__(self, count: int, make: Callable[[int], _Item]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> _Item: ...

    @overload
    def __getitem__(self, place: slice) -> "Lazily[_Item]": ...

    def __getitem__(self, place: int | slice) -> "_Item | Lazily[_Item]":
        places = range(self._count)[place]
        if isinstance(places, range):
            chosen = places
            return Lazily(len(chosen), lambda number: self._make(chosen[number]))
        return self._make(places)


def end_to_end(parts: Sequence[Sequence[_Item]]) -> Sequence[_Item]:
    """The items of all `parts`, those of one after those of the other."""
    if len(parts) == 1:
        return parts[0]
    begins = list(accumulate(map(len, parts), initial=0))

    def item(place: int) -> _Item:
        part = bisect_right(begins, place) - 1
        return parts[part][place - begins[part]]

    return Lazily(begins[-1], item)
