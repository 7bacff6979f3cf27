"""Where untrusted code runs: the solution first, then the tests, in one module.

Code that shares a process with the tests can in principle forge their result. This module makes
that hard and evident. The processes around it keep it from doing harm.
"""

import __future__

import builtins
import contextlib
import gc
import io
import os
import random
import resource
import signal
import sys
import tempfile
import types
import unittest
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from . import kernel, seccomp
from .audit import Audit
from .messages import VerdictChannel, describe
from .outcomes import Outcomes
from .process_guards import confine
from .processes import threads_of
from .snapshot import FROZEN, TESTS_FILE, Snapshot, find_equal_to_everything, is_listed
from .task_setup import Ends, TaskSetup

SOLUTION_FILE = "solution.py"
MODULE = "__test__"
"""The module's name in BigCodeBench's own evaluator; some tests patch ``__test__.x``."""

_CLASS = "TestCases"
_MAX_PROCESSES = 256
_MAX_FILES = 1024
_STACK_BYTES = 10 * 2**20


_Ended = tuple[str, bool] | None
"""How code ended that raised: with which words, and whether for want of memory."""


# Bound before any untrusted code runs: replacing them in their modules changes nothing here.
_exit, _getpid, _block_signals = os._exit, os.getpid, signal.pthread_sigmask
_new_objects = gc.get_objects
_BUILTINS = vars(builtins)
_SIGNALS = frozenset(signal.Signals)


class _Trusted:
    """What speaks for the tests. While untrusted code runs, no local variable of any frame
    leads here: it is only an operand of the call that comes next, which Python code cannot
    look at. And it is frozen, so that the garbage collector does not list it."""

    def __init__(
        self, say: VerdictChannel, audit: Audit, snapshot: Snapshot, failures: int
    ) -> None:
        self.say = say
        self.audit = audit
        self.snapshot = snapshot
        self.failures = failures
        self.listed: list[object] = []
        self.codes: list[types.CodeType | None] = []


def run(setup: TaskSetup, job: dict[str, Any], ends: Ends, nonce: str) -> NoReturn:
    """Confine this process, run the solution and the tests, report, end."""
    try:
        channel, failures = _confine(setup, job, ends)
    except OSError as error:
        VerdictChannel(ends.channel, nonce).end("stuck", f"could not confine itself: {error}")
    calls: list[str] = []
    say = VerdictChannel(channel, nonce, calls)
    program = job["program"]
    try:
        code = compile(program, SOLUTION_FILE, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError) as error:
        say.end("syntax", describe(error))
    audit = Audit(program, code, calls, any_socket=setup.guards is not None)
    hidden = [_Trusted(say, audit, setup.snapshot, failures)]
    module = types.ModuleType(MODULE)
    module.__dict__.update(__builtins__=_BUILTINS, __file__=f"{MODULE}.py")
    module.__dict__.update(sys=sys, os=os, environ=os.environ)
    sys.modules[MODULE] = module
    # The bound method, which is quicker to call than the object: it is called thousands of times.
    sys.addaudithook(audit.__call__)
    gc.freeze()
    hidden[0].listed = [hidden[0].failures]
    del setup, job, ends, nonce, channel, failures, program, calls, audit, say
    _after_solution(hidden.pop(), module, code.co_flags, _execute(code, module), _find_pliable(()))


def _after_solution(
    trusted: _Trusted, module: types.ModuleType, flags: int, ended: _Ended, pliable: str | None
) -> NoReturn:
    """Look for traces of tampering, get the tests and execute them."""
    say = trusted.say
    say.unless_ended(ended)
    if module.__dict__.get("__builtins__") is not _BUILTINS:
        say.unless_tampered("__builtins__")
    say.unless_tampered(trusted.audit.evidence)
    say.unless_tampered(trusted.snapshot.difference(mocks_allowed=False))
    say.unless_tampered(pliable)
    # The tests are part of the solution's program, and so of its future.
    future = flags & __future__.annotations.compiler_flag
    tests = compile(say.ask_for_tests(), TESTS_FILE, "exec", flags=future, dont_inherit=True)
    hidden = [trusted]
    del trusted, say
    _run_tests(hidden.pop(), module, _execute(tests, module))


def _run_tests(trusted: _Trusted, module: types.ModuleType, ended: _Ended) -> NoReturn:
    """Run the tests; their text is gone before any of them calls the solution."""
    trusted.say.unless_ended(ended)
    case = module.__dict__.get(_CLASS)
    if not (isinstance(case, type) and issubclass(case, unittest.TestCase)):
        trusted.say.result({})
        _exit(0)
    stranger = _base_by_solution(case)
    if stranger is not None:
        trusted.say.unless_tampered(f"{_CLASS}'s base {stranger}")
    methods = {name: value for name, value in vars(case).items() if callable(value)}
    trusted.codes = [getattr(value, "__code__", None) for value in methods.values()]
    trusted.audit.guard(trusted.codes)
    suite = unittest.TestLoader().loadTestsFromTestCase(case)
    outcomes = Outcomes(trusted.audit.calls, trusted.failures)
    hidden = [trusted]
    del trusted
    _conclude(hidden.pop(), case, methods, outcomes, _ended_by(lambda: suite.run(outcomes)))


def _conclude(
    trusted: _Trusted, case: type, methods: dict[str, Any], outcomes: Outcomes, ended: _Ended
) -> NoReturn:
    """Look for traces of tampering once more."""
    say = trusted.say
    _block_signals(signal.SIG_BLOCK, _SIGNALS)
    say.unless_ended(ended)
    for name, value in methods.items():
        if vars(case).get(name) is not value:
            say.unless_tampered(f"{_CLASS}.{name}")
    if type(outcomes) is not Outcomes or type(outcomes.outcomes) is not dict:
        say.unless_tampered("TestResult")
    say.unless_tampered(outcomes.tampering())
    codes = trusted.codes
    hidden = [trusted]
    del trusted, say
    _report(hidden.pop(), outcomes, _find_pliable(codes))


