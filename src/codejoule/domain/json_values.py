"""Frozen facts as plain values that JSON holds, and back."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def to_json(value: Any) -> Any:
    """A fact as dicts, lists, strings and numbers.

    Parameters
    ----------
    value : object
        A dataclass, an enum's member, a mapping or tuple of these, or a plain value.

    Returns
    -------
    object
        Enums by their values; NaN, which is no JSON, as None.
    """
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_json(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def from_json(kind: Any, value: Any) -> Any:
    """The inverse of `to_json`.

    Parameters
    ----------
    kind : type
        What `value` shall become: a dataclass, an enum, ``tuple[X, ...]``, ``Mapping[str, X]``,
        ``X | None``, or a plain type. None becomes NaN where a float is asked for.
    value : object
        What `to_json` returned, by way of JSON or not.

    Returns
    -------
    object
        Of type `kind`; a field that `value` lacks has its default.

    Raises
    ------
    KeyError, TypeError, ValueError
        If `value` has another form.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = (part for part in parts if part is not type(None))
        return None if value is None else from_json(inner, value)
    if origin is tuple:
        return tuple(from_json(parts[0], part) for part in value)
    if origin is Mapping:
        return {key: from_json(parts[1], part) for key, part in value.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{name: from_json(hints[name], part) for name, part in value.items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is float:
        return math.nan if value is None else float(value)
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
