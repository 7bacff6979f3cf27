"""The estimator of Buis (2024) as its author wrote it: section 3.6, equation by equation.

Kept apart from the estimator proper, which corrects it: nothing outside of this package computes
with these equations but `codejoule estimate --thesis`.

References
----------
M. Buis (2024), "Walking the tightrope: balancing energy efficiency and accuracy in LLM-driven
code generation", MSc thesis, Utrecht University.
"""

from codejoule.thesis.estimator import equations
from codejoule.thesis.estimator.figures import FigureCheck, figure_checks
from codejoule.thesis.estimator.tables import (
    COLUMNS,
    TableRow,
    table_inputs,
    table_times_s,
    thesis_tables,
)

__all__ = [
    "COLUMNS",
    "FigureCheck",
    "TableRow",
    "equations",
    "figure_checks",
    "table_inputs",
    "table_times_s",
    "thesis_tables",
]
