"""One row per configuration and task."""

from typing import TYPE_CHECKING

import numpy as np

from codejoule.analysis.table import Table

if TYPE_CHECKING:
    from codejoule.analysis.evidence import Evidence


def task_table(evidence: "Evidence") -> Table:
    """Figures of every task under every configuration, means over its runs.

    Parameters
    ----------
    evidence : Evidence
        Configurations of one group.

    Returns
    -------
    Table
        ``tasks``: ``configuration``, ``task_id``, ``domains`` (joined by commas), ``order`` (in
        the first run), ``energy_j``, ``output_tokens``, ``latency_s``, ``passed`` (share).
        Configurations without figures of tasks have no rows.
    """
    import pandas as pd

    figures = evidence.figures
    names = np.array(figures.task_ids, dtype=object)
    domains = np.array(
        [
            ", ".join(name for name, member in figures.domains.items() if member[i])
            for i in range(len(names))
        ],
        dtype=object,
    )
    frames = []
    for label, rows in zip(evidence.labels, evidence.rows, strict=True):
        if rows.size == 0:
            continue
        there = (figures.window[rows] >= 0).all(axis=0)
        frames.append(
            pd.DataFrame(
                {
                    "configuration": label,
                    "task_id": names[there],
                    "domains": domains[there],
                    "order": figures.order[rows[0]][there],
                    "energy_j": figures.energy_j[rows][:, there].mean(axis=0),
                    "output_tokens": figures.output_tokens[rows][:, there].mean(axis=0),
                    "latency_s": figures.latency_s[rows][:, there].mean(axis=0),
                    "passed": figures.passed[rows][:, there].mean(axis=0),
                }
            )
        )
    columns = [
        "configuration", "task_id", "domains", "order", "energy_j", "output_tokens", "latency_s",
        "passed",
    ]  # fmt: skip
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    return Table(name="tasks", title="Every task under every configuration", frame=frame)
