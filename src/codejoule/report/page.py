"""The page: everything an analysis says, in one HTML file that needs no other."""

from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis import Analysis, GroupAnalysis, LoadedRuns, front_energy, power_table
from codejoule.config.writing import write_whole
from codejoule.domain.metrics import J_PER_KWH
from codejoule.domain.text import number
from codejoule.report.measured import predictions_table, provenance, runs_table
from codejoule.report.terminal import KWH_FROM_J, accuracy

MOST_ROWS = 600
"""Rows of a table that the page shows."""
MOST_TASK_ROWS = 120_000
"""Tasks times configurations that the page holds: about 3 MB."""
MOST_POWER_RUNS = 60
"""Runs whose power over time the page holds."""
POWER_POINTS = 80
"""Points of power per run and device."""

_POINT = (
    "pass_at_1", "pass_at_1_ci_low", "pass_at_1_ci_high", "energy_per_task_j",
    "energy_generation_j", "energy_total_j", "energy_per_solved_task_j",
)  # fmt: skip


class Card(NamedTuple):
    """One figure that stands out: what it is, its value with a unit, and the configuration."""

    name: str
    value: str
    of: str


def write_report(analysis: Analysis, loaded: LoadedRuns, folder: Path) -> Path:
    """Write the page ``index.html`` in `folder`, from an `analysis` of `loaded` runs.

    The same runs and options give the same bytes. Raises `UserError` if the store fails while power
    over time is read.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("codejoule.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    text = environment.get_template("report.html").render(
        analysis=analysis,
        views=[_view(i, group) for i, group in enumerate(analysis.groups, start=1)],
        figures=_figures(analysis, loaded),
        most_rows=MOST_ROWS,
    )
    write_whole(folder / "index.html", text)
    return folder / "index.html"


def _view(number: int, group: GroupAnalysis) -> dict[str, Any]:
    """A group as the template shows it; sentences on single pairs apart from the others."""
    pairs = [s for s in group.findings if " against " in s.partition(": ")[0]]
    return {
        "number": number,
        "title": group.group.title,
        "kind": _kind(group),
        "cards": _cards(group),
        "findings": [s for s in group.findings if s not in pairs],
        "pairs": [*pairs, *(note for note in group.notes if note not in pairs)],
        "answer": group.answer,
        "tables": [table for table in group.tables.values() if len(table.frame)],
        "predictions": predictions_table(group),
        "provenance": provenance(group),
        "runs": runs_table(group),
    }


def _cards(group: GroupAnalysis) -> list[Card]:
    table, labels = group.evidence.table, group.evidence.labels
    basis = front_energy(table)
    what = "generation and evaluation" if basis == "energy_total_j" else "generation"
    passed, energy_j = table["pass_at_1"].to_numpy(float), table[basis].to_numpy(float)
    solved_j = table["energy_per_solved_task_j"].to_numpy(float)
    rates = table[["pass_at_1", "pass_at_1_ci_low", "pass_at_1_ci_high"]].to_numpy(float)
    best = (
        (f"Least energy ({what})", _best(energy_j, -passed), map(energy_text, energy_j)),
        ("Best pass@1 [95 % interval]", _best(-passed, energy_j), starmap(accuracy, rates)),
        ("Least energy per solved task", _best(solved_j, energy_j), map(energy_text, solved_j)),
    )
    cards = [Card(name, list(texts)[i], labels[i]) for name, i, texts in best if i is not None]
    front = int(table["pareto"].sum())
    if len(table) > 1 and front:
        cards.append(Card("On the Pareto front", f"{front} of {len(table)}", "configurations"))
    return cards


def _best(values: NDArray[np.float64], ties: NDArray[np.float64]) -> int | None:
    """Row of the smallest figure, of equal ones that of the smallest tie; None: none is known."""
    i = int(np.lexsort((ties, np.round(values, 9)))[0])
    return None if np.isnan(values[i]) else i


def energy_text(energy_j: float) -> str:
    """An energy with the unit that suits it."""
    if energy_j >= KWH_FROM_J:
        return f"{number(energy_j / J_PER_KWH)} kWh"
    return f"{number(energy_j)} J"


def _figures(analysis: Analysis, loaded: LoadedRuns) -> dict[str, Any]:
    """Collect what is drawn of an analysis of `loaded` runs.

    ``groups``, each with ``title``, ``short``, ``kind`` (`_kind`), ``total_estimate``,
    ``configurations`` (settings and figures) and ``tasks`` (a list per configuration and figure;
    ``configurations`` says of which); ``power`` (a line per run and device); ``cut``: sentences
    that say what did not fit. Figures have four digits, those that are undefined are null.
    """
    cut: list[str] = []
    room = MOST_TASK_ROWS
    groups = []
    for group in analysis.groups:
        tasks = _tasks(group, room)
        if tasks is not None:
            room -= sum(len(own) for own in tasks["task"])
            missing = sum(rows.size > 0 for rows in group.evidence.rows) - len(tasks["task"])
            if missing:
                cut.append(
                    f"{missing} configurations of {_short_title(group)} are not in the explorer: "
                    f"it holds {MOST_TASK_ROWS:,} rows, those on the Pareto front first."
                )
        groups.append(
            {
                "title": group.group.title,
                "short": _short_title(group),
                "kind": _kind(group),
                "total_estimate": "estimate"
                in group.group.facts.get("evaluation energy source", ""),
                "configurations": _configurations(group),
                "tasks": tasks,
            }
        )
    return {"groups": groups, "power": _power(analysis, loaded, cut), "cut": cut}


def _kind(group: GroupAnalysis) -> str:
    """``published``, ``estimate`` or ``measured``: what the group's energy is."""
    if group.group.published:
        return "published"
    return "estimate" if group.group.estimate else "measured"


