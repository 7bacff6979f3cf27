"""One part of an evaluation: ``--shard I/N``."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

_One = TypeVar("_One")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Part `number` of `count`: the samples whose place in the file, from 0, leaves the remainder
    `number` - 1 when divided by `count`. Neighbours, which are often of one task, are so spread
    over all parts."""

    number: int
    """Which one, from 1."""
    count: int
    """Of how many."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """``3/8``; ArgumentTypeError for anything else."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise argparse.ArgumentTypeError(f"{text}: must be I/N with I from 1 to N, such as 3/8")
        return cls(number=int(found[1]), count=int(found[2]))

    def of(self, samples: Sequence[_One]) -> Sequence[_One]:
        """Its samples, with the numbers that they have in the whole file: those seed their random
        numbers."""
        return samples[self.number - 1 :: self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
