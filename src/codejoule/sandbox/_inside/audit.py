"""Notices whether the solution looks into the tests, and whether it calls other hosts."""

import ast
import gc
import inspect
import opcode
import os
import socket
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .snapshot import FROZEN, TESTS_FILE, is_listed

_OURSELVES = frozenset(
    {"", "localhost", "localhost.localdomain", "ip6-localhost", "0.0.0.0", "::", "::1"}
)

_PEEPING = frozenset(
    {"sys.settrace", "sys._current_frames", "gc.get_referrers", "gc.get_referents"}
)
"""Ways to the frames of the tests, or to make them jump over a line."""
_LISTING = frozenset({"gc.get_objects", "gc.get_referrers"})
"""Ways to objects that were not handed over."""
_listed_objects = gc.get_objects

_CODE = frozenset({"f_code", "__code__"})
_HONEST_READERS = frozenset(
    vars(inspect)[name].__code__
    for name in ("_has_code_flag", "_signature_from_function", "getfile")
)
"""Parts of ``inspect`` that look at a function's parameters, flags or file and hand on nothing
else. unittest, asyncio, mock and many libraries ask them about any function they are given."""
_READS_AN_ATTRIBUTE = frozenset({opcode.opmap["LOAD_ATTR"], opcode.opmap.get("LOAD_METHOD")})
_TELL_NO_ANSWERS = frozenset(
    {
        "co_name", "co_qualname", "co_filename", "co_firstlineno", "co_flags", "co_varnames",
        "co_argcount", "co_posonlyargcount", "co_kwonlyargcount",
    }
)  # fmt: skip
_LOOK_AT_VARIABLES = frozenset({"locals", "vars", "f_locals", "eval", "exec"})


