"""What the tables of a group say, in sentences."""

import math
from collections.abc import Mapping

from codejoule.analysis.evidence import Evidence
from codejoule.analysis.table import Table
from codejoule.statistics import STATISTICS, Row

LISTED = 10
"""Comparisons of one setting up to which each gets a sentence."""


def findings(evidence: Evidence, tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Sentences for a reader who opens no table.

    What was compared, what differs in energy and in pass@1, what is on the front, where tests
    disagree, and what is not known.
    """
    rows = {name: table.rows() for name, table in tables.items()}
    made = [(statistic, rows[statistic.name]) for statistic in STATISTICS if statistic.name in rows]
    sentences = [_repeats(evidence)]
    for factor in (family.factor for family in evidence.families):
        for statistic, every in made:
            own = [row for row in every if row.get("factor") == factor]
            if not own or statistic.headline is None or statistic.sentence is None:
                continue
            sentences.append(f"{factor}: {statistic.headline(own)}")
            if len(own) <= LISTED:
                sentences += [statistic.sentence(row) for row in own]
    cautions = [s.caution(every) for s, every in made if s.caution is not None]
    return (
        *sentences,
        *_front(rows.get("efficiency", [])),
        *(caution for caution in cautions if caution),
        *_agreement(rows),
    )


def _repeats(evidence: Evidence) -> str:
    runs = evidence.table["runs"]
    count = f"{len(runs)} configuration{'s' if len(runs) > 1 else ''}"
    single = int((runs == 1).sum())
    if single == len(runs):
        return (
            f"{count}, one run each: variance between runs is unknown. Intervals and tests tell "
            "how tasks differ; a run that was off as a whole would not show (repeat=1,2,3 tells)."
        )
    if single:
        return (
            f"{count}, {len(runs) - single} of them with repeats; of the {single} with one run "
            "variance between runs is unknown, or taken from what it is compared with."
        )
    fewest, most = int(runs.min()), int(runs.max())
    each = f"{fewest} to {most}" if fewest < most else f"{fewest}"
    return (
        f"{count}, {each} runs each: intervals and verdicts on energy contain the variance "
        "between runs."
    )


def _front(rows: list[Row]) -> list[str]:
    on = [row for row in rows if row["on_front"]]
    if not on:
        return []
    known = not math.isnan(on[0]["front_probability"])
    named = ", ".join(
        row["configuration"] + (f" ({row['front_probability']:.2f})" if known else "")
        for row in on[:LISTED]
    )
    more = f" and {len(on) - LISTED} more" if len(on) > LISTED else ""
    what = " (share of bootstrap resamples in which each is on it)" if known else ""
    return [f"On the Pareto front of energy and pass@1{what}: {named}{more}."]


def _agreement(rows: dict[str, list[Row]]) -> list[str]:
    found = rows["disagreements"]
    if not found:
        agree = "The thesis' tests and the paired ones agree here."
        return [agree] if rows["kruskal_wallis"] else []
    count = len(found)
    times = "once" if count == 1 else f"{count} times"
    more = f" The other {count - 1} are in the table disagreements." if count > 1 else ""
    return [
        f"The thesis' way of testing and the paired one disagree {times}. {found[0]['words']}{more}"
    ]