def _report(trusted: _Trusted, outcomes: Outcomes, pliable: str | None) -> NoReturn:
    say = trusted.say
    objects = _new_objects()
    if is_listed(FROZEN, objects) or not is_listed(trusted.listed, objects):
        say.unless_tampered("gc.freeze")
    say.unless_tampered(trusted.audit.evidence)
    # The tests are over: nothing is left to guard, and the comparison reads every judge.
    trusted.audit.guard(())
    say.unless_tampered(trusted.snapshot.difference(mocks_allowed=True))
    say.unless_tampered(pliable)
    say.result(outcomes.outcomes)
    _exit(0)


def _confine(setup: TaskSetup, job: dict[str, Any], ends: Ends) -> tuple[int, int]:
    """Give up all rights for good. Returns the descriptors that the verdict's channel and that of
    failed tests have now."""
    folder = setup.home.parent
    os.setsid()
    kernel.set_dumpable(True)
    os.dup2(ends.output, 1)
    os.dup2(ends.output, 2)
    # Not among the low numbers, which a sample may close or write to by habit.
    channel, failures = random.SystemRandom().sample(range(_MAX_FILES // 2, _MAX_FILES), 2)
    os.dup2(ends.channel, channel)
    os.dup2(ends.failures, failures)
    for held in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if held > 2 and held not in (channel, failures):
            with contextlib.suppress(OSError):
                os.close(held)
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    address_space = pages * resource.getpagesize()
    limits = {
        resource.RLIMIT_AS: address_space + int(job["memory_bytes"]),
        resource.RLIMIT_NPROC: _MAX_PROCESSES,
        resource.RLIMIT_NOFILE: _MAX_FILES,
        resource.RLIMIT_STACK: _STACK_BYTES,
        resource.RLIMIT_CORE: 0,
    }
    if setup.guards is not None:
        limits[resource.RLIMIT_FSIZE] = int(job["tmp_bytes"])
        uid = kernel.SANDBOX_ID if setup.guards.as_root else os.getuid()
        limits[resource.RLIMIT_NPROC] += threads_of(uid)
    for limit, value in limits.items():
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    if setup.guards is None:
        if setup.by_user_namespace:
            # With no rights over what belongs to init.
            kernel.enter_user_namespace()
        else:
            kernel.become_sandbox_user()
        kernel.drop_capabilities_for_good()
        seccomp.install(setup.seccomp_program)
    else:
        confine(setup.guards, setup.settings, str(folder))
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    # What a Python program starts with.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(setup.settings["environment"], HOME=str(setup.home))
    for path in (setup.home, folder / "sandbox-work"):
        path.mkdir()
    if setup.guards is not None:
        os.environ["TMPDIR"] = f"{folder}/tmp"
        (folder / "tmp").mkdir()
    for name, content in setup.files.items():
        path = setup.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (setup.home / ".config" / "matplotlib").mkdir(parents=True, exist_ok=True)
    os.chdir(folder / "sandbox-work")
    # Imports may have asked for it, and it is remembered.
    tempfile.tempdir = None
    sys.argv[:] = [f"{MODULE}.py"]
    sys.stdout, sys.stderr = _text_stream(1), _text_stream(2)
    # Forks share the state of their parent's generators.
    random.seed(int(job["seed"]))
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(int(job["seed"]) % 2**32)
    return channel, failures


def _text_stream(fd: int) -> io.TextIOWrapper:
    """Make text printable: it may hold lone surrogates, and printing it must not fail."""
    binary = io.FileIO(fd, "w", closefd=False)
    buffered = io.BufferedWriter(binary)
    return io.TextIOWrapper(buffered, "utf-8", "backslashreplace", line_buffering=fd == 2)


def _execute(code: types.CodeType, module: types.ModuleType) -> _Ended:
    return _ended_by(lambda: exec(code, module.__dict__))


def _ended_by(step: Callable[[], object]) -> _Ended:
    """What `step` raised, as text: telling that may run untrusted code, too. A child that it
    forked and that comes back here ends."""
    pid = _getpid()
    try:
        step()
    except BaseException as error:
        return (describe(error), isinstance(error, MemoryError)) if _getpid() == pid else _exit(0)
    finally:
        if _getpid() != pid:
            _exit(0)
    return None


def _find_pliable(tests: Iterable[types.CodeType | None]) -> str | None:
    """Asks untrusted objects whether they equal things."""
    return find_equal_to_everything(_new_objects, _constants_of(tests))


def _constants_of(codes: Iterable[types.CodeType | None]) -> list[object]:
    """Numbers, texts and the like that stand in the tests."""
    found: list[object] = []
    pending = [code for code in codes if code is not None]
    while pending:
        for constant in pending.pop().co_consts:
            if isinstance(constant, types.CodeType):
                pending.append(constant)
            elif isinstance(constant, tuple):
                # A list that is written out is made from one.
                found += [constant, list(constant), *constant]
            else:
                found.append(constant)
    return found


def _base_by_solution(case: type) -> str | None:
    """A class above the tests' own whose methods stand in neither the tests nor a library."""
    for base in type.mro(case):
        for value in vars(base).values():
            code = getattr(value, "__code__", None)
            if isinstance(code, types.CodeType) and code.co_filename == SOLUTION_FILE:
                return base.__name__
    return None
