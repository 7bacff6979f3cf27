"""Views of an analysis: a terminal, CSV, Markdown, LaTeX, figures, one self-contained page."""

from codejoule.report.comparison import render_section, write_comparison
from codejoule.report.files import render_findings, write_tables
from codejoule.report.frontier import frontier_figure
from codejoule.report.logged import log_report
from codejoule.report.page import write_report
from codejoule.report.terminal import render_table

__all__ = [
    "frontier_figure",
    "log_report",
    "render_findings",
    "render_section",
    "render_table",
    "write_comparison",
    "write_report",
    "write_tables",
]
