"""What each quantized row of a table saves, or costs, in energy beside its baseline."""

import math
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from codejoule.analysis.comparison import setting_columns
from codejoule.analysis.families import short_names
from codejoule.analysis.pairs import baselines
from codejoule.domain import break_even_tasks
from codejoule.domain.text import number

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[Hashable, object]

REDUCED = "tags.codejoule.batch_reduced_to"


def energy_notes(runs: "pd.DataFrame", table: "pd.DataFrame") -> list[str]:
    """Say what quantization saves or costs, and when what it took is paid back.

    Parameters
    ----------
    runs : pandas.DataFrame
        The runs that `table` was made of.
    table : pandas.DataFrame
        From `comparison_table`.

    Returns
    -------
    list of str
        One sentence per quantized row that has a baseline (the row with ``quant=none`` and all
        other settings equal), then one per row whose batch was reduced for want of memory.

    Notes
    -----
    Gross energy of generation per task is compared, on these tasks at this batch size. The energy
    of quantizing is that of the run that did it; it is known only where that was here.
    """
    settings = setting_columns(table)
    names = short_names(table, settings)
    rows = table.to_dict("records")
    notes = []
    for i, base in baselines(table, settings).items():
        if base is not None:
            notes += _saving(names[i], rows[i], rows[base], _quantizing_j(runs, rows[i]))
    reduced = [_reduced(name, runs, row) for name, row in zip(names, rows, strict=True)]
    return notes + [note for note in reduced if note]


def _saving(name: str, row: Row, base: Row, quantizing_j: float) -> list[str]:
    after_j, before_j = _per_task_j(row), _per_task_j(base)
    if math.isnan(after_j) or not before_j > 0:
        return []
    change = after_j / before_j - 1
    mark = "~" if row["energy_source"] == "estimate" else ""
    how = "more" if change >= 0 else "less"
    sentence = (
        f"{name} takes {mark}{abs(change):.0%} {how} energy per task than none "
        f"({mark}{number(after_j)} against {mark}{number(before_j)} J)"
    )
    if math.isnan(quantizing_j):
        return [sentence]
    tasks = break_even_tasks(cost_j=quantizing_j, before_j=before_j, after_j=after_j)
    paid = "is never paid back" if math.isinf(tasks) else f"is paid back after {tasks:,.0f} tasks"
    return [f"{sentence}; quantizing took {mark}{number(quantizing_j)} J, which {paid}"]


def _per_task_j(row: Row) -> float:
    value = row["energy_per_task_j"]
    assert isinstance(value, float)
    return value


def _of(runs: "pd.DataFrame", row: Row) -> "pd.DataFrame":
    ids = row["run_ids"]
    assert isinstance(ids, tuple)
    return runs[runs["run_id"].isin(ids)]


def _quantizing_j(runs: "pd.DataFrame", row: Row) -> float:
    column = "metrics.energy_quantize_j"
    if column not in runs:
        return math.nan
    known = _of(runs, row)[column].dropna()
    return float(np.mean(known)) if len(known) else math.nan


def _reduced(name: str, runs: "pd.DataFrame", row: Row) -> str | None:
    if REDUCED not in runs:
        return None
    sizes = sorted({int(size) for size in _of(runs, row)[REDUCED].dropna()})
    if not sizes:
        return None
    return (
        f"{name} ran out of memory and went on with batches of "
        f"{' or '.join(map(str, sizes))}: its figures are not those of its batch size"
    )
