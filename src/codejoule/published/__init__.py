"""Figures that others printed: read from their files, put beside one's own, written for others."""

from codejoule.published.exporting import Exported, export_measured, export_published
from codejoule.published.figures import (
    COLUMNS,
    FIGURES_SCHEMA_VERSION,
    REQUIRED,
    PublishedFigure,
)
from codejoule.published.formats import FORMATS, read_figures
from codejoule.published.importing import Prediction, import_figures, mean_errors
from codejoule.published.writing import WRITERS, write_figures

__all__ = [
    "COLUMNS", "FIGURES_SCHEMA_VERSION", "FORMATS", "REQUIRED", "WRITERS", "Exported",
    "Prediction", "PublishedFigure", "export_measured", "export_published", "import_figures",
    "mean_errors", "read_figures", "write_figures",
]  # fmt: skip
