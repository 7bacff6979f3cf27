"""An analysis as files: JSON, tables, Markdown and the frontier."""

import json
from collections.abc import Iterable
from pathlib import Path

from codejoule.analysis import Analysis
from codejoule.config.writing import write_whole
from codejoule.report.frontier import frontier_figure, is_drawable
from codejoule.report.terminal import legend, table_columns


def write_tables(analysis: Analysis, folder: Path) -> list[Path]:
    """Write every table, and all of them as one JSON file.

    ``analysis.json``, and in the folder ``tables`` (``tables/1``, ``tables/2``, ... where there are
    several groups) each table as NAME.csv and NAME.tex.
    """
    whole, root = folder / "analysis.json", folder / "tables"
    write_whole(whole, json.dumps(analysis.as_json(), allow_nan=False))
    for stale in root.glob("**/*.*"):
        if stale.suffix in (".csv", ".tex"):
            stale.unlink()
    for number, group in enumerate(analysis.groups, start=1):
        own = root if len(analysis.groups) == 1 else root / str(number)
        for table in group.tables.values():
            write_whole(own / f"{table.name}.csv", table.frame.to_csv(index=False))
            write_whole(own / f"{table.name}.tex", table.to_latex())
    return [whole, root]


def write_comparison(analysis: Analysis, folder: Path) -> list[Path]:
    """Write what the terminal shows, and the front.

    ``comparison.csv``, ``comparison.md``, ``frontier.svg`` and ``.png`` (numbered where there are
    several groups).
    """
    import pandas as pd

    csv, markdown = folder / "comparison.csv", folder / "comparison.md"
    whole = pd.concat(
        [group.evidence.table.assign(group=group.group.title) for group in analysis.groups],
        ignore_index=True,
    )
    whole["run_ids"] = whole["run_ids"].map(" ".join)
    write_whole(csv, whole.to_csv(index=False))
    write_whole(markdown, _markdown(analysis))
    written = [csv, markdown]
    for stale in folder.glob("frontier*"):
        stale.unlink()
    for number, group in enumerate(analysis.groups, start=1):
        stem = "frontier" if len(analysis.groups) == 1 else f"frontier_{number}"
        for ending in ("svg", "png") if is_drawable(group.evidence.table) else ():
            frontier_figure(group.evidence.table, folder / f"{stem}.{ending}")
            written.append(folder / f"{stem}.{ending}")
    return written


def _markdown(analysis: Analysis) -> str:
    count = analysis.runs
    parts = [
        "# Energy and accuracy",
        f"{count} finished {'run' if count == 1 else 'runs'} of experiment "
        f"{analysis.experiment} in {analysis.uri}.",
    ]
    if analysis.left_out:
        parts.append(f"Left out: {'; '.join(analysis.left_out)}.")
    if len(analysis.groups) > 1:
        parts.append(
            f"They are of {len(analysis.groups)} kinds that cannot be compared with one another "
            "(other tasks, machines, weights, or sources of energy): one table each."
        )
    for group in analysis.groups:
        settings, figures = table_columns(group.evidence.table)
        columns = [*settings, *figures]
        rows = zip(*(cells for _, cells in columns), strict=True)
        lines = [
            _pipes(title for title, _ in columns),
            _pipes(["---"] * len(settings) + ["---:"] * len(figures)),
            *(_pipes(cell.replace("|", "\\|") for cell in row) for row in rows),
        ]
        parts += [f"## {group.group.title}", "\n".join(lines), *legend(group.evidence.table)]
        if group.notes:
            parts.append("\n".join(f"- {note}" for note in group.notes))
    return "\n\n".join(parts) + "\n"


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
