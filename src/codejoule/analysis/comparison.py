"""Finds which runs are of one configuration and which can be compared; one row per
configuration."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codejoule.config.relevance import is_setting
from codejoule.domain.metrics import J_PER_KWH
from codejoule.statistics import pareto_front

if TYPE_CHECKING:
    import pandas as pd

SHOWN = {
    "model": "params.model.name",
    "quant": "params.quant.name",
    "batch": "params.batch.size",
    "engine": "params.engine.name",
    "generation": "params.generation.name",
}
"""Columns of every table that say which configuration a row is."""

COMPARABLE = {
    "suite": "params.suite.name",
    "split": "params.suite.split",
    "tasks": "dataset_digest",
    "energy source": "tags.codejoule.energy_source",
    "energy scope": "tags.codejoule.energy_scope",
    "evaluation energy source": "tags.codejoule.energy_source_evaluation",
    "weights": "tags.codejoule.weights",
    "length": "tags.codejoule.length",
    "GPU": "tags.codejoule.gpu",
    "machine": "tags.codejoule.host",
    "concurrent jobs": "tags.codejoule.concurrent",
    "published": "tags.codejoule.published",
    "source": "tags.codejoule.source",
}
"""What must be equal before two figures can be compared. ``published`` is ``true`` for figures
from the literature and absent for runs of one's own, as is ``source``, which says where they are
printed; ``concurrent jobs`` is absent where no other
job of codejoule worked on the machine meanwhile."""

DEVICES = "tags.codejoule.energy_devices"
"""Column of the devices whose counters gave the energy; runs of earlier versions lack it."""

IDENTITY = (
    *SHOWN.values(), *COMPARABLE.values(), "params.repeat", "tags.codejoule.fingerprint",
)  # fmt: skip
"""Columns that a frame of runs always has."""
FIGURES = (
    "tasks", "pass_at_1", "pass_at_1_ci_low", "pass_at_1_ci_high", "pass_at_1_plus",
    "pass_at_1_plus_ci_low", "pass_at_1_plus_ci_high", "energy_generation_j", "energy_total_j",
    "energy_per_output_token_j", "energy_per_task_j", "energy_per_solved_task_j",
    "pass_at_1_per_kwh", "throughput_tokens_per_s", "latency_s", "output_tokens", "carbon_g",
    "predicted_energy_per_output_token_j",
)  # fmt: skip
"""Columns of the table that are means over the runs of a configuration."""

_MIXED = {column: f"mixed.{name}" for name, column in COMPARABLE.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs whose figures can be compared."""

    facts: dict[str, str]
    """What they have in common, by the names of `COMPARABLE`; what no run says is absent, and
    what was mixed on purpose is listed."""
    frame: "pd.DataFrame"
    """The runs."""
    mixed: tuple[str, ...] = ()
    """Names of `COMPARABLE` in which they differ, because that was asked for."""

    @property
    def estimate(self) -> bool:
        """Whether the energy of generation is an estimate, not a measurement."""
        return "estimate" in self.facts.get("energy source", "")

    @property
    def published(self) -> bool:
        """Whether some figures come from the literature."""
        return "published" in self.facts

    @property
    def random(self) -> bool:
        """Whether all weights are random, so that pass@1 means nothing."""
        return self.facts.get("weights") == "random"

    @property
    def _split(self) -> list[str]:
        split = self.facts.get("split")
        return [split or "unknown split"] if split or not self.published else []

    @property
    def _tasks(self) -> str:
        if "metrics.tasks" not in self.frame:
            return "unknown"
        counts = sorted(set(self.frame["metrics.tasks"].dropna()))
        return ", ".join(f"{count:.0f}" for count in counts) or "unknown"

    @property
    def title(self) -> str:
        """One line that names the group."""
        suite = self.facts.get("suite", "unknown suite")
        scope = self.facts.get("energy scope", "unknown scope")
        source = self.facts.get("energy source", "unknown source")
        where = self.facts.get("GPU") or self.facts.get("machine", "unknown machine")
        # A publication may say neither.
        told = self._tasks != "unknown" or not self.published
        of = [*self._split, *([f"{self._tasks} tasks"] if told else [])]
        parts = [
            f"suite {suite}" + (f" ({', '.join(of)})" if of else ""),
            f"energy: {source} ({scope})",
            f"on {where}",
        ]
        if "concurrent jobs" in self.facts:
            parts.append(f"beside other jobs of codejoule ({self.facts['concurrent jobs']})")
        if self.published:
            source = self.facts.get("source", "")
            parts.append(f"published figures{f' of {source}' if source else ''}")
        if self.random:
            parts.append("random weights: pass@1 means nothing")
        if self.mixed:
            parts.append(f"mixed on purpose: {', '.join(self.mixed)}")
        return ", ".join(parts)


