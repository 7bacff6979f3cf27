"""The page: everything an analysis says, in one HTML file that needs no other."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codejoule.analysis.comparison import front_energy
from codejoule.config.writing import write_whole
from codejoule.domain.metrics import J_PER_KWH
from codejoule.domain.text import number
from codejoule.report.figures import figures_json, kind, short_title
from codejoule.report.measured import predictions_table, provenance, runs_table
from codejoule.report.terminal import KWH_FROM_J, accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from codejoule.analysis.analysis import Analysis, GroupAnalysis
    from codejoule.analysis.recommend import Recommendation
    from codejoule.analysis.runs import LoadedRuns
    from codejoule.analysis.table import Table

MOST_ROWS = 600
"""Rows of a table that the page shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One figure that stands out."""

    name: str
    """What it is."""
    value: str
    """With its unit."""
    of: str
    """The configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A group as the page shows it."""

    number: int
    """Its place, from 1."""
    title: str
    """Its facts in one line."""
    short: str
    """Its name in the figures."""
    kind: str
    """``measured``, ``estimate`` or ``published``."""
    cards: tuple[Card, ...]
    """Figures that stand out."""
    findings: tuple[str, ...]
    """Sentences about the whole."""
    pairs: tuple[str, ...]
    """Sentences about single pairs."""
    recommendation: "Recommendation | None"
    """Where a goal was given."""
    tables: "tuple[Table, ...]"
    """All with rows, in the order of docs/analysis.md."""
    predictions: "Table | None"
    """Predicted beside measured."""
    provenance: tuple[tuple[str, str], ...]
    """How figures were measured."""
    runs: "Table"
    """Every run."""


def write_report(
    analysis: "Analysis",
    loaded: "LoadedRuns",
    folder: Path,
) -> Path:
    """Write the page.

    Parameters
    ----------
    analysis : Analysis
        From `analyse`.
    loaded : LoadedRuns
        What it was made from.
    folder : pathlib.Path
        Where to; made where missing.

    Returns
    -------
    pathlib.Path
        ``index.html``. The same runs and options give the same bytes.

    Raises
    ------
    UserError
        If the store fails while power over time is read.
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
    figures = figures_json(analysis, loaded)
    text = environment.get_template("report.html").render(
        analysis=analysis,
        views=[_view(i, group) for i, group in enumerate(analysis.groups, start=1)],
        figures=figures,
        most_rows=MOST_ROWS,
    )
    page = folder / "index.html"
    write_whole(page, text)
    return page


def _view(place: int, group: "GroupAnalysis") -> View:
    pairs = tuple(s for s in group.findings if " against " in s.partition(": ")[0])
    return View(
        number=place,
        title=group.group.title,
        short=short_title(group),
        kind=kind(group),
        cards=tuple(_cards(group)),
        findings=tuple(s for s in group.findings if s not in pairs),
        pairs=(*pairs, *(note for note in group.notes if note not in pairs)),
        recommendation=group.recommendation,
        tables=tuple(table for table in group.tables.values() if len(table.frame)),
        predictions=predictions_table(group),
        provenance=tuple(provenance(group)),
        runs=runs_table(group),
    )


def _cards(group: "GroupAnalysis") -> list[Card]:
    table, labels = group.evidence.table, group.evidence.labels
    basis = front_energy(table)
    what = "generation and evaluation" if basis == "energy_total_j" else "generation"
    cards = []
    passed, energy_j = table["pass_at_1"].to_numpy(float), table[basis].to_numpy(float)
    i = _best(energy_j, -passed)
    if i is not None:
        value = energy_text(float(table[basis].iloc[i]))
        cards.append(Card(name=f"Least energy ({what})", value=value, of=labels[i]))
    i = _best(-passed, energy_j)
    if i is not None:
        row = table.iloc[i]
        value = accuracy(row["pass_at_1"], row["pass_at_1_ci_low"], row["pass_at_1_ci_high"])
        cards.append(Card(name="Best pass@1 [95 % interval]", value=value, of=labels[i]))
    i = _best(table["energy_per_solved_task_j"].to_numpy(float), energy_j)
    if i is not None:
        value = energy_text(float(table["energy_per_solved_task_j"].iloc[i]))
        cards.append(Card(name="Least energy per solved task", value=value, of=labels[i]))
    if len(table) > 1 and table["pareto"].any():
        count = int(table["pareto"].sum())
        value = f"{count} of {len(table)}"
        cards.append(Card(name="On the Pareto front", value=value, of="configurations"))
    return cards


def _best(values: "NDArray[np.float64]", ties: "NDArray[np.float64]") -> int | None:
    """Row of the smallest figure, of equal ones that of the smallest tie; None: none is known."""
    i = int(np.lexsort((ties, np.round(values, 9)))[0])
    return None if np.isnan(values[i]) else i


def energy_text(energy_j: float) -> str:
    """An energy with the unit that suits it."""
    if energy_j >= KWH_FROM_J:
        return f"{number(energy_j / J_PER_KWH)} kWh"
    return f"{number(energy_j)} J"
