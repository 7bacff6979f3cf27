"""What the sandbox tells: of one program, and of itself."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What happened to one program and its tests."""

    phase: str
    """How it ended: ``result`` if the tests ran to their end, else ``syntax``, ``raised``,
    ``tampered``, ``timeout``, ``output`` (too much was printed), ``ended`` (the process did),
    ``too large``, ``lost`` (the worker was, twice), ``evicted`` or ``stuck`` (no set-up)."""
    wall_s: float
    """Wall time [s]."""
    cpu_s: float
    """CPU time of all its processes and of those that guard it [s]."""
    tests: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Of each test that ran: ``pass``, ``fail``, ``network`` (failed, and called for another
    host), ``memory``, ``skip`` or ``xfail`` (failed as it was told to), and the traceback."""
    what: str = ""
    """More about the phase: a traceback, or what was tampered with."""
    memory: bool = False
    """Whether it raised for want of memory."""
    network: bool = False
    """Whether it called for another host before it raised."""
    over_memory: bool = False
    """Whether it reached its limit of memory."""
    exit: int | None = None
    """Status of its first process, negative for a signal; None where not known."""
    output_tail: str = ""
    """The end of what it printed."""
    memory_peak_bytes: int | None = None
    """Largest memory of its processes together; None where not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxFacts:
    """What a sandbox said of itself when it started."""

    launcher: str
    """``namespaces``, or ``process``: there is no sandbox."""
    primitives: tuple[str, ...]
    """What was found in force around each program, in words."""
    user_namespace: bool
    """Whether programs live in user namespaces; else root gives up its rights per program."""
    python: tuple[int, ...]
    """Version of the interpreter that runs them."""
    preimported: tuple[str, ...]
    """Modules imported once for all."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)
