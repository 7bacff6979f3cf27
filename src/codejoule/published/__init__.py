"""Figures that others printed: read from their files, put beside one's own, written for others."""

from codejoule.published.figures import (
    COLUMNS,
    FIGURES_SCHEMA_VERSION,
    REQUIRED,
    PublishedFigure,
)
from codejoule.published.formats import FORMATS, read_figures
from codejoule.published.importing import Prediction, import_figures, mean_errors

__all__ = [
    "COLUMNS", "FIGURES_SCHEMA_VERSION", "FORMATS", "REQUIRED", "Prediction", "PublishedFigure",
    "import_figures", "mean_errors", "read_figures",
]  # fmt: skip
