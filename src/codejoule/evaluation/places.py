"""An index from keys to places in a file, in 32 to 64 bytes for each key."""

from collections.abc import Iterator

import numpy as np

_FIRST_SLOTS = 1024
_FREE = -1


class Places:
    """A hash table with open addressing: a Python dict takes six times as much."""

    def __init__(self) -> None:
        self._count = 0
        self._allocate(_FIRST_SLOTS)

    def _allocate(self, slots: int) -> None:
        self._hashes = np.zeros(slots, dtype=np.uint64)
        self._places = np.full(slots, _FREE, dtype=np.int64)

    def put(self, key: str, place: int) -> None:
        """Note a place of `key`, a hexadecimal hash; earlier ones of it stay."""
        if 2 * self._count >= len(self._places):
            hashes, places = self._hashes, self._places
            self._allocate(2 * len(places))
            for slot in np.flatnonzero(places != _FREE):
                self._fill(int(hashes[slot]), int(places[slot]))
        self._fill(_short(key), place)
        self._count += 1

    def _fill(self, short: int, place: int) -> None:
        *_, slot = self._slots(short)
        self._hashes[slot], self._places[slot] = short, place

    def _slots(self, short: int) -> Iterator[int]:
        """The slots that may hold it, up to the first free one."""
        slot = short % len(self._places)
        while self._places[slot] != _FREE:
            yield slot
            slot = (slot + 1) % len(self._places)
        yield slot

    def find(self, key: str) -> list[int]:
        """The places that may be those of `key`, the last one noted first: another key may begin
        with the same 16 digits."""
        short = _short(key)
        found = [int(self._places[slot]) for slot in self._slots(short) if self._is(slot, short)]
        return sorted(found, reverse=True)

    def _is(self, slot: int, short: int) -> bool:
        return bool(self._places[slot] != _FREE and self._hashes[slot] == short)


def _short(key: str) -> int:
    return int(key[:16], 16)
