"""Says in sentences what the tables of a group show, and where their tests disagree."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from codejoule.analysis.evidence import Evidence
from codejoule.analysis.table import Table
from codejoule.domain.text import p_words
from codejoule.statistics import ALPHA, KEYS, STATISTICS, Row
from codejoule.statistics.accuracy import difference_words
from codejoule.statistics.log_ratio import change_words
from codejoule.statistics.statistic import pair_words

LISTED = 10
"""Comparisons of one setting up to which each gets a sentence."""

_COLUMNS = (
    "outcome", *KEYS["pair"], "thesis_test", "thesis_p_value", "paired_test", "paired_p_value",
    "words",
)  # fmt: skip


def findings(evidence: Evidence, tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Sentences for a reader who does not open the tables.

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
            f"{count}, one run each. Intervals rest on how tasks differ. They do not contain the "
            "variance between runs, which one run cannot show; repeat=1,2,3 measures it."
        )
    if single:
        return (
            f"{count}, {len(runs) - single} of them with repeats, {single} with one run. Where one "
            "of each kind is compared, the variance between the repeats counts for both. Where two "
            "with one run are compared, the interval does not contain the variance between runs."
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


def disagreement_table(rows: Mapping[str, list[Row]]) -> Table:
    """Every disagreement among the tables' rows (by the tables' names), one row each.

    Its column ``words`` says in a sentence what differs and why.
    """
    found = [
        *_omnibus(rows["kruskal_wallis"], rows["friedman"]),
        *_pairs(rows["dunn"], rows["energy_pairs"]),
        *_ranks(rows["energy_pairs"]),
        *_accuracy(rows.get("accuracy_pairs", [])),
        *_regression(rows["regression"]),
    ]
    return Table.of(
        found,
        _COLUMNS,
        name="disagreements",
        title="Where the thesis' tests and the paired ones disagree",
        notes=("The paired ones fit the design: every configuration answers the same tasks.",),
    )


def _omnibus(kruskal: list[Row], friedman: list[Row]) -> Iterator[Row]:
    known = {(row["factor"], row["held"]): row["p_value"] for row in kruskal}
    for row in friedman:
        unpaired, paired = known.get((row["factor"], row["held"]), math.nan), row["p_value_holm"]
        if not _differ(unpaired, paired):
            continue
        if paired < ALPHA:
            says = (
                "finds no difference in energy among them, Friedman's does: it compares each "
                "task with itself, while the other hides the difference behind those between tasks"
            )
        else:
            says = (
                "finds a difference in energy among them, Friedman's does not: it compares each "
                "task with itself, and adjusts for all sets of this setting"
            )
        held = f" ({row['held']})" if row["held"] else ""
        yield _row(
            row | {"configuration": row["levels"], "reference": ""},
            "energy",
            ("Kruskal-Wallis", unpaired),
            ("Friedman", paired),
            f"{row['factor']}{held}, {row['levels']}: Kruskal-Wallis' test (p "
            f"{p_words(unpaired)}) {says} (p {p_words(paired)}).",
        )


def _pairs(dunn: list[Row], energy: list[Row]) -> Iterator[Row]:
    known = {_key(row): row["p_value_holm"] for row in dunn}
    for row in energy:
        unpaired, paired = known.get(_key(row), math.nan), row["p_value_holm"]
        if not _differ(unpaired, paired):
            continue
        found = f"{change_words(row)}; p {p_words(paired)}"
        if paired < ALPHA:
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
        words = f"{pair_words(row)}: Dunn's test (p {p_words(unpaired)}) {says}."
        yield _row(row, "energy", ("Dunn", unpaired), ("log-ratio", paired), words)


def _ranks(energy: list[Row]) -> Iterator[Row]:
    for row in energy:
        ranks, ratio = row["wilcoxon_p_value_holm"], row["p_value_holm"]
        if not _differ(ranks, ratio):
            continue
        if ratio < ALPHA:
            says = (
                "resolves no difference in energy, the mean ratio does: a few tasks differ much, "
                "most do not"
            )
        else:
            why = (
                "the difference does not exceed that between runs, which ranks of tasks ignore"
                if row["between_runs"]
                else "most tasks differ in one direction, a few differ more in the other"
            )  # fmt: skip
            says = f"resolves a difference in energy, the mean ratio does not: {why}"
        words = (
            f"{pair_words(row)}: Wilcoxon's test (p {p_words(ranks)}) {says} "
            f"({change_words(row)}; p {p_words(ratio)})."
        )
        yield _row(row, "energy", ("Wilcoxon", ranks), ("log-ratio", ratio), words)


def _accuracy(accuracy: list[Row]) -> Iterator[Row]:
    for row in accuracy:
        p, no_loss = row["p_value_holm"], row["no_loss_p_value_holm"]
        if p >= ALPHA and not row["no_loss_shown"]:
            words = (
                f"pass@1 does not differ significantly (p {p_words(p)}), which the thesis reads as "
                f"no loss. It is no such evidence: a loss of {row['margin']:g} or more is not "
                f"excluded ({difference_words(row)}; non-inferiority p {p_words(no_loss)})."
            )
        elif p < ALPHA and row["difference"] < 0 and row["no_loss_shown"]:
            words = (
                f"pass@1 is significantly lower (p {p_words(p)}), and yet the loss is shown to be "
                f"below the margin of {row['margin']:g} ({difference_words(row)})."
            )
        else:
            continue
        tests = ("no significance", p), ("non-inferiority", no_loss)
        yield _row(row, "pass@1", *tests, f"{pair_words(row)}: {words}")


def _regression(regression: list[Row]) -> Iterator[Row]:
    known: dict[tuple[str, str], dict[str, float]] = {}
    for row in regression:
        fits = known.setdefault((row["configuration"], row["term"]), {})
        fits[row["regression"]] = row["p_value"]
    for (configuration, term), p_values in known.items():
        hc, hac = p_values.get("thesis", math.nan), p_values.get("hac", math.nan)
        if not _differ(hc, hac):
            continue
        one, other = ("an effect", "none") if hc < ALPHA else ("no effect", "one")
        names = {"factor": term, "held": "", "configuration": configuration, "reference": ""}
        yield _row(
            names,
            "energy by domain",
            ("OLS, lagged energy, HC3", hc),
            ("OLS, HAC", hac),
            f"{configuration}, {term}: the thesis' regression finds {one} on energy (p "
            f"{p_words(hc)}), the one with an intercept and errors that allow for autocorrelation "
            f"finds {other} (p {p_words(hac)}).",
        )


def _row(
    row: Row, outcome: str, thesis: tuple[str, float], paired: tuple[str, float], words: str
) -> Row:
    tests = (outcome, *_key(row), *thesis, *paired, words)
    return dict(zip(_COLUMNS, tests, strict=True))


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS["pair"])


def _differ(p: float, q: float) -> bool:
    """Whether exactly one of two known p-values is significant."""
    return not (math.isnan(p) or math.isnan(q)) and (p < ALPHA) != (q < ALPHA)
