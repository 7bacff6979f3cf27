"""A group of runs as plain text for a terminal."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from codejoule.analysis import GroupAnalysis, ratio_curves, setting_columns
from codejoule.analysis.families import heading
from codejoule.domain.metrics import J_PER_KWH, KWH_FROM_J
from codejoule.domain.text import number
from codejoule.report.measured import with_packages

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 120
"""Columns of a terminal that a table may need."""

LINES = 25
"""Lines that a command prints unless all is asked for."""

_FEWEST = 8
"""Lines that the table and the doubts of the largest group get where there are many groups."""
_ROWS, _DOUBTS, _STEPS = 5, 5, 3
"""Rows that the table gets at least, and the most doubts and steps of the ladder."""

_ACCURACY = "pass@1 [95 % CI]"
PREDICTED = "predicted J/token"
"""Heading of what the estimator says of published figures."""
_ALWAYS = ("model", "quant", "batch")

Column = tuple[str, list[str]]
"""A heading and its cells."""


def render_answers(groups: Sequence[GroupAnalysis], *, lines: int) -> str:
    """Title, answer, table and doubts of the largest group, title and answer of the others, in
    about `lines` lines.

    The sentence of an answer is whole, and its configuration is the table's first row; what else
    did not fit is counted at the end.
    """
    largest = max(groups, key=lambda group: len(group.evidence.table))
    heads = {id(group): _head(group) for group in groups}
    room, shown = lines - len(heads[id(largest)]) - _FEWEST, {id(largest)}
    for group in groups:
        if id(group) not in shown and (room := room - len(heads[id(group)]) - 1) >= 0:
            shown.add(id(group))
    left = len(groups) - len(shown)
    rest = [f"({left} more {'kind' if left == 1 else 'kinds'} of runs: --full)"] if left else []
    taken = sum(len(heads[i]) + 1 for i in shown) + 2 * len(rest) - 1
    parts = [
        "\n".join([*heads[id(g)], *(_brief(g, lines - taken) if g is largest else ())])
        for g in groups
        if id(g) in shown
    ]
    return "\n\n".join([*parts, *rest])


def _head(group: GroupAnalysis) -> list[str]:
    return [group.group.title, *textwrap.wrap(group.answer.sentence, WIDTH)]


def _brief(group: GroupAnalysis, room: int) -> list[str]:
    answer, table = group.answer, group.evidence.table
    order = ranked(group)
    # A heading, a rule, two empty lines and what was cut.
    room -= 5
    fewest = min(len(order), _ROWS)
    doubts = _one_line_each(answer.doubts, most=max(0, min(_DOUBTS, room - fewest)))
    room -= len(doubts)
    ladder = _one_line_each(answer.ladder, most=max(0, min(_STEPS, room - fewest)))
    rows = order[: max(1, room - len(ladder))]
    cut = [
        f"{count} more {what if count > 1 else what.removesuffix('s')}"
        for count, what in (
            (len(order) - len(rows), "configurations"),
            (len(answer.ladder) - len(ladder), "steps"),
            (len(answer.doubts) - len(doubts), "doubts"),
        )
        if count
    ]
    lines = [*ladder, "", *_table_lines(table.loc[rows])]
    lines += ["", *doubts] if doubts else []
    return [*lines, f"({', '.join(cut)}: --full)"] if cut else lines


def ranked(group: GroupAnalysis) -> list[int]:
    """Rows, the one to take first, then by energy per correct program, or per task."""
    table = group.evidence.table
    by = ["energy_per_solved_task_j", "energy_per_task_j"]
    rows = [int(i) for i in table.sort_values(by).index]
    return sorted(rows, key=lambda i: group.evidence.labels[i] != group.answer.configuration)


def _one_line_each(sentences: Sequence[str], *, most: int) -> list[str]:
    return [textwrap.shorten(f"- {s}", WIDTH, placeholder=" ...") for s in sentences[:most]]


def render_group(group: GroupAnalysis) -> str:
    """All that a group says: title, answer, table, doubts, and what its tables say in sentences."""
    answer = group.answer
    notes = _listed(group.notes)
    lines = [group.group.title, *textwrap.wrap(answer.sentence, WIDTH), *_listed(answer.ladder)]
    lines += ["", render_table(group.evidence.table)]
    lines += ["", "Doubts:", *_listed(answer.doubts)] if answer.doubts else []
    lines += ["", "Against the unquantized model:", *notes] if notes else []
    pays = _listed(quantization_pays(group))
    lines += ["", "Where quantization pays:", *pays] if pays else []
    lines += finetuning_lines(group)
    if (rounds := round_columns(group)) is not None:
        lines += ["", "Repair rounds:", *_lines(rounds[:1], rounds[1:])]
    lines += ["", "Findings:", *_listed(s for s in group.findings if s not in group.notes)]
    return "\n".join(lines)


def finetuning_lines(group: GroupAnalysis) -> list[str]:
    """The heading and the table of fine-tuning, a line per figure; nothing where there is none."""
    table = group.tables.get("finetuning")
    if table is None:
        return []
    columns = [table.label(str(name)) for name in table.frame.columns]
    cells = list(zip(*table.cells(), strict=True))
    width = max(map(len, columns))
    widths = [max(len(column[i]) for column in cells) for i in range(len(table.frame))]
    rows = [
        "  ".join(
            [name.ljust(width), *(c.rjust(w) for c, w in zip(column, widths, strict=True))]
        ).rstrip()
        for name, column in zip(columns, cells, strict=True)
    ]
    return ["", "Fine-tuning:", *rows, *_listed(table.notes)]


def quantization_pays(group: GroupAnalysis) -> list[str]:
    """A sentence for each quantized model that was run at several batches."""
    return [
        f"{curve.label} ({', '.join(filter(None, (curve.names['kernel'], curve.names['card'])))}): "
        f"{curve.conclusion}"
        for curve in ratio_curves(group.evidence)
    ]


def round_columns(group: GroupAnalysis) -> list[Column] | None:
    """What each repair round costs and gains; None where no run has several."""
    table = group.tables.get("rounds")
    if table is None:
        return None
    cells = zip(*table.cells(), strict=True)
    return [
        (table.label(name), list(own)) for name, own in zip(table.frame.columns, cells, strict=True)
    ]


def _listed(sentences: Iterable[str]) -> list[str]:
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(sentence, WIDTH, initial_indent="- ", subsequent_indent="  ")
    ]


def accuracy(value: float, low: float, high: float) -> str:
    """pass@1 with its 95 % interval; a dash where undefined."""
    if math.isnan(value):
        return "-"
    interval = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return f"{value:.3f}{interval}"


def table_columns(table: "pd.DataFrame") -> tuple[list[Column], list[Column]]:
    """Settings and figures that a reader sees of a `comparison_table`.

    Settings that never vary are left out, save model, quant and batch; what rests on pass@1 is
    there only where that is known. An estimated figure starts with ``~``.
    """
    varying = [
        name
        for name in setting_columns(table)
        if name not in _ALWAYS and table[name].nunique(dropna=False) > 1
    ]
    settings = [(name, [str(v) for v in table[name]]) for name in _ALWAYS]
    settings += [
        (heading(name, varying), ["-" if v is None else str(v) for v in table[name]])
        for name in varying
    ]
    if (table["runs"] > 1).any():
        settings.append(("runs", [str(v) for v in table["runs"]]))
    figures = []
    for title, name in ((_ACCURACY, "pass_at_1"), ("plus [95 % CI]", "pass_at_1_plus")):
        if table[name].notna().any():
            rates = table[[name, f"{name}_ci_low", f"{name}_ci_high"]].to_numpy(dtype=float)
            figures.append((title, [accuracy(*row) for row in rates]))
    estimated = bool((table["energy_source"] == "estimate").any())
    total = estimated or bool((table["energy_source_evaluation"] == "estimate").any())
    large = bool(table["energy_generation_j"].max() >= KWH_FROM_J)
    energy, per = ("kWh", J_PER_KWH) if large else ("J", 1.0)
    judged = bool(table["pass_at_1"].notna().any())
    published = bool((table["energy_source"] == "published").all())
    for title, name, marked, unit in (
        (f"energy {energy}", "energy_generation_j", estimated, per),
        (f"total {energy}", "energy_total_j", total, per),
        ("J/token", "energy_per_output_token_j", estimated, 1.0),
        (PREDICTED, "predicted_energy_per_output_token_j", True, 1.0),
        ("J/solved", "energy_per_solved_task_j", total, 1.0),
        ("tokens/s", "throughput_tokens_per_s", False, 1.0),
    ):
        shown = title != PREDICTED or table[name].notna().any()
        if shown and (judged or title != "J/solved"):
            cells = [number(float(value) / unit) for value in table[name]]
            mark = "~" if marked else ""
            figures.append((title, [cell if cell == "-" else mark + cell for cell in cells]))
        if title == PREDICTED and shown:
            errors = table[name] / table["energy_per_output_token_j"] - 1
            figures.append(("error", ["-" if math.isnan(e) else f"{e:+.0%}" for e in errors]))
    if published:
        # What nobody printed needs no column of dashes.
        figures = [(title, cells) for title, cells in figures if set(cells) != {"-"}]
    if judged:
        figures.append(("front", ["*" if on else "" for on in table["pareto"]]))
    return settings, figures


def legend(table: "pd.DataFrame") -> list[str]:
    """Sentences that say what the columns of a table mean and where its joules come from."""
    source, scope = _all(table, "energy_source"), _all(table, "energy_scope")
    evaluation = _all(table, "energy_source_evaluation")
    judged = bool(table["pass_at_1"].notna().any())
    per_solved = "; J/solved: total per task solved" if judged else ""
    total = (
        f"total: with evaluation ({_source(evaluation)}){per_solved}."
        if evaluation
        else "total: not known, evaluation was not metered."
    )
    scope = with_packages(scope, table["energy_devices"])
    lines = [f"energy and J/token: generation alone, {_source(source)}, scope {scope}. {total}"]
    if "estimate" in f"{source}, {evaluation}":
        lines.append(
            "~ marks an estimate (CPU time x assumed watts per core). It is no measurement: "
            "compare it only with other estimates of this machine."
        )
    if table["pass_at_1_plus"].notna().any():
        lines.append("pass@1: by the benchmark's own tests; plus: by EvalPlus' further ones, too.")
    if judged:
        known = table["energy_total_j"].notna().all()
        by = "total energy" if known else "energy of generation"
        lines.append(f"* is on the Pareto front of {by} against pass@1.")
    if (table["runs"] == 1).all():
        lines.append(
            "One run per configuration: how much energy varies between runs is not known "
            "(repeat=1,2,3 tells)."
        )
    else:
        lines.append("Figures are means over the runs of a configuration.")
    return lines


def render_table(table: "pd.DataFrame") -> str:
    """A `comparison_table` in lines of at most `WIDTH` characters, then what its columns mean."""
    notes = [wrapped for text in legend(table) for wrapped in textwrap.wrap(text, WIDTH)]
    return "\n".join([*_table_lines(table), "", *notes])


def _table_lines(table: "pd.DataFrame") -> list[str]:
    settings, figures = table_columns(table)
    return _lines(settings, figures)


def _lines(settings: list[Column], figures: list[Column]) -> list[str]:
    settings = _fitted(settings, WIDTH - sum(_width(column) + 2 for column in figures))
    columns = [*settings, *figures]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(_width(column)) if i < len(settings) else cell.rjust(_width(column))
            for i, (cell, column) in enumerate(zip(cells, columns, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rows = [line(cells) for cells in zip(*(cells for _, cells in columns), strict=True)]
    head = line([title for title, _ in columns])
    return [head, "-" * len(head), *rows]


def _all(table: "pd.DataFrame", name: str) -> str:
    """The values in the rows, each once; there are several only where they were mixed on
    purpose."""
    return " and ".join(dict.fromkeys(str(v) for v in table[name] if v is not None))


def _source(source: str) -> str:
    return {"estimate": "estimated", "published": "as published"}.get(source, f"by {source}")


def _width(column: Column) -> int:
    title, cells = column
    return max(len(title), *map(len, cells))


def _fitted(settings: list[Column], width: int) -> list[Column]:
    """The settings, the widest ones shortened until all fit."""
    settings = list(settings)
    while sum(map(_width, settings)) + 2 * (len(settings) - 1) > width:
        widest = max(range(len(settings)), key=lambda i: _width(settings[i]))
        target = _width(settings[widest]) - 1
        if target < 6:
            break
        title, cells = settings[widest]
        settings[widest] = (_short(title, target), [_short(cell, target) for cell in cells])
    return settings


def _short(text: str, width: int) -> str:
    """The end is kept: it is where names of models and settings differ."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]
