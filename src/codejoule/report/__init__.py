"""Views of an analysis: a terminal, CSV, Markdown, LaTeX, figures, one self-contained page."""

from codejoule.report.files import log_report, write_comparison, write_tables
from codejoule.report.frontier import frontier_figure
from codejoule.report.note import best_figures, sweep_note
from codejoule.report.page import write_report
from codejoule.report.terminal import LINES, render_answers, render_group, render_table

__all__ = [
    "LINES", "best_figures", "frontier_figure", "log_report", "render_answers", "render_group",
    "render_table", "sweep_note", "write_comparison", "write_report", "write_tables",
]  # fmt: skip
