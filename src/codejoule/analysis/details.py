"""Figures too many for a table of an analysis: of every task, and of power over time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from codejoule.analysis.evidence import Evidence
from codejoule.analysis.store import artifacts

if TYPE_CHECKING:
    import pandas as pd


def task_table(evidence: Evidence) -> "pd.DataFrame":
    """Figures of every task under every configuration, means over its runs.

    Columns ``configuration``, ``task_id``, ``domains`` (joined by commas), ``order`` (in the
    first run), ``energy_j``, ``output_tokens``, ``latency_s``, ``passed`` (share). Configurations
    without figures of tasks have no rows.
    """
    import pandas as pd

    figures = evidence.figures
    domains = [
        ", ".join(name for name, member in figures.domains.items() if member[i])
        for i in range(len(figures.task_ids))
    ]
    tasks = pd.DataFrame({"task_id": figures.task_ids, "domains": domains}, dtype=object)
    columns = [
        "configuration", "task_id", "domains", "order", "energy_j", "output_tokens", "latency_s",
        "passed",
    ]  # fmt: skip
    frames = [pd.DataFrame(columns=columns)]
    for label, rows in zip(evidence.labels, evidence.rows, strict=True):
        if rows.size == 0:
            continue
        means = {
            name: getattr(figures, name)[rows].mean(axis=0)
            for name in ("energy_j", "output_tokens", "latency_s", "passed")
        }
        own = tasks.assign(configuration=label, order=figures.order[rows[0]], **means)
        frames.append(own.iloc[np.flatnonzero((figures.window[rows] >= 0).all(axis=0))])
    return pd.concat(frames[1:] or frames, ignore_index=True)[columns]


def power_table(
    runs: "pd.DataFrame", run_ids: Sequence[str], *, uri: str, points: int = 400
) -> "pd.DataFrame":
    """Read ``power.parquet`` of those of `run_ids` that have it.

    Columns ``run_id``, ``device``, ``time_s`` (from the first sample), ``power_w``: at most
    `points` per run and device, each the mean of an equal number of samples. `runs` are from
    `load_runs`, of the store `uri`.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    frames = [pd.DataFrame(columns=["run_id", "device", "time_s", "power_w"])]
    with artifacts(runs, "power.parquet", uri=uri) as find:
        for run_id in run_ids:
            path = find(run_id)
            if path is None:
                continue
            samples = pq.read_table(path).to_pandas()
            for device, own in samples.sort_values("time_s").groupby("device"):
                part = np.arange(len(own)) * points // max(points, len(own))
                means = own[["time_s", "power_w"]].groupby(part).mean()
                means["time_s"] -= samples["time_s"].min()
                frames.append(means.assign(run_id=run_id, device=str(device)))
    return pd.concat(frames[1:] or frames, ignore_index=True)[list(frames[0].columns)]