def comparable_groups(frame: "pd.DataFrame", *, mix: Collection[str] = ()) -> list[Group]:
    """Divide runs into groups whose figures can be compared, in the order of their first runs.

    Runs of one group may differ in the names of `COMPARABLE` that `mix` has; another name raises
    ValueError.
    """
    unknown = sorted(set(mix) - set(COMPARABLE))
    if unknown:
        raise ValueError(f"cannot mix {', '.join(unknown)}: choose among {', '.join(COMPARABLE)}")
    if frame.empty:
        return []
    keys = frame[list(COMPARABLE.values())].astype(object).fillna("")
    # Where the host's CPU is outside the scope, the GPU's name says what was measured.
    on_gpus = keys[COMPARABLE["energy scope"]] == "gpu"
    keys.loc[on_gpus, COMPARABLE["machine"]] = ""
    # Jobs do not share a GPU. It matters whether there were other jobs, hardly how many.
    concurrent = keys[COMPARABLE["concurrent jobs"]] != ""
    keys.loc[on_gpus & concurrent, COMPARABLE["concurrent jobs"]] = "some"
    apart = [column for name, column in COMPARABLE.items() if name not in mix]
    groups = []
    for _, rows in frame.groupby(row_keys(keys, apart), sort=False):
        own = keys.loc[rows.index]
        texts = {
            name: ", ".join(filter(None, map(str, own[column].unique())))
            for name, column in COMPARABLE.items()
        }
        facts = {name: text for name, text in texts.items() if text}
        # A fact that some have and others lack is a difference, too.
        mixed = tuple(name for name in mix if own[COMPARABLE[name]].nunique() > 1)
        groups.append(Group(facts=facts, frame=rows.reset_index(drop=True), mixed=mixed))
    return groups


def differing(groups: Sequence[Group]) -> str:
    """In which facts, and how, several groups differ."""
    names = dict.fromkeys(name for group in groups for name in group.facts)
    values = {name: {group.facts.get(name, "none") for group in groups} for name in names}
    return "; ".join(
        f"{name} ({', '.join(sorted(found))})" for name, found in values.items() if len(found) > 1
    )


def relevant_params(frame: "pd.DataFrame") -> list[str]:
    """Columns of `frame` that hold what can change a result, repeats not among them."""
    return [
        column
        for column in frame.columns
        if column.startswith("params.")
        and column != "params.repeat"
        and is_setting(column.removeprefix("params."))
    ]


def row_keys(frame: "pd.DataFrame", columns: Sequence[str]) -> "pd.Series[str]":
    """One text per row that is equal exactly where all `columns` are."""
    import pandas as pd

    rows = frame[list(columns)].astype(object).where(frame[list(columns)].notna(), None)
    keys = [json.dumps(list(row), default=str) for row in rows.itertuples(index=False, name=None)]
    return pd.Series(keys, index=frame.index, dtype=object)


def superseded(frame: "pd.DataFrame") -> "pd.Series[bool]":
    """Runs that were run again later, although something outside the configuration changed.

    The same configuration and repeat with another fingerprint means other weights, tasks or
    library versions: averaging the two as repeats would hide that.
    """
    import pandas as pd

    late = pd.Series(False, index=frame.index)
    if frame.empty:
        return late
    columns = [*relevant_params(frame), *COMPARABLE.values(), "params.repeat"]
    for _, rows in frame.groupby(row_keys(frame, columns), sort=False):
        prints = rows["tags.codejoule.fingerprint"]
        newest = prints.iloc[int(rows["started_ms"].to_numpy(dtype="int64").argmax())]
        late.loc[rows.index] = prints != newest
    return late


