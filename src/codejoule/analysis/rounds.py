"""What each repair round has cost and gained."""

import math

from codejoule.analysis.evidence import Evidence
from codejoule.analysis.table import Table

_SAMPLES = "metrics.samples_round_"
_FIGURES = {
    "programs": "samples_round_{}",
    "pass_at_1": "pass_at_1_round_{}",
    "energy_generation_j": "energy_generation_round_{}_j",
    "energy_evaluation_j": "energy_evaluation_round_{}_j",
    "energy_per_solved_task_j": "energy_per_solved_task_round_{}_j",
}
"""Columns, and the metrics that they are the means of."""


def rounds_table(evidence: Evidence) -> Table:
    """A row for each round of each configuration that has several; none in a store without."""
    numbers = sorted(
        int(name.removeprefix(_SAMPLES))
        for name in map(str, evidence.runs)
        if name.startswith(_SAMPLES)
    )
    rows = []
    for number in numbers:
        figures = {
            name: [float(own.mean()) for own in evidence.of_runs(metric.format(number))]
            for name, metric in _FIGURES.items()
        }
        for place, label in enumerate(evidence.labels):
            if not math.isnan(figures["programs"][place]):
                own = {name: values[place] for name, values in figures.items()}
                rows.append({"configuration": label, "round": number} | own)
    order = {label: place for place, label in enumerate(evidence.labels)}
    rows.sort(key=lambda row: (order[str(row["configuration"])], row["round"]))
    return Table.of(
        rows,
        ("configuration", "round", *_FIGURES),
        name="rounds",
        title="What each repair round costs and gains",
        notes=(
            "Means over runs. programs: written in the round. pass_at_1 and "
            "energy_per_solved_task_j: after the round, of a run that ends with it. The other "
            "energies are those of the round alone; evaluation is by the shown tests.",
        ),
        labels={"pass_at_1": "pass@1", "energy_per_solved_task_j": "J/solved"},
    )
