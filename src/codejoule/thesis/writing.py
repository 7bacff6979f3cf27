"""The thesis' tables and figures as files."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from codejoule.config import write_whole
from codejoule.thesis.estimator import figure_checks, thesis_figures, thesis_tables


def write_csv(path: Path, records: Sequence[Any]) -> None:
    """One row per dataclass of one kind, under its fields' names; `UserError` where the file cannot
    be written."""
    content = StringIO(newline="")
    writer = csv.writer(content)
    writer.writerow(field.name for field in fields(records[0]))
    writer.writerows(map(astuple, records))
    write_whole(path, content.getvalue())


def write_tables(folder: Path, tables: Mapping[str, Sequence[Any]]) -> list[Path]:
    """Each table in a CSV file of its name; what was written."""
    for name, records in tables.items():
        write_csv(folder / name, records)
    return [folder / name for name in tables]


def write_estimates(folder: Path) -> list[Path]:
    """The estimator's tables and figures computed anew, as CSV and SVG; what was written.

    Raises `UserError` where the folder cannot be written.
    """
    written = write_tables(
        folder,
        {
            "tables.csv": thesis_tables(),
            "figures.csv": thesis_figures(),
            "figure_checks.csv": figure_checks(),
        },
    )
    _draw(folder / "figures.svg")
    return [*written, folder / "figures.svg"]


def _draw(path: Path) -> None:
    """Figures 4.1 to 4.5 on one sheet, every curve relative to its first value but the times."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    titles = {
        "4.1": "4.1 time of one token [s]", "4.2": "4.2 time of ten tokens [s]",
        "4.3": "4.3 parameters", "4.4": "4.4 KV cache", "4.5": "4.5 memory",
    }  # fmt: skip
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for point in thesis_figures():
        curves.setdefault(point.figure, {}).setdefault(point.series, []).append((point.x, point.y))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "codejoule"}):
        sheet = Figure(figsize=(15, 8), layout="constrained")
        for axes, (figure, series) in zip(sheet.subplots(2, 3).flat, curves.items(), strict=False):
            axes.set_title(titles[figure])
            for name, points in series.items():
                if len(points) == 1:
                    axes.bar(name, points[0][1])
                    continue
                if name.endswith("as printed"):
                    continue  # ten orders of magnitude above the others; in figures.csv
                first = points[0]
                axes.plot([x / first[0] for x, _ in points], [y / first[1] for _, y in points],
                          label=name)  # fmt: skip
                axes.set_xlabel("variable, relative to its least value")
                axes.set_ylabel("relative to its first value")
            if axes.lines:
                axes.legend(frameon=False, fontsize="small")
        sheet.axes[-1].set_axis_off()
        content = BytesIO()
        sheet.savefig(content, format="svg", metadata={"Date": None})
        write_whole(path, content.getvalue())
