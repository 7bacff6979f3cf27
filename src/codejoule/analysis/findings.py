"""What the tables of a group say, in sentences."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codejoule.analysis.disagreements import change_words
from codejoule.analysis.table import Table
from codejoule.domain.text import p_words

if TYPE_CHECKING:
    from codejoule.analysis.evidence import Evidence

LISTED = 10
"""Comparisons of one setting up to which each gets a sentence."""

_DRIFTS = 1.5
_READ = (
    "energy_pairs", "accuracy_pairs", "efficiency", "assumptions", "disagreements",
    "kruskal_wallis",
)  # fmt: skip


def findings(evidence: "Evidence", tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Sentences for a reader who opens no table.

    Parameters
    ----------
    evidence : Evidence
        Configurations of one group.
    tables : mapping of str to Table
        All its tables by name.

    Returns
    -------
    tuple of str
        What was compared, what differs in energy and in pass@1, what is on the front, where
        tests disagree, and what is not known.
    """
    frames = {
        name: [{str(k): v for k, v in row.items()} for row in table.frame.to_dict("records")]
        for name, table in tables.items()
        if name in _READ
    }
    sentences = [_repeats(evidence)]
    for family in evidence.families:
        own = [r for r in frames["energy_pairs"] if r["factor"] == family.factor]
        sentences += _energy(family.factor, own)
        own = [r for r in frames.get("accuracy_pairs", []) if r["factor"] == family.factor]
        sentences += _accuracy(family.factor, own)
    sentences += _front(frames.get("efficiency", []))
    sentences += _drift(frames["assumptions"])
    sentences += _dependent(frames["energy_pairs"])
    count = len(frames["disagreements"])
    if count:
        words = frames["disagreements"][0]["words"]
        more = f" The other {count - 1} are in the table disagreements." if count > 1 else ""
        times = "once" if count == 1 else f"{count} times"
        sentences.append(
            f"The thesis' way of testing and the paired one disagree {times}. {words}{more}"
        )
    elif frames["kruskal_wallis"]:
        sentences.append("The thesis' tests and the paired ones agree here.")
    return tuple(sentences)


def _repeats(evidence: "Evidence") -> str:
    runs = evidence.table["runs"]
    count = f"{len(runs)} configuration{'s' if len(runs) > 1 else ''}"
    if (runs == 1).all():
        return (
            f"{count}, one run each: variance between runs is unknown. Intervals and tests tell "
            "how tasks differ; a run that was off as a whole would not show (repeat=1,2,3 tells)."
        )
    single = int((runs == 1).sum())
    if single:
        return (
            f"{count}, {len(runs) - single} of them with repeats; of the {single} with one run "
            "variance between runs is unknown, or taken from what it is compared with."
        )
    return (
        f"{count}, {int(runs.min())} to {int(runs.max())} runs each: intervals and verdicts on "
        "energy contain the variance between runs."
        if runs.min() < runs.max()
        else f"{count}, {int(runs.min())} runs each: intervals and verdicts on energy contain "
        "the variance between runs."
    )


def _energy(factor: str, rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    resolved = [r for r in rows if r["verdict"] in ("less", "more")]
    head = f"{factor}: {len(resolved)} of {len(rows)} comparisons resolve a difference in energy."
    if len(rows) > LISTED:
        return [head]
    return [head, *(f"{_names(r)}: {change_words(r)}{_tail(r)}" for r in rows)]


def _tail(row: dict[str, Any]) -> str:
    if row["verdict"] == "unknown":
        return "; not tested: the tasks were not metered in separate groups."
    verdict = "resolved" if row["verdict"] != "not resolved" else "not resolved"
    return f" (p {p_words(row['p_value_holm'])}: {verdict})."


def _accuracy(factor: str, rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    differ = sum(r["verdict"] in ("lower", "higher") for r in rows)
    kept = sum(r["no_loss_shown"] for r in rows)
    head = (
        f"{factor}: {differ} of {len(rows)} comparisons resolve a difference in pass@1; {kept} "
        f"exclude a loss beyond {rows[0]['margin']:g}."
    )
    if len(rows) > LISTED:
        return [head]
    return [head, *(accuracy_sentence(r) for r in rows)]


def accuracy_sentence(row: Mapping[Any, Any]) -> str:
    """What a row of ``accuracy_pairs`` says, wherever it is said."""
    test = "exact McNemar" if row["test"] == "mcnemar" else "t-test"
    resolved = "cannot resolve" if row["verdict"] == "not resolved" else "resolves"
    loss = (
        f"no loss beyond {row['margin']:g} is shown"
        if row["no_loss_shown"]
        else f"a loss of {row['margin']:g} is not excluded"
    )
    return (
        f"{_names(row)}: pass@1 {row['difference']:+.3f} (95 % interval {row['ci_low']:+.3f} to "
        f"{row['ci_high']:+.3f}; of {row['tasks']} tasks {row['lost']} lost, {row['gained']} "
        f"gained; {test}, p after Holm {p_words(row['p_value_holm'])}): this suite {resolved} a "
        f"difference; {loss}."
    )


def _front(rows: list[dict[str, Any]]) -> list[str]:
    on = [r for r in rows if r["on_front"]]
    if not on:
        return []
    named = ", ".join(
        r["configuration"]
        + ("" if math.isnan(r["front_probability"]) else f" ({r['front_probability']:.2f})")
        for r in on[:LISTED]
    )
    more = f" and {len(on) - LISTED} more" if len(on) > LISTED else ""
    known = not math.isnan(on[0]["front_probability"])
    what = " (share of bootstrap resamples in which each is on it)" if known else ""
    return [f"On the Pareto front of energy and pass@1{what}: {named}{more}."]


def _drift(rows: list[dict[str, Any]]) -> list[str]:
    low = sum(r["durbin_watson"] < _DRIFTS for r in rows)
    if not low:
        return []
    return [
        f"In {low} of {len(rows)} runs the energy of successive tasks is correlated "
        f"(Durbin-Watson below {_DRIFTS:g}): errors that allow for it are in the table regression."
    ]


def _dependent(rows: list[dict[str, Any]]) -> list[str]:
    """Warn of comparisons of single runs in which successive tasks differ alike."""
    low = [r for r in rows if not r["between_runs"] and r["durbin_watson"] < _DRIFTS]
    if not low:
        return []
    return [
        f"Caution: in {len(low)} of {len(rows)} comparisons the difference in energy drifts from "
        f"task to task (Durbin-Watson below {_DRIFTS:g}, e.g. {_names(low[0])}). Tests of single "
        "runs then find differences that are not there; repeats tell (repeat=1,2,3)."
    ]


def _names(row: Mapping[Any, Any]) -> str:
    return f"{row['configuration']} against {row['reference']}"
