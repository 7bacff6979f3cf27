"""Energy against pass@1, with the Pareto front."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.analysis import front_energy, setting_columns
from codejoule.analysis.families import setting_text
from codejoule.config.writing import write_whole
from codejoule.domain.metrics import J_PER_KWH, KWH_FROM_J

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008): colours that can be told apart with every common colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_NAMES = 12
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def frontier_figure(table: "pd.DataFrame", path: Path) -> None:
    """Draw every configuration's energy and pass@1 (95 % interval), and the front.

    `table` is a `comparison_table`; the ending of `path` (``.svg``, ``.png``, ``.pdf``) decides
    the format. The same table gives the same SVG. The axis says where the energy is an estimate.
    Raises ValueError if no configuration has both energy and pass@1.
    """
    write_figure(_draw(table), path)


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a figure; the ending of `path` decides the format, and the same figure gives the same
    SVG."""
    import matplotlib as mpl

    content = BytesIO()
    if path.suffix != ".svg":
        figure.savefig(content, format=path.suffix.removeprefix("."), dpi=150)
        write_whole(path, content.getvalue())
        return
    # Text that can be selected, a fixed salt and no date.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "codejoule"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    text = content.getvalue().decode()
    write_whole(path, text[text.index("<svg") :])


def is_drawable(table: "pd.DataFrame") -> bool:
    """Whether some configuration has both energy and pass@1."""
    return bool(_known(table).any())


def _known(table: "pd.DataFrame") -> "pd.Series[bool]":
    return table[front_energy(table)].notna() & table["pass_at_1"].notna()


def _draw(table: "pd.DataFrame") -> "Figure":
    from matplotlib.figure import Figure

    energy = front_energy(table)
    shown = table[_known(table)]
    if shown.empty:
        raise ValueError("no configuration has both energy and pass@1: there is nothing to draw")
    in_kwh = bool(shown[energy].max() >= KWH_FROM_J)
    x = shown[energy] / (J_PER_KWH if in_kwh else 1.0)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    _points(axes, shown, x)
    _front(axes, shown, x)
    axes.set_xlabel(_label(shown, energy, "kWh" if in_kwh else "J"))
    axes.set_ylabel("pass@1 (95 % interval)")
    axes.set_xlim(left=0)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _points(axes: "Axes", shown: "pd.DataFrame", x: "pd.Series[float]") -> None:
    """One mark per configuration: colour by quantization, shape by batch size."""
    quants = {name: i for i, name in enumerate(shown["quant"].unique())}
    batches = {size: i for i, size in enumerate(sorted(shown["batch"].unique()))}
    for (quant, batch), rows in shown.groupby(["quant", "batch"], sort=False):
        p = rows["pass_at_1"]
        low = (p - rows["pass_at_1_ci_low"]).clip(lower=0).fillna(0)
        high = (rows["pass_at_1_ci_high"] - p).clip(lower=0).fillna(0)
        axes.errorbar(
            x[rows.index],
            p,
            yerr=[low, high],
            fmt=MARKERS[batches[batch] % len(MARKERS)],
            color=COLOURS[quants[quant] % len(COLOURS)],
            elinewidth=0.8,
            capsize=2,
            markersize=6,
            alpha=0.9,
            label=f"{quant}, batch {batch}",
        )
    # Names of more than a few points would cover one another.
    few = len(shown) <= _NAMES
    points = zip(_point_names(shown), x, shown["pass_at_1"], shown["pareto"], strict=True)
    for name, energy, accuracy, on in points:
        if name and (few or on):
            axes.annotate(
                name, (energy, accuracy), textcoords="offset points", xytext=(6, 5), fontsize=7
            )


def _point_names(shown: "pd.DataFrame") -> list[str]:
    """What tells points apart beside quantization and batch size, which the legend names."""
    varying = [n for n in setting_columns(shown) if shown[n].nunique(dropna=False) > 1]
    others = [name for name in varying if name not in ("quant", "batch")]
    return [
        " ".join(setting_text(name, row[name], others) for name in others)
        for row in shown.to_dict("records")
    ]


def _front(axes: "Axes", shown: "pd.DataFrame", x: "pd.Series[float]") -> None:
    front = shown[shown["pareto"]]
    if front.empty:
        return
    order = x[front.index].sort_values().index
    # Each point is the best that can be had until the next one's energy is spent.
    right = axes.get_xlim()[1]
    axes.step(
        [*x[order], right],
        [*front.loc[order, "pass_at_1"], front.loc[order[-1], "pass_at_1"]],
        where="post",
        color="0.4",
        linestyle="--",
        linewidth=1,
        zorder=0,
        label="Pareto front",
    )
    axes.set_xlim(right=right)


def _label(shown: "pd.DataFrame", energy: str, unit: str) -> str:
    sources = {shown["energy_source"].iloc[0]}
    what = "energy of generation"
    if energy == "energy_total_j":
        what = "energy of generation and evaluation"
        sources.add(shown["energy_source_evaluation"].iloc[0])
    named = " and ".join(sorted(str(s) for s in sources if s))
    mark = ", not measured" if sources == {"estimate"} else ""
    return f"{what} [{unit}] ({named}{mark})"