def comparison_table(runs: "pd.DataFrame", *, mix: Collection[str] = ()) -> "pd.DataFrame":
    """Put comparable runs side by side, one row per configuration.

    Columns ``model``, ``quant``, ``batch``, ``engine``, ``generation``, then one for each further
    setting in which rows differ (by its dotted name, or ``mixed.NAME`` for what `mix` allowed);
    ``suite``, ``split``; ``runs``; the means named in `FIGURES`; ``energy_generation_sd_j``
    (between repeats, NaN for one); ``energy_source``, ``energy_scope``, ``energy_devices`` (of
    a measurement), ``energy_source_evaluation``; ``pareto`` (on the front of `front_energy` against
    pass@1); ``run_ids``. A figure that a run lacks is NaN. The interval of repeats is the mean of
    theirs: they answer the same tasks, so pooling them as independent trials would make it too
    narrow.

    Raises ValueError if there are no runs, or runs that cannot be compared.
    """
    import pandas as pd

    groups = comparable_groups(runs, mix=mix)
    if len(groups) != 1:
        raise ValueError(_why_not(runs) if groups else "no runs to compare")
    frame = runs.reset_index(drop=True)
    params = [*relevant_params(frame), *(COMPARABLE[name] for name in groups[0].mixed)]
    key = row_keys(frame, [*SHOWN.values(), *params])
    extra = [column for column in params if _needs_column(frame, column)]
    rows = [_row(same, extra) for _, same in frame.groupby(key, sort=False)]
    table = _sorted(pd.DataFrame(rows))
    for name in set(setting_columns(table)) - set(SHOWN):
        # pandas makes NaN of an absent one among texts.
        table[name] = table[name].astype(object).where(table[name].notna(), None)
    table["pareto"] = pareto_front(table[front_energy(table)], table["pass_at_1"])
    return table


def setting_columns(table: "pd.DataFrame") -> list[str]:
    """Columns of a comparison that say which configuration a row is."""
    return [str(c) for c in table.columns[: list(table.columns).index("suite")]]


def front_energy(table: "pd.DataFrame") -> str:
    """Column of the front's energy: the total where every row has it, else that of generation."""
    return "energy_generation_j" if table["energy_total_j"].isna().any() else "energy_total_j"


def _why_not(runs: "pd.DataFrame") -> str:
    differing = [
        f"{name} ({', '.join(sorted(runs[column].dropna().astype(str).unique()))})"
        for name, column in COMPARABLE.items()
        if runs[column].nunique(dropna=False) > 1
    ]
    return (
        f"these runs cannot stand in one table, they differ in {'; '.join(differing)}: "
        "divide them with comparable_groups"
    )


def _needs_column(frame: "pd.DataFrame", column: str) -> bool:
    """Whether runs differ in a setting that does not come with a choice that is shown.

    What ``quant=gptq4`` says of bits needs no column, a dtype that was set for one model does,
    also where another column happens to differ at the same time.
    """
    if column in SHOWN.values() or frame[column].nunique(dropna=False) < 2:
        return False
    choice = SHOWN.get(column.removeprefix("params.").partition(".")[0])
    if choice is None:
        return True
    return bool(frame.groupby(choice, dropna=False)[column].nunique(dropna=False).max() > 1)


def _row(same: "pd.DataFrame", extra: list[str]) -> dict[str, object]:
    first = same.iloc[0]
    total_j = _metric(same, "energy_total_kwh") * J_PER_KWH
    means = {
        name: float(np.mean(total_j if name == "energy_total_j" else _metric(same, name)))
        for name in FIGURES
    }
    energies_j = _metric(same, "energy_generation_j")
    batch = first[SHOWN["batch"]]
    return {
        **{name: first[column] for name, column in SHOWN.items()},
        "batch": None if batch is None else int(batch),
        **{_MIXED.get(c, c.removeprefix("params.")): first[c] for c in extra},
        "suite": first[COMPARABLE["suite"]],
        "split": first[COMPARABLE["split"]],
        "runs": len(same),
        **means,
        "energy_generation_sd_j": float(np.std(energies_j, ddof=1)) if len(same) > 1 else np.nan,
        "energy_source": first[COMPARABLE["energy source"]],
        "energy_scope": first[COMPARABLE["energy scope"]],
        "energy_devices": first.get(DEVICES),
        "energy_source_evaluation": first[COMPARABLE["evaluation energy source"]],
        "run_ids": tuple(same["run_id"]),
    }


def _metric(runs: "pd.DataFrame", name: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    column = f"metrics.{name}"
    known = column in runs.columns
    return runs[column].to_numpy(dtype=float) if known else np.full(len(runs), np.nan)


def _sorted(table: "pd.DataFrame") -> "pd.DataFrame":
    """Models in the order they were run, the unquantized first, then by batch size."""
    models, quants = list(table["model"].unique()), list(table["quant"].unique())

    def place(i: int) -> tuple[int, str, int, int]:
        row = table.loc[i]
        quant = -1 if row["quant"] == "none" else quants.index(row["quant"])
        return models.index(row["model"]), str(row["engine"]), quant, row["batch"] or 0

    return table.loc[sorted(table.index, key=place)].reset_index(drop=True)
