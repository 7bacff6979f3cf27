"""From Hydra's DictConfig, and the files of ``conf/``, to typed objects, every check included."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from codejoule.config.credentials import refuse_credentials
from codejoule.config.errors import ConfigError, first_line
from codejoule.config.installation import conf_folder, conf_folders
from codejoule.config.own_model import is_own_model
from codejoule.config.own_weights import with_own_facts
from codejoule.config.relevance import flat
from codejoule.config.schema import ExperimentConfig, ModelConfig

if TYPE_CHECKING:
    from hydra.conf import HydraConf

_Schema = TypeVar("_Schema")
ADAPTER_OF_RUN = "runs:/"
"""How ``model.adapter`` begins that names the artifact of a run and no folder."""

_log = logging.getLogger(__name__)


def to_experiment(config: DictConfig, hydra: "HydraConf | None" = None) -> ExperimentConfig:
    """Resolve, convert and check a composed configuration. `hydra` is Hydra's own part of it, where
    `config` has lost that: it knows which preset of a model was chosen, and which of its keys the
    user wrote. Raises `ConfigError` (or OmegaConf's own errors, which `explain` words) naming the
    key, the value and the choices."""
    node = copy.deepcopy(config)
    with open_dict(node):
        hydra = node.pop("hydra", None) or hydra
    _check_known(node, ExperimentConfig, "")
    if OmegaConf.get_type(node) is not ExperimentConfig:
        raise ConfigError(
            "the configuration does not extend codejoule's schema; its defaults list must "
            "start with `- /schema/config@_here_`, as conf/config.yaml does"
        )
    _check_finite(node)
    _check_paths(node)
    node.model = _model(node.model, hydra)
    return _checked(OmegaConf.to_object(node))


def _checked(experiment: Any) -> ExperimentConfig:
    assert isinstance(experiment, ExperimentConfig)
    _check_paths(experiment)
    refuse_credentials(flat(to_plain(experiment)).items())
    return experiment


def to_plain(experiment: ExperimentConfig) -> dict[str, Any]:
    """The configuration as nested dicts of plain values (enums by name), e.g. for YAML."""
    # OmegaConf does the same in 15 ms, several times for each job.
    return cast(dict[str, Any], _plain(experiment))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        floats = _floats(value.__class__)
        own = {field.name: getattr(value, field.name) for field in fields(value)}
        # As OmegaConf converts it: 5 seconds are 5.0, also where a program wrote the 5.
        return {
            key: float(each) if key in floats and isinstance(each, int) else _plain(each)
            for key, each in own.items()
        }
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


@cache
def _floats(schema: type) -> frozenset[str]:
    """The fields of `schema` that hold a floating-point number."""
    hints = get_type_hints(schema).items()
    return frozenset(name for name, hint in hints if float in (hint, *get_args(hint)))


def from_plain(plain: dict[str, Any]) -> ExperimentConfig:
    """The inverse of `to_plain`, checks included."""
    return _checked(typed_as(ExperimentConfig, plain))


def _check_known(node: DictConfig, schema: type, prefix: str) -> None:
    """Refuse keys added with ``+``: OmegaConf lets them past a schema, and they do nothing."""
    hints = get_type_hints(schema)
    for key in map(str, node):
        name = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(
                f"{name}: no such key; {prefix.rstrip('.') or 'the configuration'} has "
                f"{', '.join(hints)}"
            )
        child = node._get_node(key)
        if is_dataclass(hints[key]) and isinstance(child, DictConfig):
            _check_known(child, hints[key], f"{name}.")


def _model(node: DictConfig, hydra: "HydraConf | None") -> ModelConfig:
    """The model with facts of its own where its weights are not those of its preset."""
    model = OmegaConf.to_object(node)
    assert isinstance(model, ModelConfig)
    folders, written = conf_folders(), []
    chosen: str = model.name
    if hydra is not None:
        sources = hydra.runtime.config_sources
        places = [Path(source.path).resolve() for source in sources if source.schema == "file"]
        # --config-dir may name the folder conf that is there without it.
        folders = list(dict.fromkeys(places))
        chosen = str(hydra.runtime.choices.get("model"))
        written = [override.lstrip("+").partition("=")[0] for override in hydra.overrides.task]
        _check_found_once(hydra.runtime.choices, folders)
    presets = {file.stem: file for folder in folders for file in folder.glob("model/*.yaml")}
    if is_own_model(chosen) and model.name in presets and "model.name" not in written:
        raise ConfigError(
            f"model={chosen}: is named like the preset {model.name}, and would be recorded as if "
            "it were that; name it (model.name=...), in a sweep with a file of its own "
            f"(codejoule new model NAME --from {chosen})"
        )
    if chosen not in presets:
        return model
    preset = read_choice(presets[chosen], ModelConfig)
    return with_own_facts(model, preset, written=written, taken=presets)


def _check_found_once(choices: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """Refuse a choice that two folders have: Hydra would take the first without a word."""
    for group, choice in choices.items():
        files = [folder / group / f"{choice}.yaml" for folder in folders]
        there = [file for file in files if file.is_file()]
        if len(there) > 1:
            raise ConfigError(
                f"{group}={choice}: {there[1]} is named like {there[0]}, which would be taken in "
                "its place; rename your file"
            )


def _check_finite(node: DictConfig) -> None:
    """Refuse infinite numbers and those that are none, whichever key they stand under."""
    plain = OmegaConf.to_container(node, resolve=True)
    for key, value in flat(cast(dict[str, Any], plain)).items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise ConfigError(f"{key}={value}: must be a finite number")


def _check_paths(experiment: ExperimentConfig | DictConfig) -> None:
    named = {
        "suite.path": experiment.suite.path,
        "model.path": experiment.model.path,
        "evaluator.python": experiment.evaluator.python,
        "quant.calibration.path": experiment.quant.calibration.path,
    }
    if not str(experiment.model.adapter).startswith(ADAPTER_OF_RUN):
        named["model.adapter"] = experiment.model.adapter
    for key, value in named.items():
        if value is not None and not Path(value).expanduser().exists():
            raise ConfigError(
                f"{key}={value}: no such file or folder (relative paths start at "
                f"{Path.cwd()}); correct the path, or leave the key null"
            )


def typed_as(schema: type[_Schema], plain: Mapping[str, Any] | DictConfig) -> _Schema:
    """`plain` as an object of `schema`, the checks of its fields included."""
    merged = OmegaConf.merge(OmegaConf.structured(schema), plain)
    typed = OmegaConf.to_object(merged)
    assert isinstance(typed, schema)
    return typed


def read_choice(file: Path, schema: type[_Schema]) -> _Schema:
    """A choice by itself, without what its defaults list brings. Raises `ConfigError` that names
    the file."""
    try:
        given = OmegaConf.load(file)
        if not isinstance(given, DictConfig):
            raise ConfigError("holds no keys")
        given.pop("defaults", None)
        return typed_as(schema, given)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{file}: {first_line(error)}") from error


def choices(group: str, schema: type[_Schema], *, without: str | None = None) -> list[_Schema]:
    """Every choice of a group, in the order of their names. A file of the user's that cannot be
    read is left out with a warning: its folder may be another program's."""
    files = [file for folder in conf_folders() for file in (folder / group).glob("*.yaml")]
    found = []
    for file in sorted(files, key=lambda file: file.stem):
        if file.stem == without:
            continue
        try:
            found.append(read_choice(file, schema))
        except ConfigError as error:
            if file.is_relative_to(conf_folder()):
                raise
            _warn_once(f"{error}; this file is not taken for a choice of {group}")
    return found


@cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)
