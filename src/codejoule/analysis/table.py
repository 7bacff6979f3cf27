"""A table of figures, as CSV, LaTeX and JSON."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from codejoule.domain.metrics import J_PER_KWH, KWH_FROM_J
from codejoule.domain.text import number, p_text

if TYPE_CHECKING:
    import pandas as pd

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}",
    }
)  # fmt: skip

_UNIT = re.compile(
    r"(?<!per)_(tokens_per_s|kwh|bytes|percent|j|(?<=power_)w|min|s|g)(?=$|_ci_|_lower$|_upper$)"
)
_SHOWN_UNITS: dict[str, tuple[tuple[float, str, float], ...]] = {
    # From which largest figure on, the unit that a reader sees, and how many of it make one.
    "kwh": ((0, "J", J_PER_KWH), (KWH_FROM_J / J_PER_KWH, "kWh", 1)),
    "bytes": ((0, "MB", 1e-6), (1e9, "GB", 1e-9)),
    "min": ((0, "s", 60), (2, "min", 1)),
}
_UNIT_NAMES = {"j": "J", "w": "W", "percent": "%", "tokens_per_s": "tokens/s"}
_FEWEST_E = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one kind, tidy: a column per variable, a row per observation."""

    name: str
    """File name without its ending, e.g. ``kruskal_wallis``."""
    title: str
    """What it shows, in words."""
    frame: "pd.DataFrame"
    """The rows; a figure that is undefined is NaN."""
    thesis: str = ""
    """Tables and figures of the thesis that it corresponds to; empty where there is none."""
    notes: tuple[str, ...] = ()
    """Sentences that a reader of the table needs."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Headings of columns whose names do not say enough."""

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]], columns: Sequence[str], **facts: Any) -> "Table":
        """A table of `rows`; what they hold beyond `columns` is left out."""
        import pandas as pd

        # pandas would fill a column whose name is misspelt with NaN.
        assert all(name in row for row in rows for name in columns), (facts, columns)
        return cls(frame=pd.DataFrame(rows, columns=list(columns)), **facts)

    def rows(self) -> list[dict[str, Any]]:
        """Each row by the names of its columns."""
        return [{str(k): v for k, v in row.items()} for row in self.frame.to_dict("records")]

    def without_accuracy(self) -> "Table":
        """The table without the columns that rest on pass@1."""
        kept = [c for c in self.frame.columns if "pass_at" not in c and "solved" not in c]
        return replace(self, frame=self.frame[kept])

    def as_json(self) -> dict[str, Any]:
        """The table as what `json.dumps` takes: undefined figures are null."""
        return {
            "name": self.name,
            "title": self.title,
            "thesis": self.thesis,
            "notes": list(self.notes),
            "columns": [
                {"name": name, "label": self.label(name), "kind": kind}
                for name, kind in zip(self.frame.columns, self.kinds(), strict=True)
            ],
            "rows": [[_plain(v) for v in row] for row in self.frame.itertuples(index=False)],
        }

    def label(self, column: str) -> str:
        """Heading of a column, with the unit that its cells have."""
        if column in self.labels:
            return self.labels[column]
        found = _UNIT.search(column)
        name = column if found is None else column[: found.start()] + column[found.end() :]
        words = name.replace("pass_at_1", "pass@1").replace("_", " ").replace("kwh", "kWh")
        return words if found is None else f"{words} [{self._unit(found[1])[0]}]"

    def _unit(self, unit: str) -> tuple[str, float]:
        """The unit in which a reader sees all columns of one unit, and the factor to it."""
        if unit not in _SHOWN_UNITS:
            return _UNIT_NAMES.get(unit, unit), 1.0
        own = [c for c in self.frame.columns if (f := _UNIT.search(c)) and f[1] == unit]
        values = self.frame[own].abs().to_numpy(dtype=float)
        largest = np.nanmax(values, initial=0)
        _, shown, factor = [u for u in _SHOWN_UNITS[unit] if largest >= u[0]][-1]
        return shown, factor

    def kinds(self) -> list[str]:
        """``number``, ``text`` or ``flag`` for each column."""
        return [_kind(self.frame[name]) for name in self.frame.columns]

    def cells(self) -> list[list[str]]:
        """Rows as a reader sees them."""
        columns = [self._column(name) for name in self.frame.columns]
        return [list(row) for row in zip(*columns, strict=True)]

    def _column(self, name: str) -> list[str]:
        own = self.frame[name]
        if own.dtype.kind == "f":
            found = _UNIT.search(name)
            own = own * (1.0 if found is None else self._unit(found[1])[1])
            known = own[np.isfinite(own)]
            if len(known) and (known == known.round()).all():
                # Counts that are means over runs.
                return [f"{v:,.0f}" if math.isfinite(v) else "-" for v in own]
        return [_cell(name, value) for value in own]

    def to_latex(self) -> str:
        """A ``longtable`` (package longtable) with booktabs' rules."""
        numeric = [kind == "number" for kind in self.kinds()]
        lines = [
            rf"\begin{{longtable}}{{{''.join('r' if n else 'l' for n in numeric)}}}",
            rf"\caption{{{_tex(self.caption())}}} \label{{tab:{self.name}}} \\",
            r"\toprule",
            " & ".join(_tex(self.label(name)) for name in self.frame.columns) + r" \\",
            r"\midrule",
            r"\endhead",
            *(" & ".join(map(_tex, row)) + r" \\" for row in self.cells()),
            r"\bottomrule",
            r"\end{longtable}",
        ]
        return "\n".join(lines) + "\n"

    def caption(self) -> str:
        """Title, thesis' number and notes in one paragraph."""
        of = f" (thesis: {self.thesis})" if self.thesis else ""
        return " ".join([f"{self.title}{of}.", *self.notes])


def _kind(column: "pd.Series[Any]") -> str:
    import pandas as pd

    if pd.api.types.is_bool_dtype(column):
        return "flag"
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(name: str, value: Any) -> str:
    value = _plain(value)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if name.endswith("p_value") or name.endswith("_holm"):
        return p_text(value)
    return f"{value:.1e}" if 0 < abs(value) < _FEWEST_E else number(value, digits=4)


def _tex(text: str) -> str:
    return text.translate(_LATEX)
