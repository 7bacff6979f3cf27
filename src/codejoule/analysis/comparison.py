"""One row per configuration."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from codejoule.analysis.configuration import (
    COMPARABLE,
    SHOWN,
    comparable_groups,
    relevant_params,
    row_keys,
)
from codejoule.domain.metrics import J_PER_KWH
from codejoule.statistics import pareto_front

if TYPE_CHECKING:
    import pandas as pd

FIGURES = (
    "tasks", "pass_at_1", "pass_at_1_ci_low", "pass_at_1_ci_high", "pass_at_1_plus",
    "pass_at_1_plus_ci_low", "pass_at_1_plus_ci_high", "energy_generation_j", "energy_total_j",
    "energy_per_output_token_j", "energy_per_task_j", "energy_per_solved_task_j",
    "pass_at_1_per_kwh", "throughput_tokens_per_s", "latency_s", "output_tokens", "carbon_g",
)  # fmt: skip
"""Columns of the table that are means over the runs of a configuration."""

_MIXED = {column: f"mixed.{name}" for name, column in COMPARABLE.items()}


def comparison_table(runs: "pd.DataFrame", *, mix: Collection[str] = ()) -> "pd.DataFrame":
    """Put comparable runs side by side, one row per configuration.

    Columns ``model``, ``quant``, ``batch``, ``engine``, ``generation``, then one for each further
    setting in which rows differ (by its dotted name, or ``mixed.NAME`` for what `mix` allowed);
    ``suite``, ``split``; ``runs``; the means named in `FIGURES`; ``energy_generation_sd_j``
    (between repeats, NaN for one); ``energy_source``, ``energy_scope``,
    ``energy_source_evaluation``; ``pareto`` (on the front of `front_energy` against pass@1);
    ``run_ids``. A figure that a run lacks is NaN. The interval of repeats is the mean of theirs:
    they answer the same tasks, so pooling them as independent trials would make it too narrow.

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
