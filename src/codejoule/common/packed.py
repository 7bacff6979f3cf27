"""Many facts of one kind, in a few bytes each."""

import math
from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import fields
from itertools import islice
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from codejoule.common.lazily import Lazily

_Item = TypeVar("_Item")
_CHUNK = 4096


class Packed(Lazily[_Item]):
    """Frozen dataclasses of one `kind`, by columns, and made anew when they are asked for: a float
    takes 8 bytes, a whole number as many as it needs, and of all else each value is held once. What
    is NaN in a field that may be None becomes None. Fields that are left out, `without`, have their
    defaults. A verdict takes 35 bytes, by itself some 800."""

    def __init__(
        self, kind: type[_Item], items: Iterable[_Item], *, without: Collection[str] = ()
    ) -> None:
        self._kind = kind
        hints = get_type_hints(kind)
        self._hints = {
            field.name: hints[field.name]
            for field in fields(kind)  # type: ignore[arg-type]
            if field.name not in without
        }
        self._numbers: dict[Hashable, int] = {}
        self._chunks: list[list[NDArray[Any]]] = []
        count, left = 0, iter(items)
        while chunk := list(islice(left, _CHUNK)):
            count += len(chunk)
            self._chunks.append(
                [
                    self._column(hint, [getattr(item, name) for item in chunk])
                    for name, hint in self._hints.items()
                ]
            )
        self._values = list(self._numbers)
        super().__init__(count, self._item)

    def _column(self, hint: Any, values: list[Any]) -> NDArray[Any]:
        if hint in (float, float | None):
            return np.array(values, dtype=np.float64)
        if hint in (int, int | None):
            numbers = [0 if value is None else value + 1 for value in values]
            assert min(numbers) >= 0, "counts and places alone"
        else:
            numbers = [self._numbers.setdefault(value, len(self._numbers)) for value in values]
        return np.array(numbers, dtype=np.min_scalar_type(max(numbers)))

    def _values_of(self, hint: Any, column: NDArray[Any]) -> list[Any]:
        plain: list[Any] = column.tolist()
        if hint is float:
            return plain
        if hint == float | None:
            return [None if math.isnan(value) else value for value in plain]
        if hint in (int, int | None):
            return [value - 1 if value else None for value in plain]
        return [self._values[number] for number in plain]

    def _items(self, chunk: int, rows: slice) -> Iterator[_Item]:
        columns = [
            self._values_of(hint, column[rows])
            for hint, column in zip(self._hints.values(), self._chunks[chunk], strict=True)
        ]
        for values in zip(*columns, strict=True):
            yield self._kind(**dict(zip(self._hints, values, strict=True)))

    def _item(self, place: int) -> _Item:
        chunk, row = divmod(place, _CHUNK)
        return next(self._items(chunk, slice(row, row + 1)))

    def __iter__(self) -> Iterator[_Item]:
        for chunk in range(len(self._chunks)):
            yield from self._items(chunk, slice(None))