class Audit:
    """An audit hook that notices, and refuses, a solution that looks into the tests: at a
    frame or function of theirs, where the expected values stand among the constants. It also
    counts attempts to reach another host; with `any_socket`, every socket of the internet,
    for there its own host is out of reach too."""

    def __init__(
        self, program: str, code: types.CodeType, calls: list[str], *, any_socket: bool
    ) -> None:
        """`program` is the solution's text, `code` what was compiled from it; `calls` will hold
        the attempts to reach another host, however they ended: their events."""
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
        # What this process was started with: ours, though it came from the command line.
        self._bottom = frame.f_code
        # Those that ask code objects for names and places alone want to know their caller.
        self._harmless = frozenset(_codes_of(code)) if reads_no_constants(program) else frozenset()
        self._any_socket = any_socket
        self._ourselves = _OURSELVES | {os.uname().nodename}
        self.evidence: str | None = None
        self.calls = calls
        self._guarded: frozenset[int] = frozenset()
        self._busy = False

    def guard(self, codes: Iterable[types.CodeType | None]) -> None:
        """From now on, reading one of these code objects counts as tampering."""
        self._guarded = frozenset(id(code) for code in codes if code is not None)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        # This comes first because it is by far the most frequent: comparing with the snapshot reads
        # each function.
        if event == "object.__getattr__":
            if self._guarded and not self._busy and arguments[1] in _CODE:
                self._refuse_if("the code of the tests was read", self._looks_into_tests, arguments)
            return
        if event.startswith("socket."):
            if self._is_outside(event, arguments):
                self.calls.append(event)
            return
        if self._busy:
            return
        if event in _LISTING:
            self._refuse_if(f"{event} was called after gc.unfreeze", _has_unfrozen, arguments)
        if event == "gc.get_referents":
            if any(isinstance(one, types.FrameType) for one in arguments[0]):
                self._refuse_if(f"{event} was called", self._peeps, arguments)
        elif event in _PEEPING and self._guarded:
            self._refuse_if(f"{event} was called", self._peeps, arguments)

    def _refuse_if(
        self, words: str, is_evidence: Callable[[tuple[Any, ...]], bool], arguments: tuple[Any, ...]
    ) -> None:
        self._busy = True
        try:
            found = is_evidence(arguments)
        finally:
            self._busy = False
        if found:
            self.evidence = words
            raise RuntimeError(words)

    def _is_outside(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "socket.__new__":
            return self._any_socket and arguments[1] in (socket.AF_INET, socket.AF_INET6)
        if event in ("socket.getaddrinfo", "socket.gethostbyname"):
            host = arguments[0]
        elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
            host = arguments[1][0]
        else:
            # Other addresses are paths, or numbers, of this machine.
            return False
        if isinstance(host, bytes | bytearray):
            host = bytes(host).decode("ascii", "replace")
        if not isinstance(host, str):
            return False
        return str.lower(host) not in self._ourselves and not str.startswith(host, "127.")

    def _peeps(self, _: tuple[Any, ...]) -> bool:
        """Whether untrusted code itself asks for other frames, or to control them."""
        # Above this method, the one that calls it, and the hook.
        return self._is_untrusted(sys._getframe(3))

    def _looks_into_tests(self, arguments: tuple[Any, ...]) -> bool:
        target, name = arguments
        code = getattr(target, name)
        reader: types.FrameType | None = sys._getframe(3)
        if reader is None or self._may_read(reader):
            return False
        if isinstance(target, types.FrameType):
            # Libraries walk frames to find their caller; only the reader itself counts.
            ours = code.co_filename == TESTS_FILE or id(code) in self._guarded
            return ours and self._is_untrusted(reader)
        while id(code) in self._guarded and reader is not None:
            if self._is_untrusted(reader):
                return True
            reader = reader.f_back
        return False

    def _may_read(self, frame: types.FrameType) -> bool:
        """Whether it is known what `frame` does with the code object that it reads."""
        if frame.f_code in _HONEST_READERS:
            return True
        # Not through getattr or the like, which the text of the program would not show.
        reading = frame.f_code.co_code[frame.f_lasti]
        return frame.f_code in self._harmless and reading in _READS_AN_ATTRIBUTE

    def _is_untrusted(self, frame: types.FrameType) -> bool:
        """Whether `frame` runs the solution's code or code made on the spot."""
        name = frame.f_code.co_filename
        known = ("/", "codejoule_inside/", "<frozen")
        ours = name == TESTS_FILE or frame.f_code is self._bottom
        return not ours and not name.startswith(known)


def _has_unfrozen(_: tuple[Any, ...]) -> bool:
    return is_listed(FROZEN, _listed_objects())


def _codes_of(code: types.CodeType) -> Iterator[types.CodeType]:
    """`code` and all that is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes_of(constant)


def reads_no_constants(program: str) -> bool:
    """Whether all code objects of functions and frames that `program`, which is Python, takes
    are only asked for names, places and parameters, at once or by way of a variable. The
    constants of a test hold what it expects."""
    if not any(name in program for name in _CODE):
        return False
    nodes = list(ast.walk(ast.parse(program)))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    taken = {id(node) for node in attributes if node.attr in _CODE}
    asked = {id(node.value) for node in attributes if node.attr in _TELL_NO_ANSWERS}
    kept = {
        id(node.value): node.targets[0].id
        for node in nodes
        if isinstance(node, ast.Assign) and id(node.value) in taken
        and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    }  # fmt: skip
    if not taken <= asked | kept.keys():
        return False
    variables = set(kept.values())
    names = {node.attr for node in attributes}
    if variables & names:
        return False
    names |= {node.id for node in nodes if isinstance(node, ast.Name)}
    if variables and (
        names & _LOOK_AT_VARIABLES
        or any(isinstance(node, ast.Global | ast.Nonlocal) for node in nodes)
    ):
        return False
    return all(
        id(node) in asked
        for node in nodes
        if isinstance(node, ast.Name) and node.id in variables and isinstance(node.ctx, ast.Load)
    )
