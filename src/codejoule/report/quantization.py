"""Energy against the unquantized model over the batch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from codejoule.analysis import RatioCurve
from codejoule.report.frontier import COLOURS, MARKERS, write_figure


def quantization_figure(curves: Sequence[RatioCurve], path: Path) -> None:
    """Draw the curves with their intervals and the line at 1, below which quantization pays."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.axhline(1, color="0.4", linestyle="--", linewidth=1, zorder=0)
    for number, curve in enumerate(curves):
        ratios = np.array(curve.ratios)
        ends = np.array([ratios - curve.lows, curve.highs - ratios])
        axes.errorbar(
            curve.batches,
            ratios,
            yerr=np.nan_to_num(np.maximum(ends, 0)),
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
            label=curve.label,
        )
    batches = sorted({batch for curve in curves for batch in curve.batches})
    axes.xaxis.set_major_locator(FixedLocator(batches))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("batch")
    axes.set_ylabel("energy over that of the unquantized model")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    write_figure(figure, path)
