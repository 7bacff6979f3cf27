"""The documented layout: a row per figure, as CSV or JSON."""

from codejoule.config import UserError
from codejoule.published.figures import FIGURES_SCHEMA_VERSION, REQUIRED, PublishedFigure
from codejoule.published.formats.base import Document, Format, Reading, named_row, refuse_doubles

VERSION = "schema_version"
"""Name of the version in either form."""
FIGURES = "figures"
"""Name of the rows in JSON."""


def _recognizes(document: Document) -> bool:
    if document.is_csv:
        return {"energy_per_output_token_j", "model"} <= document.columns
    return isinstance(document.data, dict) and isinstance(document.data.get(FIGURES), list)


def _read(document: Document) -> Reading:
    rows = document.data if document.is_csv else document.data[FIGURES]
    figures = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or None in row:
            raise UserError(f"{document.path}, row {number}: not a row of named columns")
        cells = dict(row)
        said = cells.pop(VERSION, None) if document.is_csv else document.data.get(VERSION)
        if said not in (None, "") and str(said) != str(FIGURES_SCHEMA_VERSION):
            raise UserError(
                f"{document.path}: schema_version {said}, this codejoule reads "
                f"{FIGURES_SCHEMA_VERSION}"
            )
        with named_row(document, number):
            figures.append(PublishedFigure.from_row(cells))
    refuse_doubles(document, figures)
    return Reading(figures=tuple(figures))


TABLE = Format(
    name="table",
    what=f"CSV or JSON with {', '.join(REQUIRED)}",
    recognizes=_recognizes,
    read=_read,
)
