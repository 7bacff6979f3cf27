"""The comparison of runs in a terminal, as CSV and Markdown, as a figure."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from codejoule.analysis import LoadedRuns, Section
from codejoule.config.writing import write_whole
from codejoule.report.frontier import frontier_figure
from codejoule.report.terminal import WIDTH, legend, render_table, setting_count, table_columns


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
