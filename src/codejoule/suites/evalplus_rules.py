"""EvalPlus' rules of comparison.

The text of this file is part of a task's tests and runs in the sandbox: it needs nothing but
Python 3.10's standard library. What it compares comes from an untrusted function: what is used
after a first call of that is bound here before.
"""

import math
import pickle
import reprlib
from collections.abc import Callable
from typing import Any

_LARGE_BYTES = 2**10
"""An expected output beyond this is kept as its hash, where it must be matched exactly."""

_RTOL, _ATOL_OF_FLOATS = 1e-7, 1e-6

_show, _unpickle, _isfinite = reprlib.repr, pickle.loads, math.isfinite
_power, _sqrt, _NAMES = math.pow, math.sqrt, {"inf": math.inf, "nan": math.nan}


def read(given: str) -> Any:
    """The arguments that `given` holds as a literal, made anew: the function may change them."""
    return eval(given, dict(_NAMES))


def check(got: Any, given: str, expected: str, *, atol: float, rule: str) -> None:
    """Raise AssertionError unless `got` counts as the `expected` output for the arguments
    `given`. Where a question mark is expected, print `got` for later calls."""
    if expected == "?":
        print(f"\noutput {_recorded(got, atol, rule)}", flush=True)
        return
    if expected.startswith("#"):
        right, wanted = f"#{_hash(got)}" == expected, "what is expected"
    else:
        value = _unpickle(bytes.fromhex(expected))
        right, wanted = agrees(got, value, read(given), atol=atol, rule=rule), _show(value)
    if not right:
        raise AssertionError(f"{_show(got)}, not {wanted}, for {given[:1000]}")


def checker(*, atol: float, rule: str) -> Callable[[Any, str, str], None]:
    """`check` with these settings."""
    return lambda got, given, expected: check(got, given, expected, atol=atol, rule=rule)


def _recorded(output: Any, atol: float, rule: str) -> str:
    if _SPECIAL.get(rule) is _is_any:
        output = output is not None
    whole = pickle.dumps(output)
    tolerant = atol != 0 or rule in _SPECIAL or _is_floats(output)
    return whole.hex() if tolerant or len(whole) <= _LARGE_BYTES else f"#{_hash(output)}"


def agrees(got: Any, wanted: Any, arguments: list[Any], *, atol: float, rule: str = "") -> bool:
    """Whether `got` counts as the `wanted` output for `arguments`.

    It does if it is equal, or if the special `rule` of the benchmark's function says so. Where
    `atol` is not 0, or `wanted` is a float or a list or tuple of floats (`atol` is then 1e-6), it
    also does if type, length and shape are the same, and each number is within `atol` and a
    relative 1e-7.
    """
    special = _SPECIAL.get(rule)
    if special is _is_root:
        return _is_root(got, wanted, arguments, atol)
    same = special(got, wanted, arguments, atol) if special else got == wanted
    if atol == 0 and _is_floats(wanted):
        atol = _ATOL_OF_FLOATS
    if same or atol == 0:
        return bool(same)
    return type(got) is type(wanted) and _is_close(got, wanted, atol)


def _is_floats(value: Any) -> bool:
    if isinstance(value, list | tuple) and value:
        return all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _is_close(got: Any, wanted: Any, atol: float) -> bool:
    if isinstance(wanted, list | tuple):
        return (
            isinstance(got, list | tuple)
            and len(got) == len(wanted)
            and all(_is_close(*pair, atol) for pair in zip(got, wanted, strict=True))
        )
    if not (isinstance(got, _NUMBER) and isinstance(wanted, _NUMBER)):
        return False
    if got == wanted:
        return True
    return _isfinite(abs(wanted)) and abs(got - wanted) <= atol + _RTOL * abs(wanted)


_NUMBER = int | float | complex


def _hash(value: Any) -> int:
    """A number that equal values share. Hashes of text are the same in every process of the
    sandbox, where PYTHONHASHSEED is 0."""
    return hash(_frozen(value))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return "dict", frozenset((_frozen(key), _frozen(item)) for key, item in value.items())
    if isinstance(value, set | frozenset):
        return "set", frozenset(map(_frozen, value))
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        if _PLAIN.issuperset(map(type, value)):
            return kind, value.count(-1), tuple(value)
        return kind, tuple(map(_frozen, value))
    # Python has one hash for -1 and -2.
    return "minus one" if isinstance(value, _NUMBER) and value == -1 else value


_PLAIN = {int, float, bool, str, type(None)}


def _is_same_set(got: Any, wanted: Any, arguments: list[Any], atol: float) -> bool:
    return set(got) == set(wanted)


def _is_any(got: Any, wanted: Any, arguments: list[Any], atol: float) -> bool:
    """Only whether there is a match counts; `wanted` says so."""
    return bool(got == wanted if isinstance(got, bool) else wanted == (got is not None))


def _is_anything(got: Any, wanted: Any, arguments: list[Any], atol: float) -> bool:
    return True


def _is_same_or_zero(got: Any, wanted: Any, arguments: list[Any], atol: float) -> bool:
    return bool(got == wanted or got == 0)


def _is_pyramids_area(got: Any, wanted: Any, arguments: list[Any], atol: float) -> bool:
    """The height may be understood as that of a face, as `wanted` has it, or of the pyramid."""
    if got == wanted:
        return True
    base, height = arguments
    area = base**2 + 2 * base * _sqrt((base / 2) ** 2 + height**2)
    return bool(abs(got - round(area)) <= atol)


def _is_digit_distance(got: Any, wanted: Any, arguments: list[Any], atol: float) -> bool:
    """The shorter number may be filled with zeros."""
    if got == wanted:
        return True
    width = max(len(str(number)) for number in arguments)
    digits = [str(number).zfill(width) for number in arguments]
    distance = sum(abs(int(one) - int(other)) for one, other in zip(*digits, strict=True))
    return bool(got == distance)


def _is_root(got: Any, wanted: Any, arguments: list[Any], atol: float) -> bool:
    """A polynomial has several roots; any will do."""
    (coefficients,) = arguments
    value = sum(c * _power(got, power) for power, c in enumerate(coefficients))
    return bool(abs(value) <= atol)


_SPECIAL: dict[str, Callable[[Any, Any, list[Any], float], bool]] = {
    "humaneval.find_zero": _is_root,
    "mbpp.similar_elements": _is_same_set,
    "mbpp.find_char_long": _is_same_set,
    "mbpp.common_in_nested_lists": _is_same_set,
    "mbpp.extract_singly": _is_same_set,
    "mbpp.larg_nnum": _is_same_set,
    "mbpp.intersection_array": _is_same_set,
    "mbpp.find_dissimilar": _is_same_set,
    "mbpp.Diff": _is_same_set,
    "mbpp.check_str": _is_any,
    "mbpp.text_match_three": _is_any,
    "mbpp.text_starta_endb": _is_any,
    "mbpp.are_equivalent": _is_anything,
    "mbpp.sum_div": _is_same_or_zero,
    "mbpp.surface_Area": _is_pyramids_area,
    "mbpp.digit_distance_nums": _is_digit_distance,
}
"""By benchmark and function, as EvalPlus has them."""
