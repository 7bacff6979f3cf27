"""Where the thesis' tests and those that the design asks for say different things, in words."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from codejoule.analysis.table import Table
from codejoule.domain.text import p_words
from codejoule.statistics import ALPHA

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = [
    "outcome", "factor", "held", "configuration", "reference", "thesis_test", "thesis_p_value",
    "paired_test", "paired_p_value", "words",
]  # fmt: skip


def disagreement_table(tables: Mapping[str, Table]) -> Table:
    """Every disagreement, one row each.

    Parameters
    ----------
    tables : mapping of str to Table
        The tables of `thesis_tables` and `paired_tables` by name.

    Returns
    -------
    Table
        ``disagreements``; its column ``words`` says in a sentence what differs and why.
    """
    import pandas as pd

    frames = {name: table.frame for name, table in tables.items()}
    rows = [
        *_omnibus(frames["kruskal_wallis"], frames["friedman"]),
        *_pairs(frames["dunn"], frames["energy_pairs"]),
        *_ranks(frames["energy_pairs"]),
        *_accuracy(frames["accuracy_pairs"]),
        *_regression(frames["regression"]),
    ]
    return Table(
        name="disagreements",
        title="Where the thesis' tests and the paired ones disagree",
        frame=pd.DataFrame(rows, columns=_COLUMNS),
        notes=("The paired ones fit the design: every configuration answers the same tasks.",),
    )


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _omnibus(kruskal: "pd.DataFrame", friedman: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    known = {(r["factor"], r["held"]): r for r in _records(kruskal)}
    for row in _records(friedman):
        other = known.get((row["factor"], row["held"]))
        if other is None or not _differ(other["p_value"], row["p_value_holm"]):
            continue
        if row["p_value_holm"] < ALPHA:
            says = (
                "finds no difference in energy among them, Friedman's does: it compares each "
                "task with itself, the other drowns the difference in that between tasks"
            )
        else:
            says = (
                "finds a difference in energy among them, Friedman's does not: it compares each "
                "task with itself, and adjusts for all sets of this setting"
            )
        yield {
            "outcome": "energy", "factor": row["factor"], "held": row["held"],
            "configuration": row["levels"], "reference": "",
            "thesis_test": "Kruskal-Wallis", "thesis_p_value": other["p_value"],
            "paired_test": "Friedman", "paired_p_value": row["p_value_holm"],
            "words": f"{_where(row)}{row['levels']}: Kruskal-Wallis' test (p "
            f"{p_words(other['p_value'])}) {says} (p {p_words(row['p_value_holm'])}).",
        }  # fmt: skip


def _pairs(dunn: "pd.DataFrame", energy: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    known = {_key(r): r for r in _records(dunn)}
    for row in _records(energy):
        other = known.get(_key(row))
        if other is None or not _differ(other["p_value_holm"], row["p_value_holm"]):
            continue
        found = f"{change_words(row)}; p {p_words(row['p_value_holm'])}"
        if row["p_value_holm"] < ALPHA:
            says = (
                f"finds no difference in energy, the paired comparison does: {found}. Tasks "
                "differ so much from one another that an unpaired test misses it"
            )
        else:
            why = (
                "variance between runs is as large" if row["between_runs"]
                else "task by task the difference is not consistent"
            )  # fmt: skip
            says = (
                f"finds a difference in energy, the paired comparison resolves none ({found}): "
                f"{why}"
            )
        yield _row(
            row, "energy", ("Dunn", other["p_value_holm"]), ("log-ratio", row["p_value_holm"]),
            f"Dunn's test (p {p_words(other['p_value_holm'])}) {says}.",
        )  # fmt: skip


def _ranks(energy: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    for row in _records(energy):
        ranks, ratio = row["wilcoxon_p_value_holm"], row["p_value_holm"]
        if not _differ(ranks, ratio):
            continue
        if ranks < ALPHA:
            why = (
                "the difference does not exceed that between runs, of which ranks of tasks know "
                "nothing" if row["between_runs"]
                else "most tasks differ in one direction, a few differ more in the other"
            )  # fmt: skip
            says = f"resolves a difference in energy, the mean ratio does not: {why}"
        else:
            says = (
                "resolves no difference in energy, the mean ratio does: a few tasks differ much, "
                "most do not"
            )
        yield _row(
            row, "energy", ("Wilcoxon", ranks), ("log-ratio", ratio),
            f"Wilcoxon's test (p {p_words(ranks)}) {says} ({change_words(row)}; "
            f"p {p_words(ratio)}).",
        )  # fmt: skip


def _accuracy(accuracy: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    for row in _records(accuracy):
        p, no_loss = row["p_value_holm"], row["no_loss_p_value_holm"]
        interval = f"{row['difference']:+.3f}, {_interval(row)}"
        if p >= ALPHA and not row["no_loss_shown"]:
            words = (
                f"pass@1 does not differ significantly (p {p_words(p)}), which the thesis reads as "
                f"no loss. It is no such evidence: a loss of {row['margin']:g} or more is not "
                f"excluded ({interval}; non-inferiority p {p_words(no_loss)})."
            )
        elif p < ALPHA and row["difference"] < 0 and row["no_loss_shown"]:
            words = (
                f"pass@1 is significantly lower (p {p_words(p)}), and yet the loss is shown to be "
                f"below the margin of {row['margin']:g} ({interval})."
            )
        else:
            continue
        yield _row(row, "pass@1", ("no significance", p), ("non-inferiority", no_loss), words)


def _regression(regression: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    known: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in _records(regression):
        known.setdefault((row["configuration"], row["term"]), {})[row["regression"]] = row
    for (configuration, term), fits in known.items():
        if len(fits) < 2 or not _differ(fits["thesis"]["p_value"], fits["hac"]["p_value"]):
            continue
        hc, hac = fits["thesis"]["p_value"], fits["hac"]["p_value"]
        one, other = ("an effect", "none") if hc < ALPHA else ("no effect", "one")
        yield {
            "outcome": "energy by domain", "factor": term, "held": "",
            "configuration": configuration, "reference": "",
            "thesis_test": "OLS, lagged energy, HC3", "thesis_p_value": hc,
            "paired_test": "OLS, HAC", "paired_p_value": hac,
            "words": f"{configuration}, {term}: the thesis' regression finds {one} on energy (p "
            f"{p_words(hc)}), the one with an intercept and errors that allow for autocorrelation "
            f"finds {other} (p {p_words(hac)}).",
        }  # fmt: skip


def change_words(row: Mapping[str, Any]) -> str:
    """E.g. ``4.9 % less energy per task, 95 % interval 3.1 % less to 6.6 % less``."""
    return f"{_percent(row['ratio'])} energy per task, 95 % interval " + (
        "unknown"
        if math.isnan(row["ci_low"]) or math.isnan(row["ci_high"])
        else f"{_percent(row['ci_low'])} to {_percent(row['ci_high'])}"
    )


def _percent(ratio: float) -> str:
    change = 100 * (ratio - 1)
    digits = 1 if abs(change) < 10 else 0
    return f"{abs(change):.{digits}f} % {'less' if change < 0 else 'more'}"


def _interval(row: Mapping[str, Any]) -> str:
    return f"95 % interval {row['ci_low']:+.3f} to {row['ci_high']:+.3f}"


def _row(
    row: Mapping[str, Any],
    outcome: str,
    thesis: tuple[str, float],
    paired: tuple[str, float],
    words: str,
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        **{name: row[name] for name in ("factor", "held", "configuration", "reference")},
        "thesis_test": thesis[0], "thesis_p_value": thesis[1],
        "paired_test": paired[0], "paired_p_value": paired[1],
        "words": f"{row['configuration']} against {row['reference']}: {words}",
    }  # fmt: skip


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("factor", "held", "configuration", "reference"))


def _differ(p: float, q: float) -> bool:
    """Whether exactly one of two known p-values is significant."""
    return not (math.isnan(p) or math.isnan(q)) and (p < ALPHA) != (q < ALPHA)


def _where(row: Mapping[str, Any]) -> str:
    return f"{row['factor']} ({row['held']}), " if row["held"] else f"{row['factor']}, "
