"""A table of figures, as CSV, LaTeX and JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

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
        """Heading of a column."""
        return self.labels.get(column, column.replace("_", " "))

    def kinds(self) -> list[str]:
        """``number``, ``text`` or ``flag`` for each column."""
        return [_kind(self.frame[name]) for name in self.frame.columns]

    def cells(self) -> list[list[str]]:
        """Rows as a reader sees them."""
        return [
            [_cell(name, value) for name, value in zip(self.frame.columns, row, strict=True)]
            for row in self.frame.itertuples(index=False)
        ]

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
    if not isinstance(value, float):
        return str(value)
    if name.endswith("p_value") or name.endswith("_holm"):
        return p_text(value)
    return f"{value:.3e}" if 0 < abs(value) < 1e-4 else number(value, digits=4)


def _tex(text: str) -> str:
    return text.translate(_LATEX)
