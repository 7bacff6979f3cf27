"""One's own figures in the documented layout, from the runs of a store."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from codejoule.analysis import (
    COMPARABLE,
    Group,
    LoadedRuns,
    comparable_groups,
    comparison_table,
    setting_columns,
)
from codejoule.analysis.families import setting_text
from codejoule.analysis.store import FindArtifact, artifacts
from codejoule.config import UserError
from codejoule.published.figures import PublishedFigure
from codejoule.published.importing import FIGURE_TAG

if TYPE_CHECKING:
    import pandas as pd

_METHODS = {
    "nvml": "NVML's energy counter",
    "rapl": "RAPL's energy counter",
    "estimate": "an estimate from CPU time, no measurement",
    "replay": "a recording that was played again",
}
_COLUMNS_OF_THEIR_OWN = ("model", "quant", "batch", "engine", "quant.bits")
_FACTS_OF_THEIR_OWN = ("suite", "GPU", "weights", "length", "published", "source", "energy source",
                       "energy scope", "evaluation energy source")  # fmt: skip
_PACKAGES = ("codejoule", "vllm", "torch", "transformers", "gptqmodel", "torchao", "bitsandbytes")
"""Packages whose versions are told."""
_SEVERAL = re.compile(r"(?P<cards>\d+) x (?P<card>[^,]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Figures to publish."""

    figures: tuple[PublishedFigure, ...]
    """One per configuration, means over its runs."""
    left_out: tuple[str, ...]
    """A sentence for each kind of configuration that has none."""


def export_measured(loaded: LoadedRuns, *, source: str) -> Exported:
    """The figures of the measured runs among `loaded`; `source` says where they are published.

    Raises `UserError` if there are none.
    """
    frame = loaded.frame
    groups = [group for group in comparable_groups(frame) if not group.published]
    figures, without = [], 0
    with artifacts(frame, "environment.json", uri=loaded.uri) as find:
        for group in groups:
            settings = _facts(group, groups)
            found = [_figure(group, row, settings, source, find) for row in _rows(group)]
            figures += [figure for figure in found if figure is not None]
            without += found.count(None)
    if not figures:
        raise UserError(
            f"experiment {loaded.experiment!r} in {loaded.uri} has no measured run with energy per "
            "output token; --published exports the figures that were imported"
        )
    named = f"{without} configurations without energy per output token"
    return Exported(figures=tuple(figures), left_out=(named,) if without else ())


def export_published(loaded: LoadedRuns) -> Exported:
    """The figures among `loaded` that were imported, as they were. Raises `UserError` if there are
    none."""
    frame = loaded.frame
    texts = frame[f"tags.{FIGURE_TAG}"].dropna() if f"tags.{FIGURE_TAG}" in frame else ()
    figures = tuple(PublishedFigure.from_row(json.loads(text)) for text in texts)
    if not figures:
        raise UserError(
            f"experiment {loaded.experiment!r} in {loaded.uri} has no figures that `codejoule "
            "import-published` brought there"
        )
    rest = int(frame["tags.codejoule.published"].notna().sum()) - len(figures)
    named = f"{rest} published runs that another command imported"
    return Exported(figures=figures, left_out=(named,) if rest else ())


def _rows(group: Group) -> list[dict[str, Any]]:
    """Each configuration, with its runs and its further settings in words."""
    table = comparison_table(group.frame)
    further = [name for name in setting_columns(table) if name not in _COLUMNS_OF_THEIR_OWN]
    shown = [
        name
        for name in further
        if name != "generation" or (table[name].fillna("greedy") != "greedy").any()
    ]
    rows = []
    for row in table.to_dict("records"):
        runs = group.frame[group.frame["run_id"].isin(row["run_ids"])]
        words = [setting_text(name, row[name], shown) for name in shown if row[name] is not None]
        rows.append({**{str(k): v for k, v in row.items()}, "_runs": runs, "_words": words})
    return rows


def _facts(group: Group, groups: Sequence[Group]) -> list[str]:
    """What tells the runs of a group from those of others and has no column."""
    names = [name for name in COMPARABLE if name not in _FACTS_OF_THEIR_OWN]
    return [
        f"{name}={group.facts[name]}"
        for name in names
        if name in group.facts
        and (name == "split" or len({other.facts.get(name) for other in groups}) > 1)
    ]


def _figure(
    group: Group,
    row: Mapping[str, Any],
    facts: Sequence[str],
    source: str,
    find: FindArtifact,
) -> PublishedFigure | None:
    if math.isnan(row["energy_per_output_token_j"]):
        return None
    runs: pd.DataFrame = row["_runs"]
    card = group.facts.get("GPU", "cpu")
    several = _SEVERAL.fullmatch(card)
    tasks = _known(row["tasks"])
    samples = float(_first(runs, "params.generation.n_samples") or 1)
    answers = None if tasks is None else tasks * samples
    method = _METHODS.get(row["energy_source"], str(row["energy_source"]))
    ended = datetime.fromtimestamp(int(runs["ended_ms"].max()) / 1000, tz=UTC)
    return PublishedFigure(
        model=_first(runs, "params.model.id") or str(row["model"]),
        card=card if several is None else several["card"],
        cards=1 if several is None else int(several["cards"]),
        engine=str(row["engine"]),
        quantization=str(row["quant"]),
        batch=int(row["batch"]),
        energy_per_output_token_j=float(row["energy_per_output_token_j"]),
        method=f"{method}, scope {row['energy_scope']}, generation with its prefill",
        source=source,
        suite=str(row["suite"] or ""),
        tasks=None if tasks is None else round(tasks),
        prompt_tokens=_per_answer(runs, "metrics.prompt_tokens", answers),
        output_tokens=_per_answer(runs, "metrics.output_tokens", answers),
        throughput_tokens_per_s=_known(row["throughput_tokens_per_s"]),
        pass_at_1=_known(row["pass_at_1"]),
        pass_at_1_ci_low=_known(row["pass_at_1_ci_low"]),
        pass_at_1_ci_high=_known(row["pass_at_1_ci_high"]),
        runs=int(row["runs"]),
        dtype=_first(runs, "tags.codejoule.dtype"),
        weights=group.facts.get("weights", ""),
        length=group.facts.get("length", ""),
        settings=" ".join([*facts, *row["_words"]]),
        validity=_all(runs, "tags.codejoule.validity"),
        version=_version(find, runs),
        date=ended.date().isoformat(),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _per_answer(runs: "pd.DataFrame", column: str, answers: float | None) -> float | None:
    """Mean length over the answers; None where it is not known."""
    if column not in runs or answers is None:
        return None
    mean = float(runs[column].mean()) / answers
    return mean if mean > 0 else None


def _first(runs: "pd.DataFrame", column: str) -> str:
    return next(iter(_texts(runs, column)), "")


def _all(runs: "pd.DataFrame", column: str) -> str:
    return ", ".join(_texts(runs, column))


def _texts(runs: "pd.DataFrame", column: str) -> list[str]:
    """What the runs say, each once."""
    return list(dict.fromkeys(map(str, runs[column].dropna()))) if column in runs else []


def _version(find: FindArtifact, runs: "pd.DataFrame") -> str:
    """Versions of what ran the configuration's first run, as its environment names them; those of
    runs that have none are not known."""
    path = find(str(runs["run_id"].iloc[0]))
    if path is None:
        return ""
    packages = json.loads(path.read_text(encoding="utf-8")).get("packages", {})
    return ", ".join(f"{name} {packages[name]}" for name in _PACKAGES if name in packages)
