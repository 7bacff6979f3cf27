"""What a group of runs answers in one sentence, what more pass@1 costs, and what is doubtful."""

import math
from typing import Any, NamedTuple

from codejoule.analysis import GroupAnalysis
from codejoule.domain.text import number


class Headline(NamedTuple):
    """What the page opens and ends with."""

    sentence: str
    ladder: tuple[str, ...]
    """A sentence for each better pass@1 that more energy buys."""
    doubts: tuple[str, ...]
    configuration: str | None
    """Label of the configuration that the sentence names."""


def headline(group: GroupAnalysis) -> Headline:
    """The recommendation where a goal was given, else the least energy per correct program."""
    advice = group.recommendation
    doubts = _doubts(group)
    if advice is not None:
        sentence = "No configuration is shown to reach the goal."
        if advice.configuration is not None:
            sentence = f"Take {advice.configuration}."
        said = f"{sentence[:-1]} ({advice.goal})."
        return Headline(said, advice.margin, (*advice.unsure, *doubts), advice.configuration)
    table = group.evidence.table.assign(label=list(group.evidence.labels))
    judged = bool(table["energy_per_solved_task_j"].notna().any())
    figure = "energy_per_solved_task_j" if judged else "energy_per_output_token_j"
    rows = table[table[figure].notna()].sort_values([figure, "label"]).to_dict("records")
    if not rows:
        return Headline("No configuration has a figure of energy.", (), doubts, None)
    sign = "~" if group.group.estimate else ""
    what = "correct program" if judged else "output token"
    first = rows[0]
    said = f"{first['label']} takes least energy: {sign}{number(first[figure])} J per {what}"
    if judged:
        said += f", pass@1 {_interval(first)}"
    return Headline(f"{said}.", tuple(_ladder(rows, figure, sign)), doubts, str(first["label"]))


def _ladder(rows: list[dict[Any, Any]], figure: str, sign: str) -> list[str]:
    """The front of energy per correct program against pass@1, without its first."""
    steps, best = [], rows[0]["pass_at_1"]
    for row in rows[1:]:
        if row["pass_at_1"] > best + 1e-9:
            best = row["pass_at_1"]
            steps.append(
                f"For {best - rows[0]['pass_at_1']:+.3f} pass@1 pay {sign}"
                f"{row[figure] / rows[0][figure]:.2g} times as much per correct program: "
                f"{row['label']}, {sign}{number(row[figure])} J, pass@1 {_interval(row)}."
            )
    return steps


def _interval(row: dict[Any, Any]) -> str:
    low, high = row["pass_at_1_ci_low"], row["pass_at_1_ci_high"]
    ends = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return f"{row['pass_at_1']:.3f}{ends}"


def _doubts(group: GroupAnalysis) -> tuple[str, ...]:
    said = []
    if group.group.estimate:
        said.append("Energy is an estimate, not a measurement.")
    if (group.evidence.table["runs"] == 1).any():
        said.append(
            "Some configurations have one run: how much their energy varies between runs is not "
            "known (repeat=1,2,3 tells)."
        )
    return tuple(said)
