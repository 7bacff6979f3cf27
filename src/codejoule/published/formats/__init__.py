"""Layouts of files with published figures. Each is one `Format` in a module of its own, listed in
`FORMATS`."""

from pathlib import Path

from codejoule.config import UserError
from codejoule.published.formats.base import Format, Reading, open_document
from codejoule.published.formats.energy_code_eval import ENERGY_CODE_EVAL
from codejoule.published.formats.ml_energy import ML_ENERGY
from codejoule.published.formats.table import TABLE

FORMATS = (TABLE, ML_ENERGY, ENERGY_CODE_EVAL)
"""Every layout that can be read."""

__all__ = ["FORMATS", "Format", "Reading", "read_figures"]


def read_figures(path: Path) -> tuple[Format, Reading]:
    """Read the figures of a file, and say which layout it has.

    Raises `UserError` for a file of no known layout and for a faulty row.
    """
    document = open_document(path)
    for file_format in FORMATS:
        if file_format.recognizes(document):
            found = file_format.read(document)
            if not found.figures:
                raise UserError(f"{path} holds no figures")
            return file_format, found
    raise UserError(
        f"{path}: no layout that is known; it may be "
        + "; or ".join(file_format.what for file_format in FORMATS)
    )
