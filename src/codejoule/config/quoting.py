"""Values that Hydra's grammar would take apart, such as paths with ``=`` or a comma."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException


def quoted(override: str) -> str | None:
    """`override` for a shell, its value quoted for Hydra; None where no quoting keeps the value."""
    key, equals, value = override.partition("=")
    if not equals:
        return None
    escaped = value.replace('"', '\\"')
    for text in (f'{key}="{value}"', f"{key}='{value}'", f'{key}="{escaped}"'):
        parsed = _parse(text)
        if parsed and isinstance(parsed._value, QuotedString) and parsed.value() == value:
            return shlex.quote(text)
    return None


def misread_path(overrides: Sequence[str]) -> str | None:
    """How to write a path of `overrides` that is there, though Hydra reads its name as something
    else; None where there is none."""
    for override in overrides:
        key, _, value = override.partition("=")
        # Not Path.exists, which raises for a name that is too long.
        if key.startswith("-") or not os.path.exists(Path(value).expanduser()):  # noqa: PTH110
            continue
        fixed = quoted(override)
        if fixed is not None and not _is_read_whole(override, value):
            return f"{override}: Hydra does not read this as the path that it is; quote it: {fixed}"
    return None


def _is_read_whole(override: str, value: str) -> bool:
    parsed = _parse(override)
    if parsed is None or parsed.is_sweep_override():
        return False
    # What is read as a number, true or null is no path, whatever a file may be called.
    return parsed.value() == value or not isinstance(parsed.value(), str)


def _parse(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None
