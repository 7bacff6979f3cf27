"""What BigCodeBench's names say: of a file of samples, and of a part of the benchmark."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_SCHEME = re.compile(
    r"(?P<model>.+?)--bigcodebench-(?:(?P<subset>hard)-)?(?P<split>complete|instruct)--"
)
"""``{model}--{revision}--bigcodebench[-hard]-{split}--{backend}-{temperature}-{n}-....jsonl``"""

_SUBSETS = {"bigcodebench": "full", "bigcodebench_hard": "hard"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplesName:
    """What the name of a file of samples tells; None where it tells nothing."""

    model: str | None
    """Model and revision, e.g. ``Qwen--Qwen2.5-7B-Instruct--main``."""
    split: str | None
    """``complete`` or ``instruct``."""
    subset: str | None
    """``full`` or ``hard``."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read the name of `path`; a name of another scheme tells nothing."""
        match = _SCHEME.match(path.name)
        if match is None:
            return cls(model=None, split=None, subset=None)
        return cls(model=match["model"], split=match["split"], subset=match["subset"] or "full")


def subset_of(suite: str) -> str:
    """BigCodeBench's word for the suite of that name, where it has one, else the name."""
    return _SUBSETS.get(suite, suite)
