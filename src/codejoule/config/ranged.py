"""Ranges of a schema's fields, declared with them."""

from collections.abc import Callable
from dataclasses import field
from enum import Enum
from operator import attrgetter
from typing import Any

from codejoule.config.errors import ConfigError


def ranged(default: Any, test: Callable[[Any], bool], need: str) -> Any:
    """A field whose value, where it is not null, must pass `test`; `need` says so in the error."""
    return field(default=default, metadata={"test": test, "need": need})


def at_least(low: float, default: Any, need: str | None = None) -> Any:
    """A field whose value must be `low` or more."""
    return ranged(default, lambda value: value >= low, need or f"must be at least {low}")


def above(low: float, default: Any, need: str) -> Any:
    """A field whose value must be more than `low`."""
    return ranged(default, lambda value: value > low, need)


class Ranged:
    """Checks the ranges that the fields declare; `prefix` stands before their names in errors."""

    prefix = ""

    def __init_subclass__(cls, *, prefix: str = "") -> None:
        cls.prefix = prefix

    def __post_init__(self) -> None:
        for key, declared in self.__dataclass_fields__.items():  # type: ignore[attr-defined]
            value = getattr(self, key)
            if value is not None and "test" in declared.metadata:
                self._require(declared.metadata["test"](value), key, declared.metadata["need"])
        self._check()

    def _check(self) -> None:
        """Refuse what the fields must not be together."""

    def _require(self, ok: bool, key: str, need: str) -> None:
        """`ConfigError` about the (dotted) key unless `ok`."""
        if not ok:
            value = attrgetter(key)(self)
            told = value.value if isinstance(value, Enum) else "null" if value is None else value
            raise ConfigError(f"{self.prefix}{key}={told}: {need}")
