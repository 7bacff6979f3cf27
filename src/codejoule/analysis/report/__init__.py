"""One self-contained page from an analysis, and its place in MLflow."""

from codejoule.analysis.report.logged import log_report
from codejoule.analysis.report.page import write_report

__all__ = ["log_report", "write_report"]
