"""Finds the configurations that answer a question: those that differ in one setting alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codejoule.analysis.comparison import SHOWN

if TYPE_CHECKING:
    import pandas as pd

ALL_PAIRS = 12
"""Configurations of one set up to which each is compared with each."""

_FIRST = {"quant": "none", "variant": "base", "engine": "generate", "generation": "greedy"}
BASE = "_base"
"""End of the names of base models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSet:
    """Configurations that differ in one setting."""

    fixed: str
    """The other settings that vary in the group, e.g. ``qwen_7b b8``; empty where none does."""
    levels: tuple[str, ...]
    """Values of the setting, the reference first."""
    configurations: tuple[int, ...]
    """Row of each level in the comparison table."""

    def pairs(self) -> list[tuple[int, int]]:
        """Places of (level, what it is compared with) in `levels`.

        Up to `ALL_PAIRS` configurations each is compared with each; above that with the reference.
        """
        k = len(self.levels)
        references = range(k if k <= ALL_PAIRS else 1)
        return [(i, j) for j in references for i in range(j + 1, k)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All comparisons of one question, whose p-values are adjusted together."""

    factor: str
    """The setting in question, e.g. ``quant``."""
    sets: tuple[ComparisonSet, ...]
    """One per combination of the other settings."""


def configuration_labels(table: "pd.DataFrame", settings: Sequence[str]) -> list[str]:
    """Short names, one per row of a `comparison_table`, that tell all rows apart.

    E.g. ``qwen_7b gptq4 b8``: model, quantization and batch size always, others where they vary
    and are not absent.
    """
    varying = [n for n in settings if table[n].nunique(dropna=False) > 1]
    further = [name for name in varying if name not in ("model", "quant", "batch")]
    return [
        " ".join(
            [str(row["model"]), str(row["quant"]), f"b{row['batch']}"]
            + [setting_text(name, row[name], further) for name in further if row[name] is not None]
        )
        for row in table.to_dict("records")
    ]


def setting_text(name: str, value: object, others: Sequence[str]) -> str:
    """A setting in a label beside `others`: ``graph``, ``stop=complete``."""
    return str(value) if name in SHOWN else f"{heading(name, others)}={value}"


def heading(name: str, others: Sequence[str]) -> str:
    """The last part of a setting's dotted name, where that is unambiguous among `others`."""
    last = name.rpartition(".")[2]
    return name if [o.rpartition(".")[2] for o in others].count(last) > 1 else last


def short_names(table: "pd.DataFrame", settings: Sequence[str]) -> list[str]:
    """`configuration_labels`, without the model where there is only one."""
    labels = configuration_labels(table, settings)
    if table["model"].nunique() > 1:
        return labels
    return [label.removeprefix(f"{m} ") for label, m in zip(labels, table["model"], strict=True)]


def find_families(
    table: "pd.DataFrame", settings: Sequence[str], variants: Sequence[str]
) -> tuple[Family, ...]:
    """Find every question that a group of configurations can answer.

    One per setting in which otherwise equal rows of a `comparison_table` differ. A model's
    fine-tuning (``qwen_7b`` against ``qwen_7b_base``) is a setting of its own: `variants` has
    ``base`` or ``instruct`` for each row.
    """
    rows = table[list(settings)].astype(object).copy()
    names = list(settings)
    if len(set(variants)) > 1:
        rows["model"] = [str(m).removesuffix(BASE) for m in rows["model"]]
        rows["variant"] = list(variants)
        names.append("variant")
    varying = [name for name in names if rows[name].map(str).nunique() > 1]
    records = rows.to_dict("records")
    families = []
    for factor in varying:
        found: dict[tuple[str, ...], list[tuple[str, int]]] = {}
        for place, row in enumerate(records):
            fixed = tuple(_text(name, row[name]) for name in varying if name != factor)
            found.setdefault(fixed, []).append((str(row[factor]), place))
        sets = [_set(factor, " ".join(k), own) for k, own in found.items() if len(own) > 1]
        if sets:
            families.append(Family(factor=factor, sets=tuple(sets)))
    return tuple(families)


def _text(name: str, value: object) -> str:
    if name == "batch":
        return f"b{value}"
    return str(value) if name in SHOWN or name == "variant" else f"{name}={value}"


def _set(factor: str, fixed: str, members: list[tuple[str, int]]) -> ComparisonSet:
    first = _FIRST.get(factor)
    if factor == "batch":
        members = sorted(members, key=lambda m: int(m[0]))
    ordered = sorted(members, key=lambda m: m[0] != first)
    return ComparisonSet(
        fixed=fixed,
        levels=tuple(level for level, _ in ordered),
        configurations=tuple(place for _, place in ordered),
    )
