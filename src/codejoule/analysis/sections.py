"""The comparison of the runs in a store: in a terminal, as CSV and Markdown, as a figure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.analysis.analysis import Analysis
from codejoule.analysis.comparison import comparison_table, front_energy
from codejoule.analysis.configuration import Group, comparable_groups
from codejoule.analysis.energy_notes import energy_notes
from codejoule.analysis.evidence import Evidence, gather
from codejoule.analysis.frontier import frontier_figure
from codejoule.analysis.paired_tables import accuracy_table
from codejoule.analysis.pairs import baseline_notes
from codejoule.analysis.runs import LoadedRuns
from codejoule.analysis.table import Table
from codejoule.analysis.tasks import read_tasks
from codejoule.analysis.text import WIDTH, legend, render_table, setting_count, table_columns
from codejoule.config.writing import write_whole
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


def render_section(section: Section) -> str:
    """A section for a terminal: its title, its table, what the suite can tell."""
    import textwrap

    notes = [
        line
        for note in section.notes
        for line in textwrap.wrap(note, WIDTH, initial_indent="- ", subsequent_indent="  ")
    ]
    tail = ["", "Against the unquantized model:", *notes] if notes else []
    return "\n".join([section.group.title, "", render_table(section.table), *tail])


def write_comparison(loaded: LoadedRuns, sections: Sequence[Section], folder: Path) -> list[Path]:
    """Write the comparison.

    Parameters
    ----------
    loaded : LoadedRuns
        What `sections` were built from.
    sections : sequence of Section
        From `build_sections`.
    folder : pathlib.Path
        Where to; made where missing.

    Returns
    -------
    list of pathlib.Path
        ``comparison.csv``, ``comparison.md``, ``frontier.svg`` and ``.png`` (numbered where
        there are several groups).
    """
    import pandas as pd

    numbered = [s.table.assign(group=s.group.title) for s in sections]
    csv = folder / "comparison.csv"
    whole = pd.concat(numbered, ignore_index=True)
    whole["run_ids"] = whole["run_ids"].map(" ".join)
    write_whole(csv, whole.to_csv(index=False))
    markdown = folder / "comparison.md"
    write_whole(markdown, _markdown(loaded, sections))
    written = [csv, markdown]
    for stale in folder.glob("frontier*"):
        stale.unlink()
    for number, section in enumerate(sections, start=1):
        stem = "frontier" if len(sections) == 1 else f"frontier_{number}"
        for ending in ("svg", "png") if section.has_figure else ():
            frontier_figure(section.table, folder / f"{stem}.{ending}")
            written.append(folder / f"{stem}.{ending}")
    return written


def _intro(loaded: LoadedRuns, sections: Sequence[Section]) -> list[str]:
    count = len(loaded.frame)
    lines = [
        f"{count} finished {'run' if count == 1 else 'runs'} of experiment "
        f"{loaded.experiment} in {loaded.uri}."
    ]
    if loaded.left_out:
        lines.append(f"Left out: {'; '.join(loaded.left_out)}.")
    if len(sections) > 1:
        lines.append(
            f"They are of {len(sections)} kinds that cannot be compared with one another "
            "(other tasks, machines, weights, or sources of energy): one table each."
        )
    return lines


def _markdown(loaded: LoadedRuns, sections: Sequence[Section]) -> str:
    parts = ["# Energy and accuracy", *_intro(loaded, sections)]
    for section in sections:
        columns = table_columns(section.table)
        left = setting_count(columns)
        rows = zip(*(cells for _, cells in columns), strict=True)
        lines = [
            _pipes(heading for heading, _ in columns),
            _pipes("---" if i < left else "---:" for i in range(len(columns))),
            *(_pipes(cell.replace("|", "\\|") for cell in row) for row in rows),
        ]
        parts += [f"## {section.group.title}", "\n".join(lines)]
        parts += legend(section.table)
        if section.notes:
            parts.append("\n".join(f"- {note}" for note in section.notes))
    return "\n\n".join(parts) + "\n"


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
