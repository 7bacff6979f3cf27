"""The files of ``conf/``, typed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from codejoule.config.paths import project_root

_Schema = TypeVar("_Schema")


def typed_as(schema: type[_Schema], plain: Mapping[str, Any] | DictConfig) -> _Schema:
    """`plain` as an object of `schema`, the checks of its fields included."""
    merged = OmegaConf.merge(OmegaConf.structured(schema), plain)
    typed = OmegaConf.to_object(merged)
    assert isinstance(typed, schema)
    return typed


def read_choice(file: Path, schema: type[_Schema]) -> _Schema:
    """A choice by itself, without what its defaults list brings."""
    given = OmegaConf.load(file)
    assert isinstance(given, DictConfig)
    given.pop("defaults", None)
    return typed_as(schema, given)


def choices(group: str, schema: type[_Schema], *, without: str | None = None) -> list[_Schema]:
    """Every choice of a group of ``conf/``, in the order of their names."""
    files = sorted((project_root() / "conf" / group).glob("*.yaml"))
    return [read_choice(file, schema) for file in files if file.stem != without]