def _short_title(group: GroupAnalysis) -> str:
    """A name of the group that fits beside a checkbox."""
    facts = group.group.facts
    where = facts.get("GPU") or facts.get("machine") or "unknown machine"
    suite = " ".join(facts[name] for name in ("suite", "split") if name in facts)
    return f"{suite or 'unknown suite'}, {_kind(group)}, {where}"


def _configurations(group: GroupAnalysis) -> list[dict[str, Any]]:
    table = group.evidence.table
    return [
        {
            "label": label,
            "model": str(row["model"]),
            "quant": str(row["quant"]),
            "batch": str(row["batch"]),
            "runs": int(row["runs"]),
            **{name: _rounded(row[name]) for name in _POINT},
        }
        for label, row in zip(group.evidence.labels, table.to_dict("records"), strict=True)
    ]


def _tasks(group: GroupAnalysis, room: int) -> dict[str, Any] | None:
    """Figures of tasks, means over the runs of a configuration; None where the group has none."""
    evidence, figures = group.evidence, group.evidence.figures
    places = {
        c: np.flatnonzero((figures.window[rows] >= 0).all(axis=0))
        for c, rows in enumerate(evidence.rows)
        if rows.size
    }
    if not any(map(len, places.values())):
        return None
    kept = []
    for c in sorted(places, key=lambda c: not evidence.table["pareto"].iloc[c]):
        if 0 < len(places[c]) <= room:
            room -= len(places[c])
            kept.append(c)
    kept.sort()
    names = list(figures.domains)

    def listed(name: str, c: int, rows: NDArray[np.int64]) -> list[float | int | None]:
        means = getattr(figures, name)[rows].mean(axis=0)
        return [_rounded(value) for value in means[places[c]]]

    return {
        "ids": list(figures.task_ids),
        "domains": names,
        "domains_of": [
            [d for d, name in enumerate(names) if figures.domains[name][i]]
            for i in range(len(figures.task_ids))
        ],
        "configurations": kept,
        "task": [places[c].tolist() for c in kept],
        "order": [listed("order", c, evidence.rows[c][:1]) for c in kept],
        **{
            name: [listed(name, c, evidence.rows[c]) for c in kept]
            for name in ("energy_j", "output_tokens", "latency_s", "passed")
        },
    }


def _power(analysis: Analysis, loaded: LoadedRuns, cut: list[str]) -> list[dict[str, Any]]:
    """A line per run and device."""
    owner: dict[Any, tuple[int, int]] = {
        run_id: (g, c)
        for g, group in enumerate(analysis.groups)
        for c, ids in enumerate(group.evidence.table["run_ids"])
        for run_id in ids
    }
    wanted = [run_id for run_id in loaded.frame["run_id"] if run_id in owner]
    if len(wanted) > MOST_POWER_RUNS:
        cut.append(
            f"Power over time of the first {MOST_POWER_RUNS} of {len(wanted)} runs: the others' is "
            "in their artifact power.parquet."
        )
        wanted = wanted[:MOST_POWER_RUNS]
    frame = power_table(loaded.frame, wanted, uri=loaded.uri, points=POWER_POINTS)
    names = dict(zip(loaded.frame["run_id"], loaded.frame["run_name"], strict=True))
    return [
        {
            "run": names[run_id],
            "device": str(device),
            "group": owner[run_id][0],
            "configuration": owner[run_id][1],
            **{name: [_rounded(v) for v in own[name]] for name in ("time_s", "power_w")},
        }
        for (run_id, device), own in frame.groupby(["run_id", "device"], sort=False)
    ]


def _rounded(value: Any) -> float | int | None:
    number = float(value)
    if not np.isfinite(number):
        return None
    number = float(f"{number:.4g}") if abs(number) < 1000 else round(number, 1)
    return int(number) if number.is_integer() else number
