"""A sweep as MLflow's page of its parent run shows it: a note in Markdown, and the best figures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from codejoule.analysis import Analysis, GroupAnalysis
from codejoule.report.files import markdown_table
from codejoule.report.terminal import legend
from codejoule.tracking.client import TAG_LENGTH

if TYPE_CHECKING:
    import pandas as pd

_CUT = "\n\nMLflow's note is full here: `codejoule analyze --sweep` shows all."
_LEAST_ENERGY = ("energy_per_solved_task_j", "energy_per_task_j")


class BestFigures(TypedDict):
    """Best figures that the parent run of a sweep records."""

    metrics: dict[str, float]
    """``best_`` and the name of the figure."""
    tags: dict[str, str]
    """``codejoule.best_`` and the same name: the runs that have it; and where the energy is
    from."""


def sweep_note(analysis: Analysis, failures: Sequence[str]) -> str:
    """The answer and the table of each group, what failed and what was left out, in Markdown. The
    answer is first: MLflow folds what follows."""
    parts = [part for group in analysis.groups for part in _group(group)]
    parts += _listed([*analysis.left_out, *failures])
    return _shortened("\n\n".join(parts))


def _group(group: GroupAnalysis) -> list[str]:
    answer, table = group.answer, group.evidence.table
    said = [f"**{answer.sentence}**", *_listed(answer.ladder), markdown_table(table)]
    return [*said, *_listed(answer.doubts), " ".join([f"{group.group.title}.", *legend(table)])]


def _listed(sentences: Sequence[str]) -> list[str]:
    """One paragraph, a point for each; none for none."""
    points = [f"- {' '.join(sentence.split())}" for sentence in sentences]
    return ["\n".join(points)] if points else []


def _shortened(note: str) -> str:
    """`note` in whole lines that MLflow's tag has room for."""
    if len(note) <= TAG_LENGTH:
        return note
    kept, length = [], len(_CUT)
    for line in note.splitlines(keepends=True):
        length += len(line)
        if length > TAG_LENGTH:
            break
        kept.append(line)
    return "".join(kept) + _CUT


def best_figures(analysis: Analysis) -> BestFigures:
    """The least energy per solved task (per task, where no solved ones are known) and the best
    pass@1, each the mean of a configuration's repeats, and the names of the runs that have them.
    Nothing for runs of several groups, which cannot be compared."""
    best = BestFigures(metrics={}, tags={})
    if len(analysis.groups) != 1:
        return best
    (group,) = analysis.groups
    table = group.evidence.table
    for name in _LEAST_ENERGY:
        if table[name].notna().any():
            _add(best, group, name, table[table[name] == table[name].min()])
            break
    if table["pass_at_1"].notna().any():
        # Among equals the one that takes least energy.
        equals = table[table["pass_at_1"] == table["pass_at_1"].max()]
        _add(best, group, "pass_at_1", equals.sort_values("energy_generation_j"))
    best["tags"]["codejoule.energy_source"] = ", ".join(sorted(set(table["energy_source"])))
    return best


def _add(best: BestFigures, group: GroupAnalysis, name: str, rows: "pd.DataFrame") -> None:
    row = rows.iloc[0]
    names = group.group.frame.set_index("run_id")["run_name"]
    best["metrics"][f"best_{name}"] = float(row[name])
    best["tags"][f"codejoule.best_{name}"] = ", ".join(names[run_id] for run_id in row["run_ids"])
