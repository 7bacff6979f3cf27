"""A comparison as plain text for a terminal."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from codejoule.analysis.families import heading
from codejoule.domain.metrics import J_PER_KWH
from codejoule.domain.text import number

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 120
"""Columns of a terminal that a table may need."""

_ACCURACY = "pass@1 [95 % CI]"
_ACCURACY_PLUS = "plus [95 % CI]"

KWH_FROM_J = 1e5
"""Energies from here on are shown in kilowatt-hours."""

_FIXED = (
    "model", "quant", "batch", "suite", "split", "runs", "tasks", "pass_at_1",
    "pass_at_1_ci_low", "pass_at_1_ci_high", "pass_at_1_plus", "pass_at_1_plus_ci_low",
    "pass_at_1_plus_ci_high", "energy_generation_j", "energy_total_j",
    "energy_per_output_token_j", "energy_per_task_j", "energy_per_solved_task_j",
    "pass_at_1_per_kwh", "throughput_tokens_per_s", "latency_s", "output_tokens", "carbon_g",
    "energy_generation_sd_j", "energy_source", "energy_scope", "energy_source_evaluation",
    "pareto", "run_ids",
)  # fmt: skip


def accuracy(value: float, low: float, high: float) -> str:
    """pass@1 with its 95 % interval; a dash where undefined."""
    if math.isnan(value):
        return "-"
    interval = "" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    return f"{value:.3f}{interval}"


def table_columns(table: "pd.DataFrame") -> list[tuple[str, list[str]]]:
    """Heading and cells of each column that a reader sees.

    Parameters
    ----------
    table : pandas.DataFrame
        From `comparison_table`.

    Returns
    -------
    list of (str, list of str)
        Settings first (those that never vary left out, save model, quant and batch), then
        figures; what rests on pass@1 only where that is known. An estimated figure starts with
        ``~``.
    """
    generation = "~" if (table["energy_source"] == "estimate").any() else ""
    total = "~" if generation or (table["energy_source_evaluation"] == "estimate").any() else ""
    columns = [(name, [str(v) for v in table[name]]) for name in ("model", "quant", "batch")]
    varying = [c for c in table.columns if c not in _FIXED and table[c].nunique(dropna=False) > 1]
    columns += [(heading(name, varying), [str(v) for v in table[name]]) for name in varying]
    if (table["runs"] > 1).any():
        columns.append(("runs", [str(v) for v in table["runs"]]))
    judged = bool(table["pass_at_1"].notna().any())
    for title, name in ((_ACCURACY, "pass_at_1"), (_ACCURACY_PLUS, "pass_at_1_plus")):
        if table[name].notna().any():
            rates = table[[name, f"{name}_ci_low", f"{name}_ci_high"]].to_numpy(dtype=float)
            columns.append((title, [accuracy(*row) for row in rates]))
    large = bool(table["energy_generation_j"].max() >= KWH_FROM_J)
    energy, per = ("kWh", J_PER_KWH) if large else ("J", 1.0)
    for title, name, mark, unit in (
        (f"energy {energy}", "energy_generation_j", generation, per),
        (f"total {energy}", "energy_total_j", total, per),
        ("J/token", "energy_per_output_token_j", generation, 1.0),
        ("J/solved", "energy_per_solved_task_j", total, 1.0),
        ("tokens/s", "throughput_tokens_per_s", "", 1.0),
    ):
        if judged or title != "J/solved":
            cells = [_marked(number(float(v) / unit), mark) for v in table[name]]
            columns.append((title, cells))
    if judged:
        columns.append(("front", ["*" if on else "" for on in table["pareto"]]))
    return columns


def legend(table: "pd.DataFrame") -> list[str]:
    """Sentences that say what the columns of a table mean and where its joules come from."""
    source, scope = _all(table, "energy_source"), _all(table, "energy_scope")
    judged = _all(table, "energy_source_evaluation")
    known = bool(table["pass_at_1"].notna().any())
    per_solved = "; J/solved: total per task solved" if known else ""
    lines = [
        f"energy and J/token: generation alone, {_source(source)}, scope {scope}. "
        + (
            f"total: with evaluation ({_source(judged)}){per_solved}."
            if judged
            else "total: not known, evaluation was not metered."
        )
    ]
    if "estimate" in f"{source}, {judged}":
        lines.append(
            "~ marks an estimate (CPU time x assumed watts per core). It is no measurement: "
            "compare it with nothing but other estimates of this machine."
        )
    if table["pass_at_1_plus"].notna().any():
        lines.append("pass@1: by the benchmark's own tests; plus: by EvalPlus' further ones, too.")
    by = "total energy" if table["energy_total_j"].notna().all() else "energy of generation"
    if known:
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
    """Draw a comparison for a terminal.

    Parameters
    ----------
    table : pandas.DataFrame
        From `comparison_table`.

    Returns
    -------
    str
        Lines of at most `WIDTH` characters: the table, then what its columns mean.
    """
    import textwrap

    columns = _fitted(table_columns(table))
    widths = [_width(column) for column in columns]
    left = setting_count(columns)

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rows = [line(cells) for cells in zip(*(cells for _, cells in columns), strict=True)]
    head = line([heading for heading, _ in columns])
    notes = [wrapped for text in legend(table) for wrapped in textwrap.wrap(text, WIDTH)]
    return "\n".join([head, "-" * len(head), *rows, "", *notes])


def _marked(text: str, mark: str) -> str:
    return text if text == "-" else mark + text


def _all(table: "pd.DataFrame", name: str) -> str:
    """What the rows say, each value once: several only where they were mixed on purpose."""
    return " and ".join(dict.fromkeys(str(v) for v in table[name] if v is not None))


def _source(source: str) -> str:
    return "estimated" if source == "estimate" else f"by {source}"


def _width(column: tuple[str, list[str]]) -> int:
    heading, cells = column
    return max(len(heading), *map(len, cells))


def setting_count(columns: Sequence[tuple[str, list[str]]]) -> int:
    """How many columns of `table_columns`, from the left, are settings."""
    figures = (_ACCURACY, "energy J", "energy kWh")
    return next(i for i, (heading, _) in enumerate(columns) if heading in figures)


def _fitted(columns: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """The columns, the widest settings shortened until a line fits."""
    columns = list(columns)
    settings = range(setting_count(columns))
    while sum(map(_width, columns)) + 2 * (len(columns) - 1) > WIDTH:
        widest = max(settings, key=lambda i: _width(columns[i]))
        target = _width(columns[widest]) - 1
        if target < 6:
            break
        heading, cells = columns[widest]
        columns[widest] = (_short(heading, target), [_short(cell, target) for cell in cells])
    return columns


def _short(text: str, width: int) -> str:
    """The end is kept: it is where names of models and settings differ."""
    return text if len(text) <= width else "…" + text[len(text) - width + 1 :]
