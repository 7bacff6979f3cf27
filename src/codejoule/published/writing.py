"""Figures as files: the documented layout in CSV and JSON, and an energy card in Markdown."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path

from codejoule.config import UserError, write_whole
from codejoule.domain.text import number
from codejoule.published.figures import COLUMNS, FIGURES_SCHEMA_VERSION, PublishedFigure
from codejoule.published.formats.table import FIGURES, VERSION


def write_figures(path: Path, figures: Sequence[PublishedFigure]) -> None:
    """Write figures in the form that the ending of `path` names: ``.csv``, ``.json``, or ``.md``
    for an energy card. Raises `UserError` for another one, and where it cannot be written."""
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UserError(f"{path}: choose a name that ends in {', '.join(WRITERS)}")
    write_whole(path, writer(figures))


def as_csv(figures: Sequence[PublishedFigure]) -> str:
    """The documented layout, without the columns that are empty in all rows."""
    rows = [figure.as_row() for figure in figures]
    names = [name for name in COLUMNS if any(name in row for row in rows)]
    content = StringIO(newline="")
    writer = csv.DictWriter(content, [VERSION, *names], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {k: json.dumps(v) if isinstance(v, Mapping) else v for k, v in row.items()}
        writer.writerow({VERSION: FIGURES_SCHEMA_VERSION, **cells})
    return content.getvalue()


def as_json(figures: Sequence[PublishedFigure]) -> str:
    """The documented layout."""
    rows = [figure.as_row() for figure in figures]
    return json.dumps({VERSION: FIGURES_SCHEMA_VERSION, FIGURES: rows}, indent=2) + "\n"


def as_card(figures: Sequence[PublishedFigure]) -> str:
    """One page of Markdown to put beside a model: figures, and how they were measured."""
    models = list(dict.fromkeys(figure.model for figure in figures))
    parts = [f"# Energy card: {', '.join(models)}"]
    parts.append(_sentence(figures))
    parts.append(_figures_table(figures, several=len(models) > 1))
    if any(figure.weights == "random" for figure in figures):
        parts.append(
            "Weights are random: energy and speed are those of the architecture, and nothing is "
            "known of what it solves."
        )
    parts += ["## How it was measured", _facts(figures), "## What it does not say", _LIMITS]
    return "\n\n".join(parts) + "\n"


_LIMITS = "\n".join(
    f"- {sentence}"
    for sentence in (
        "Energy is that of the scope named above; no cooling, and no other machine, is in it.",
        "It holds for this card, engine, batch and length of prompts and answers. Other batches "
        "take another energy per token.",
        "pass@1 on one suite of tasks says little about others.",
        "Where a row has one run, how much runs differ is not in it.",
    )
)


def _sentence(figures: Sequence[PublishedFigure]) -> str:
    least = min(figures, key=lambda figure: figure.energy_per_output_token_j)
    solved = [(joules, figure) for figure in figures if (joules := _per_solved_j(figure))]
    said = (
        f"Least energy per output token: {number(least.energy_per_output_token_j)} J "
        f"({_name(least)})."
    )
    if not solved:
        return said
    joules, best = min(solved, key=lambda each: each[0])
    return (
        f"{said} Least energy of generation per correct program: {number(joules)} J "
        f"({_name(best)}, pass@1 {best.pass_at_1:.3f})."
    )


def _name(figure: PublishedFigure) -> str:
    return f"{figure.quantization}, {figure.engine}, batch {figure.batch}"


def _per_solved_j(figure: PublishedFigure) -> float | None:
    if not figure.pass_at_1 or figure.output_tokens is None:
        return None
    return figure.energy_per_output_token_j * figure.output_tokens / figure.pass_at_1


def _figures_table(figures: Sequence[PublishedFigure], *, several: bool) -> str:
    columns: list[tuple[str, list[str]]] = [
        ("model", [figure.model for figure in figures] if several else []),
        ("quantization", [figure.quantization for figure in figures]),
        ("engine", [figure.engine for figure in figures]),
        ("batch", [str(figure.batch) for figure in figures]),
        ("settings", [figure.settings for figure in figures]),
        ("J per output token", [number(f.energy_per_output_token_j) for f in figures]),
        ("tokens/s", [_cell(figure.throughput_tokens_per_s) for figure in figures]),
        ("pass@1 [95 %]", [_accuracy(figure) for figure in figures]),
        ("J per correct program", [_cell(_per_solved_j(figure)) for figure in figures]),
        ("runs", ["" if f.runs is None else str(f.runs) for f in figures]),
        ("validity", [figure.validity for figure in figures]),
    ]
    kept = [(title, cells) for title, cells in columns if any(cells)]
    lines = [[title for title, _ in kept], ["---"] * len(kept)]
    lines += [[cell or "-" for cell in row] for row in zip(*(c for _, c in kept), strict=True)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _cell(value: float | None) -> str:
    return "" if value is None else number(value)


def _accuracy(figure: PublishedFigure) -> str:
    if figure.pass_at_1 is None:
        return ""
    ends = (figure.pass_at_1_ci_low, figure.pass_at_1_ci_high)
    known = "" if None in ends else f" [{ends[0]:.2f}, {ends[1]:.2f}]"
    return f"{figure.pass_at_1:.3f}{known}"


def _facts(figures: Sequence[PublishedFigure]) -> str:
    def each(name: str) -> str:
        values = dict.fromkeys(str(getattr(figure, name) or "") for figure in figures)
        return ", ".join(value for value in values if value)

    cards = dict.fromkeys(f.card if f.cards == 1 else f"{f.cards} x {f.card}" for f in figures)
    tasks = dict.fromkeys(
        f"{f.suite}{'' if f.tasks is None else f' ({f.tasks:,} tasks)'}" for f in figures if f.suite
    )
    lengths = dict.fromkeys(
        f"{f.prompt_tokens:.0f} and {f.output_tokens:.0f}"
        for f in figures
        if f.prompt_tokens is not None and f.output_tokens is not None
    )
    dates = sorted({figure.date for figure in figures if figure.date})
    rows = {
        "Method": each("method"),
        "Card": ", ".join(cards),
        "Tasks": ", ".join(tasks),
        "Tokens of prompt and answer": ", ".join(lengths) if len(lengths) <= 3 else "vary by row",
        "Dtype": each("dtype"),
        "Weights": each("weights"),
        "Length of answers": each("length"),
        "Versions": each("version"),
        "Measured": " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "",
        "Source": each("source"),
        "Schema version": str(FIGURES_SCHEMA_VERSION),
    }
    return "\n".join(f"- {term}: {text}" for term, text in rows.items() if text)


WRITERS: Mapping[str, Callable[[Sequence[PublishedFigure]], str]] = {
    ".csv": as_csv,
    ".json": as_json,
    ".md": as_card,
}
"""What writes a file, by its ending."""
