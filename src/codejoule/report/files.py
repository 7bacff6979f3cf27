"""An analysis as files."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.config.writing import write_whole
from codejoule.report.terminal import WIDTH

if TYPE_CHECKING:
    from codejoule.analysis.analysis import Analysis, GroupAnalysis


def write_tables(analysis: "Analysis", folder: Path) -> list[Path]:
    """Write every table, and all of them as one JSON file.

    Parameters
    ----------
    analysis : Analysis
        From `analyse`.
    folder : pathlib.Path
        Where to; made where missing.

    Returns
    -------
    list of pathlib.Path
        ``analysis.json`` and the folder ``tables`` (``tables/1``, ``tables/2``, ... where there
        are several groups), in which each table is NAME.csv, NAME.tex and NAME.html.
    """
    whole = folder / "analysis.json"
    text = json.dumps(analysis.as_json(), allow_nan=False)
    write_whole(whole, text)
    root = folder / "tables"
    for stale in root.glob("**/*.*"):
        if stale.suffix in (".csv", ".tex", ".html"):
            stale.unlink()
    for number, group in enumerate(analysis.groups, start=1):
        own = root if len(analysis.groups) == 1 else root / str(number)
        for table in group.tables.values():
            table.write(own)
    return [whole, root]


def render_findings(group: "GroupAnalysis", *, said: Collection[str] = ()) -> str:
    """What a group's tables say, and the recommendation, for a terminal.

    Parameters
    ----------
    group : GroupAnalysis
        Analysed.
    said : collection of str
        Sentences that are printed already, e.g. `Section.notes`.

    Returns
    -------
    str
        Lines.
    """
    import textwrap

    def listed(sentences: tuple[str, ...]) -> list[str]:
        return [
            line
            for sentence in sentences
            for line in textwrap.wrap(sentence, WIDTH, initial_indent="- ", subsequent_indent="  ")
        ]

    lines = ["Findings:", *listed(tuple(s for s in group.findings if s not in said))]
    advice = group.recommendation
    if advice is not None:
        chosen = advice.configuration or "none"
        lines += ["", f"Recommendation ({advice.goal}): {chosen}", *listed(advice.margin)]
        lines += ["Unsure:", *listed(advice.unsure)] if advice.unsure else []
    return "\n".join(lines)
