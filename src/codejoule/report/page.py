"""The page: everything an analysis says, in one HTML file that needs no other."""

from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis import Analysis, GroupAnalysis, LoadedRuns, front_energy
from codejoule.config.writing import write_whole
from codejoule.domain.metrics import J_PER_KWH
from codejoule.domain.text import number
from codejoule.report.figures import figures_json, kind, short_title
from codejoule.report.measured import predictions_table, provenance, runs_table
from codejoule.report.terminal import KWH_FROM_J, accuracy

MOST_ROWS = 600
"""Rows of a table that the page shows."""


class Card(NamedTuple):
    """One figure that stands out: what it is, its value with a unit, and the configuration."""

    name: str
    value: str
    of: str


def write_report(
    analysis: Analysis,
    loaded: LoadedRuns,
    folder: Path,
) -> Path:
    """Write the page.

    It is ``index.html`` in `folder`, from an `analysis` of `loaded` runs; the same runs and
    options give the same bytes. Raises `UserError` if the store fails while power over time is
    read.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("codejoule.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    text = environment.get_template("report.html").render(
        analysis=analysis,
        views=[_view(i, group) for i, group in enumerate(analysis.groups, start=1)],
        figures=figures_json(analysis, loaded),
        most_rows=MOST_ROWS,
    )
    page = folder / "index.html"
    write_whole(page, text)
    return page


def _view(number: int, group: GroupAnalysis) -> dict[str, Any]:
    """A group as the template shows it; sentences on single pairs apart from the others."""
    pairs = [s for s in group.findings if " against " in s.partition(": ")[0]]
    return {
        "number": number,
        "title": group.group.title,
        "short": short_title(group),
        "kind": kind(group),
        "cards": _cards(group),
        "findings": [s for s in group.findings if s not in pairs],
        "pairs": [*pairs, *(note for note in group.notes if note not in pairs)],
        "recommendation": group.recommendation,
        "tables": [table for table in group.tables.values() if len(table.frame)],
        "predictions": predictions_table(group),
        "provenance": provenance(group),
        "runs": runs_table(group),
    }


def _cards(group: GroupAnalysis) -> list[Card]:
    table, labels = group.evidence.table, group.evidence.labels
    basis = front_energy(table)
    what = "generation and evaluation" if basis == "energy_total_j" else "generation"
    passed, energy_j = table["pass_at_1"].to_numpy(float), table[basis].to_numpy(float)
    solved_j = table["energy_per_solved_task_j"].to_numpy(float)
    rates = table[["pass_at_1", "pass_at_1_ci_low", "pass_at_1_ci_high"]].to_numpy(float)
    best = (
        (f"Least energy ({what})", _best(energy_j, -passed), map(energy_text, energy_j)),
        ("Best pass@1 [95 % interval]", _best(-passed, energy_j), starmap(accuracy, rates)),
        ("Least energy per solved task", _best(solved_j, energy_j), map(energy_text, solved_j)),
    )
    cards = [Card(name, list(texts)[i], labels[i]) for name, i, texts in best if i is not None]
    front = int(table["pareto"].sum())
    if len(table) > 1 and front:
        cards.append(Card("On the Pareto front", f"{front} of {len(table)}", "configurations"))
    return cards


def _best(values: NDArray[np.float64], ties: NDArray[np.float64]) -> int | None:
    """Row of the smallest figure, of equal ones that of the smallest tie; None: none is known."""
    i = int(np.lexsort((ties, np.round(values, 9)))[0])
    return None if np.isnan(values[i]) else i


def energy_text(energy_j: float) -> str:
    """An energy with the unit that suits it."""
    if energy_j >= KWH_FROM_J:
        return f"{number(energy_j / J_PER_KWH)} kWh"
    return f"{number(energy_j)} J"
