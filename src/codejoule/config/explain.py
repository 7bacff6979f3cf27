"""Words for what Hydra and OmegaConf found wrong: the key, the value, the choices."""

import difflib
import errno
import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_type_hints

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException

from codejoule.config.errors import ConfigError, UserError, first_line
from codejoule.config.extras import missing_library, missing_plugin
from codejoule.config.groups import choices_of, in_order, is_group, meant, parts
from codejoule.config.installation import home
from codejoule.config.schema import ExperimentConfig
from codejoule.config.writing import full_disk

_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
# Hydra and the journal write where the user said; these say that it is not possible there.
_PLACES = (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EPERM)


def explain(error: BaseException, overrides: Sequence[str]) -> str | None:
    """Message for a user who wrote `overrides`; None for an error that is a bug of ours. Follows
    the chain of causes to the one that names a key, since Hydra wraps OmegaConf's errors and the
    launchers wrap Hydra's."""
    chain = _chain(error)
    for link in chain:
        if isinstance(link, ConfigError | UserError):
            return str(link)
        if (missing := missing_library(link)) is not None:
            return missing
    for link in chain:
        name = link.filename if isinstance(link, OSError) else None
        if (full := full_disk(link, *([Path(name)] if name else _folders(overrides)))) is not None:
            return f"{name}: cannot be written: {full}" if name else full
        if isinstance(link, OSError) and link.errno in _PLACES and link.filename:
            return (
                f"{link.filename}: cannot be written ({link.strerror}); choose another folder "
                "with hydra.run.dir=..., hydra.sweep.dir=... or tracking.dir=..."
            )
        if isinstance(link, MissingConfigException) and link.options is not None:
            return _no_such_choice(link)
        if isinstance(link, OverrideParseException):
            return f"{link.override}: not a Hydra override; {_literally(link, overrides)}"
    for link in chain:
        if str(link).startswith("Config group override must be a string"):
            return _not_a_name(overrides)
        if str(link).startswith("Only one of --run"):
            return f"{link}; to see the configuration of a sweep's job, leave -m away"
    for link in chain:
        if isinstance(link, OmegaConfBaseException):
            return _omegaconf(link, overrides)
    for link in chain:
        if isinstance(link, HydraException | ConfigCompositionException):
            return _hydra(link, overrides)
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    return chain


def _literally(error: OverrideParseException, overrides: Sequence[str]) -> str:
    """How to write what Hydra's grammar has no place for."""
    override = error.override
    if "=" in override:
        return f"quote its value, if it is meant as it stands: {_quoted(override)}"
    before = overrides[list(overrides).index(override) - 1] if override in overrides[1:] else ""
    if "=" in before:  # the shell has cut it off that one
        return f"quote a value with a space in it: {_quoted(f'{before} {override}')}"
    return first_line(error)


def _quoted(override: str) -> str:
    """`override` for a shell, its value quoted for Hydra."""
    key, _, value = override.partition("=")
    escaped = value.replace('"', '\\"')
    return shlex.quote(f'{key}="{escaped}"')


def _folders(overrides: Sequence[str]) -> list[Path]:
    """Where Hydra and libraries, whose errors name no file, may have written."""
    named = [value for _, _, value in (override.partition("=") for override in overrides)]
    own = [Path.cwd(), home(), Path(tempfile.gettempdir())]
    return own + [Path(value).expanduser() for value in named if value.startswith(("/", "~"))]


def _no_such_choice(error: MissingConfigException) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    choice = choice.removesuffix(".yaml")
    if (plugin := missing_plugin(f"{group}={choice}")) is not None:
        return plugin
    if not error.options:
        return f"{group}={choice}: no such group; choose one of {', '.join(parts())}"
    return f"{group}={choice}: no such choice; {meant(group, choice, in_order(error.options))}"


def _not_a_name(overrides: Sequence[str]) -> str:
    """``batch=1``: Hydra takes a number (or null) for a group's choice, and stops."""
    for override in overrides:
        group, equals, value = override.partition("=")
        if equals and is_group(group) and not re.match(r"[A-Za-z_]", value.replace("null", "")):
            choices = meant(group, value, choices_of(group))
            return f"{override}: a choice is a name; {choices}"
    return "a group's choice must be a name, such as batch=b1"


def _omegaconf(error: OmegaConfBaseException, overrides: Sequence[str]) -> str:
    key = error.full_key or (str(error.key) if error.key is not None else "")
    said = (error.msg or str(error)).splitlines()[0]
    setting = _setting(key, overrides)
    missing = re.match(r"Key '(.+?)' (?:is )?not in ", said)
    if missing:
        return f"{setting}: no such key; {_near(key)}"
    if said.startswith("Missing mandatory value"):
        return f"{key}: has no value; set it with {key}=..."
    enum = re.match(r"Invalid value '(.*)', expected one of \[(.*)\]", said)
    if enum:
        return f"{key}={enum[1]}: no such choice; choose one of {enum[2]}"
    kind = re.search(r"could not be converted to (\w+)$", said)
    if kind and kind[1] in _KINDS:
        return f"{setting}: must be {_KINDS[kind[1]]}"
    return f"{setting}: {said}"


def _hydra(error: BaseException, overrides: Sequence[str]) -> str:
    said = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    key = re.match(r"Could not (?:override|append to config|delete.*?) '(.+?)'", said)
    if key and is_group(key[1]):
        preset = _setting(key[1], overrides)
        return f"{preset}: presets are added with a plus: +{preset}"
    ambiguous = re.match(r"Ambiguous value for argument '(.+?)'", said)
    if ambiguous:
        several = (
            f"{ambiguous[1]}: several values are a sweep, which needs -m: "
            f"codejoule run -m {shlex.join(_of_a_sweep(overrides))}"
        )
        if is_group(ambiguous[1].partition("=")[0]):
            return several
        return f"{several}; if the comma is part of the value, quote it: {_quoted(ambiguous[1])}"
    if key and "No match in the defaults list" in said:
        return f"{_setting(key[1], overrides)}: no such group; {_near(key[1])}"
    return said


def _of_a_sweep(arguments: Sequence[str]) -> list[str]:
    """`arguments` without the flags that only show a configuration, which go with no sweep."""
    kept: list[str] = []
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if not {before, argument} & {"--cfg", "-c", "--package", "-p", "--resolve", "--info", "-i"}:
            kept.append(argument)
    return kept


def _setting(key: str, overrides: Sequence[str]) -> str:
    """The override that set `key`, as the user typed it; else the key."""
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if name == key:
            return f"{key}={value}"
    return key


def _near(key: str) -> str:
    """What stands where `key` was looked for, the nearest name first."""
    hints = get_type_hints(ExperimentConfig)
    parts = key.split(".")
    if parts[0] == "hydra":
        shown = f"--cfg hydra --package {'.'.join(parts[:-1])}"
        return f"{shown} in its place, and without -m, shows the keys that there are"
    for depth, part in enumerate(parts):
        if not is_dataclass(hints.get(part)):
            where = ".".join(parts[:depth]) or "the configuration"
            close = difflib.get_close_matches(part, hints, n=1)
            guess = f"did you mean {'.'.join([*parts[:depth], close[0]])}? " if close else ""
            return f"{guess}{where} has {', '.join(hints)}"
        hints = get_type_hints(hints[part])
    return "see codejoule run --cfg job"
