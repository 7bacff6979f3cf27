"""The groups of the configuration, their choices, and what somebody may have meant by another."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_type_hints

from codejoule.config.installation import conf_folders
from codejoule.config.schema import ExperimentConfig, QuantConfig
from codejoule.config.typed import choices

PRESETS = "experiment"
"""The group of whole sweeps, which is added with a plus."""
_ALIKE = 0.6
_OWN_MODELS = "a model of your own: model=/path/to/folder, model=org/name, model=file.gguf"


def parts() -> list[str]:
    """The parts of the configuration that have keys of their own; most are groups."""
    return [key for key, kind in get_type_hints(ExperimentConfig).items() if is_dataclass(kind)]


def is_group(name: str) -> bool:
    """Whether `name` is a group, of codejoule's or of the user's own."""
    return any((folder / name).is_dir() for folder in conf_folders())


def choices_of(group: str) -> list[str]:
    """The names that `group` may have, as files of codejoule's and of the user's own."""
    return in_order({f.stem for folder in conf_folders() for f in folder.glob(f"{group}/*.yaml")})


def in_order(names: Iterable[str]) -> list[str]:
    """Names in alphabetical order, save that numbers in them go by size: b4, b8, b16."""

    def key(name: str) -> list[str]:
        return [f"{int(p):09d}" if p.isdigit() else p for p in re.split(r"(\d+)", name)]

    return sorted(names, key=key)


def meant(group: str, choice: str, there: Sequence[str]) -> str:
    """What to say to somebody who asked `group` for a `choice` that is not `there`: the near ones,
    all of them, and what may be written in place of a name."""
    number = int(found[0]) if (found := re.findall(r"\d+", choice)) else None
    near, beside = _near(choice, there), ""
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    if group == "batch" and number:
        guess, beside = "", f", or any size: batch.size={number}"
    elif group == "model":
        beside = f", or {_OWN_MODELS}"
        if Path(choice).is_dir():
            guess = f"the folder of that name is model=./{choice}; "
    elif group == "quant" and number and not near:
        of_bits = [quant.name for quant in choices(group, QuantConfig) if quant.bits == number]
        if of_bits:
            guess = f"with {number} bits there are {', '.join(of_bits)}; "
        elif number in (16, 32):
            guess = "unquantized weights are quant=none, their numbers' format is model.dtype; "
    return f"{guess}choose one of {', '.join(there)}{beside}"


def _near(choice: str, there: Sequence[str]) -> list[str]:
    """The names that hold what was written, or are held by it; else those spelled most alike."""
    word = choice.lower().replace("-", "_")
    holding = [name for name in there if len(word) > 2 and (word in name or name in word)]
    if 0 < len(holding) <= 3:
        return holding
    alike = {name: difflib.SequenceMatcher(a=word, b=name).ratio() for name in there}
    best = max(alike.values(), default=0.0)
    return [name for name, ratio in alike.items() if ratio == best >= _ALIKE]


def help_text() -> str:
    """The groups with their choices, for ``--help``: those that Hydra finds, in our order."""
    from hydra.core.global_hydra import GlobalHydra

    loader = GlobalHydra.instance().config_loader()
    lines = []
    for group in (*parts(), PRESETS):
        found = in_order(loader.get_group_options(group))
        if found:
            more = f", or {_OWN_MODELS}" if group == "model" else ""
            lines.append(f"{'+' * (group == PRESETS)}{group}: {', '.join(found)}{more}")
    return "\n".join(lines)
