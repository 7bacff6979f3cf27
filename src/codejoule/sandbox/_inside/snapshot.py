"""Whether the solution has changed what judges it: unittest, mock, the builtins, and what
tests compare with."""

import builtins
import itertools
import operator
import pickle  # noqa: F401 (so that it is among the modules)
import sys
import types
import unittest
import unittest.async_case
import unittest.mock
from collections.abc import Callable, Iterable, Mapping
from typing import Any

TESTS_FILE = "tests.py"
"""What the code of the tests calls its file."""

_COMPARING = frozenset(
    {
        "math", "posixpath", "numpy.testing", "numpy.testing._private.utils", "pandas.testing",
        "pandas._testing", "pandas._testing.asserters",
    }
)  # fmt: skip
_COMPARING_ALSO = {
    "numpy": ("allclose", "array_equal", "array_equiv", "isclose"),
    # Tests by EvalPlus' rules read with it what they expect.
    "pickle": ("loads",),
}
"""Functions of modules whose other parts may change."""

_PARTS = ("__code__", "__defaults__", "__kwdefaults__")
"""What a function does, and can be given otherwise."""
_parts_of = operator.attrgetter(*_PARTS)


class Snapshot:
    """The state of the judges before any untrusted code ran. `difference` names the first
    thing that has changed since, or None. `also` is the class that collects the outcomes."""

    def __init__(self, also: type) -> None:
        # The first call fills in names that mock keeps for later ones.
        unittest.mock.mock_open()
        self._modules_by_name = sys.modules
        self._modules = [
            module
            for name, module in sorted(sys.modules.items())
            if name == "unittest" or name.startswith("unittest.") or name in _COMPARING
        ]
        self._members: list[tuple[str, Mapping[str, object], dict[str, object]]] = []
        self._classes: list[tuple[str, type, frozenset[str]]] = []
        self._functions: list[types.FunctionType] = []
        self._names: list[str] = []
        for module in self._modules:
            self._hold(module.__name__, vars(module))
            for name, value in vars(module).items():
                if isinstance(value, type) and value.__module__ == module.__name__:
                    self._hold_class(f"{module.__name__}.{name}", value)
        self._hold_class(also.__name__, also)
        for name, functions in _COMPARING_ALSO.items():
            if name in sys.modules:
                live = vars(sys.modules[name])
                self._members.append((name, live, {key: live[key] for key in functions}))
        self._members.append(("builtins", vars(builtins), dict(vars(builtins))))
        self._parts = list(itertools.chain.from_iterable(map(_parts_of, self._functions)))
        self._mock_base = unittest.mock.NonCallableMock

    def _hold(self, where: str, live: Mapping[str, object]) -> None:
        self._members.append((where, live, dict(live)))
        for name, value in live.items():
            # A staticmethod or classmethod is what it wraps.
            function = getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType):
                self._functions.append(function)
                self._names.append(f"{where}.{name}")

    def _hold_class(self, where: str, value: type) -> None:
        self._hold(where, vars(value))
        late = {"__abstractmethods__", "__annotations__"}
        self._classes.append((where, value, frozenset(vars(value)) | late))

    def difference(self, *, mocks_allowed: bool) -> str | None:
        """Name of a changed judge. With `mocks_allowed`, a builtin that a test has replaced
        by a Mock and not put back is tolerated: tests are trusted, if untidy."""
        for module in self._modules:
            if self._modules_by_name.get(module.__name__) is not module:
                return module.__name__
        # Entries are compared by identity, because comparing by value would call what was put
        # there.
        for where, live, before in self._members:
            if not all(map(operator.is_, map(live.get, before), before.values())):
                name = self._changed_entry(where, live, before, mocks_allowed)
                if name is not None:
                    return f"{where}.{name}"
        parts = itertools.chain.from_iterable(map(_parts_of, self._functions))
        if not all(map(operator.is_, parts, self._parts)):
            return self._changed_function()
        for where, value, keys in self._classes:
            added = vars(value).keys() - keys
            if added:
                return f"{where}.{min(added)}"
        if sys.gettrace() is not None or sys.getprofile() is not None:
            return "sys.settrace"
        return _broken_comparison()

    def _changed_function(self) -> str:
        parts = itertools.chain.from_iterable(map(_parts_of, self._functions))
        changed = itertools.starmap(operator.is_not, zip(parts, self._parts, strict=True))
        return next(self._names[i // len(_PARTS)] for i, yes in enumerate(changed) if yes)

    def _changed_entry(
        self, where: str, live: Mapping[str, object], before: Mapping[str, object], mocks: bool
    ) -> str | None:
        for name, value in before.items():
            found = live.get(name, self)
            mocked = mocks and not where.startswith("unittest")
            if found is not value and not (mocked and isinstance(found, self._mock_base)):
                return name
        return None


_UNEQUAL: tuple[tuple[object, object], ...] = (
    (5, 7), (5, 5.5), (1.5, 2.5), ("a", "b"), ("a", 5), (b"a", b"b"), (None, 0), (True, False),
    ([1], [2]), ([1], []), ((1,), (2,)), ({"a": 1}, {"a": 2}), ({1}, {2}),
)  # fmt: skip
_DIGITS = [str(number) for number in range(-5, 257)]
"""An integer of which the interpreter keeps one object."""


def _broken_comparison() -> str | None:
    """Name of a built-in type that finds different values equal, or cannot count: the
    interpreter's own memory has been written to."""
    for one, other in _UNEQUAL:
        if one == other or other == one or not one != other:  # noqa: SIM202 (both are asked)
            return f"{type(one).__name__}.__eq__"
    return None if [str(number) for number in range(-5, 257)] == _DIGITS else "int"


class _Stranger:
    """An object of a class that no ``__eq__`` elsewhere knows."""


class _Anyone:
    """Stands for an object of the solution: whatever is asked of it is 0."""

    def __getattr__(self, name: str) -> int:
        return 0


_VALUES: tuple[object, ...] = (
    0, 1, 918273645, 2.5, "a", "918273645", None, [], [918273645], (), (1,), {}, {"a": 1},
)  # fmt: skip
_COMPARISONS = {"__eq__": True, "__ne__": False, "__contains__": True}
"""Methods that assertions ask, and the answer that lets everything pass."""


def find_equal_to_everything(
    get_objects: Callable[[], list[Any]], expected: Iterable[object] = ()
) -> str | None:
    """Name of a class made by the solution whose ``__eq__`` says yes to a stranger, or to
    different values, such as the `expected` ones: such an object passes assertEqual without
    being what is expected. `get_objects` must give what was made since `gc.freeze`."""
    values = [*_VALUES, *expected]
    for candidate in get_objects():
        # isinstance would be deceived by a proxy, whose class is what it stands for.
        if not issubclass(type(candidate), type):
            continue
        entries = type.__getattribute__(candidate, "__dict__")
        for name, welcome in _COMPARISONS.items():
            ask = _question(entries.get(name))
            if ask is None:
                continue
            welcomed = [value for value in values if ask(value) is welcome]
            several = name != "__contains__" and any(one != welcomed[0] for one in welcomed)
            if several or ask(_Stranger()) is welcome:
                return str(type.__getattribute__(candidate, "__name__"))
    return None


def _question(method: Any) -> Callable[[object], bool | None] | None:
    """Asks `method` about a value: yes, no, or None for no answer. None if it is not the
    solution's own."""
    code = getattr(method, "__code__", None)
    own: tuple[object, ...] = ()
    if isinstance(code, types.CodeType):
        if code.co_filename == TESTS_FILE or code.co_filename.startswith("/"):
            return None
        own = (_Anyone(),)
    elif not isinstance(method, types.BuiltinFunctionType | type):
        # These are no methods: they are called without the object, as in ``__eq__ = id``.
        return None

    def ask(value: object) -> bool | None:
        try:
            answer = method(*own, value)
            return None if answer is NotImplemented else bool(answer)
        except Exception:
            return None

    return ask


FROZEN: list[object] = []
"""One of the objects that `gc.freeze` hides. To count them all takes milliseconds."""


def is_listed(landmark: object, objects: list[Any]) -> bool:
    """Whether it, and nothing that only says so, is among the objects."""
    return any(map(operator.is_, objects, itertools.repeat(landmark)))
