"""Tables, figures and one page from the runs in a store."""

import html
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.analysis.comparison import comparison_table, front_energy
from codejoule.analysis.configuration import Group, comparable_groups
from codejoule.analysis.energy_notes import energy_notes
from codejoule.analysis.frontier import frontier_figure, frontier_svg
from codejoule.analysis.pairs import baseline_notes
from codejoule.analysis.runs import LoadedRuns
from codejoule.analysis.text import WIDTH, legend, render_table, table_columns

if TYPE_CHECKING:
    import pandas as pd

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .5rem; color: #444; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: right; }
th.setting, td.setting { text-align: left; }
tr.front { background: #eef6ee; }
svg { max-width: 100%; height: auto; }
.estimate { border-left: 4px solid #b35c00; padding-left: .8rem; }
"""


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


def build_sections(loaded: LoadedRuns, *, mix: Collection[str] = ()) -> list[Section]:
    """Analyse runs, each group of comparable ones by itself.

    Parameters
    ----------
    loaded : LoadedRuns
        From `load_runs`.
    mix : collection of str
        Facts in which runs of one section may differ, by the names of `COMPARABLE`.

    Returns
    -------
    list of Section
        One per `comparable_groups` group; none without runs.

    Raises
    ------
    UserError
        If the store fails.
    """
    sections = []
    for group in comparable_groups(loaded.frame, mix=mix):
        table = comparison_table(group.frame, mix=mix)
        notes = energy_notes(group.frame, table)
        if group.facts.get("weights") != "random":
            notes += baseline_notes(group.frame, table, uri=loaded.uri)
        sections.append(Section(group=group, table=table, notes=tuple(notes)))
    return sections


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


def write_report(loaded: LoadedRuns, sections: Sequence[Section], folder: Path) -> list[Path]:
    """Write the tables, figures and the page.

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
        there are several groups) and ``index.html``, which needs no other file.
    """
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    numbered = [s.table.assign(group=s.group.title) for s in sections]
    csv = folder / "comparison.csv"
    whole = pd.concat(numbered, ignore_index=True)
    whole["run_ids"] = whole["run_ids"].map(" ".join)
    whole.to_csv(csv, index=False)
    markdown = folder / "comparison.md"
    markdown.write_text(_markdown(loaded, sections), encoding="utf-8")
    written = [csv, markdown]
    for stale in folder.glob("frontier*"):
        stale.unlink()
    for number, section in enumerate(sections, start=1):
        stem = "frontier" if len(sections) == 1 else f"frontier_{number}"
        for ending in ("svg", "png") if section.has_figure else ():
            frontier_figure(section.table, folder / f"{stem}.{ending}")
            written.append(folder / f"{stem}.{ending}")
    page = folder / "index.html"
    page.write_text(_page(loaded, sections), encoding="utf-8")
    return [*written, page]


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
        left = [heading for heading, _ in columns].index("pass@1 [95 % CI]")
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


def _page(loaded: LoadedRuns, sections: Sequence[Section]) -> str:
    body = "\n".join(_section_html(section) for section in sections)
    intro = "".join(f"<p>{html.escape(line)}</p>" for line in _intro(loaded, sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>codejoule: energy and accuracy</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Energy and accuracy</h1>
{intro}
{body}
</main>
</body>
</html>
"""


def _section_html(section: Section) -> str:
    title = html.escape(section.group.title)
    columns = table_columns(section.table)
    left = [heading for heading, _ in columns].index("pass@1 [95 % CI]")
    kinds = [' class="setting"' if i < left else "" for i in range(len(columns))]
    head = "".join(
        f'<th scope="col"{kind}>{html.escape(heading)}</th>'
        for (heading, _), kind in zip(columns, kinds, strict=True)
    )
    rows = [
        f"<tr{' class=front' if on else ''}>"
        + "".join(f"<td{k}>{html.escape(c)}</td>" for c, k in zip(cells, kinds, strict=True))
        + "</tr>"
        for on, cells in zip(
            section.table["pareto"], zip(*(cells for _, cells in columns), strict=True), strict=True
        )
    ]
    mark = ' class="estimate"' if section.group.estimate else ""
    explained = "".join(f"<p{mark}>{html.escape(line)}</p>" for line in legend(section.table))
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in section.notes)
    figure = ""
    if section.has_figure:
        label = "Energy against pass@1 of every configuration, with the Pareto front"
        svg = frontier_svg(section.table).replace(
            "<svg", f'<svg role="img" aria-label="{label}"', 1
        )
        figure = f"<figure>{svg}</figure>"
    return f"""<section>
<h2>{title}</h2>
<div class="scroll"><table>
<caption>One row per configuration; rows on the Pareto front are tinted.</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{chr(10).join(rows)}
</tbody></table></div>
{explained}
{figure}
{f"<h3>Against the unquantized model</h3><ul>{notes}</ul>" if notes else ""}
</section>"""
