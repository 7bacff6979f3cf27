"""The comparison of the runs in a store: in a terminal, as CSV and Markdown, as a figure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codejoule.analysis.analysis import Analysis
from codejoule.analysis.comparison import comparison_table, front_energy
from codejoule.analysis.configuration import Group, comparable_groups
from codejoule.analysis.energy_notes import energy_notes
from codejoule.analysis.evidence import Evidence, gather
from codejoule.analysis.paired_tables import accuracy_table
from codejoule.analysis.pairs import baseline_notes
from codejoule.analysis.runs import LoadedRuns
from codejoule.analysis.table import Table
from codejoule.analysis.tasks import read_tasks
from codejoule.statistics import MARGIN

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One group of comparable runs, analysed."""

    group: Group
    """The runs."""
    table: "pd.DataFrame"
    """One row per configuration (`comparison_table`)."""
    notes: tuple[str, ...]
    """What quantization saves or costs in energy, and what the suite can tell of it."""

    @property
    def has_figure(self) -> bool:
        """Whether some configuration has both energy and pass@1."""
        known = self.table[front_energy(self.table)].notna() & self.table["pass_at_1"].notna()
        return bool(known.any())


def build_sections(
    loaded: LoadedRuns, *, mix: Collection[str] = (), analysis: Analysis | None = None
) -> list[Section]:
    """Compare runs, each group of comparable ones by itself.

    Parameters
    ----------
    loaded : LoadedRuns
        From `load_runs`.
    mix : collection of str
        Facts in which runs of one section may differ, by the names of `COMPARABLE`.
    analysis : Analysis, optional
        Of these runs, where it is known already: its figures are taken, not computed again.

    Returns
    -------
    list of Section
        One per `comparable_groups` group; none without runs.

    Raises
    ------
    UserError
        If the store fails.
    """
    if analysis is not None:
        return [
            _section(g.group, g.evidence, g.tables.get("accuracy_pairs"), uri=loaded.uri)
            for g in analysis.groups
        ]
    figures, _ = read_tasks(loaded.frame, uri=loaded.uri)
    sections = []
    for group in comparable_groups(loaded.frame, mix=mix):
        evidence = gather(group.frame, comparison_table(group.frame, mix=mix), figures)
        pairs = accuracy_table(evidence, margin=MARGIN)
        sections.append(_section(group, evidence, pairs, uri=loaded.uri))
    return sections


def _section(group: Group, evidence: Evidence, pairs: Table | None, *, uri: str) -> Section:
    notes = energy_notes(group.frame, evidence.table)
    if pairs is not None and not group.random:
        notes += baseline_notes(group.frame, evidence, pairs, uri=uri)
    return Section(group=group, table=evidence.table, notes=tuple(notes))
