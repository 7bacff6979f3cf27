"""Energy per task in each domain."""

from collections.abc import Iterator

import numpy as np

from codejoule.statistics.statistic import Method, Row, RunTasks, Statistic


def _by_domain(run: RunTasks, _: Method) -> Iterator[Row]:
    for domain, member in run.domains.items():
        own_j = run.energy_j[member]
        if not own_j.size:
            continue
        least, low, middle, high, most = np.percentile(own_j, [0, 25, 50, 75, 100])
        yield {
            "domain": domain,
            "tasks": own_j.size,
            "share_percent": 100 * own_j.size / run.energy_j.size,
            "energy_mean_j": own_j.mean(),
            "energy_sd_j": own_j.std(ddof=1) if own_j.size > 1 else np.nan,
            "energy_min_j": least,
            "energy_q1_j": low,
            "energy_median_j": middle,
            "energy_q3_j": high,
            "energy_max_j": most,
        }


ENERGY_BY_DOMAIN = Statistic(
    name="energy_by_domain",
    title="Energy per task by domain",
    unit="configuration",
    rows=_by_domain,
    columns=(
        "configuration", "domain", "tasks", "share_percent", "energy_mean_j", "energy_sd_j",
        "energy_min_j", "energy_q1_j", "energy_median_j", "energy_q3_j", "energy_max_j",
    ),
    thesis="table 5.1, figures 4.6-4.9",
    notes=(
        "A task may belong to several domains. Energy of a task is its allocated share of "
        "its batch; mean over runs.",
    ),
)  # fmt: skip
