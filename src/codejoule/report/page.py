"""The page: everything that an analysis says, in one HTML file that needs no other."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis import (
    Analysis,
    GroupAnalysis,
    LoadedRuns,
    PowerProfile,
    RatioCurve,
    power_profiles,
    ratio_curves,
)
from codejoule.analysis.families import heading, setting_text, short_names
from codejoule.config.writing import write_whole
from codejoule.report.attempts import Texts, group_attempts
from codejoule.report.measured import predictions_table, provenance, runs_table
from codejoule.report.terminal import Column, ranked, table_columns

MOST_ROWS = 600
"""Rows of a table that the page shows."""
MOST_TASK_ROWS = 120_000
"""Tasks times configurations that the page holds: about 3 MB."""
MOST_POWER_RUNS = 60
"""Runs whose power over time the page holds."""
POWER_POINTS = 160
"""Parts of a run's time for each of which it holds the mean power."""
MOST_WINDOWS = 80
"""Windows of a run above which those that follow at once are drawn as one."""

_POINT = (
    "pass_at_1", "pass_at_1_ci_low", "pass_at_1_ci_high", "energy_per_solved_task_j",
    "energy_per_task_j", "energy_per_output_token_j", "energy_total_j", "throughput_tokens_per_s",
)  # fmt: skip
_QUANTIZATION = ("quantization_pays", "quantization_by_batch")
"""Tables that stand beside the curves."""
_HEADINGS = {"J/solved": "J per correct program", "J/token": "J per token"}


def write_report(analysis: Analysis, loaded: LoadedRuns, folder: Path) -> Path:
    """Write the page ``index.html`` in `folder`, from an `analysis` of `loaded` runs.

    The same runs and options give the same bytes. Only the page's own script runs: its content
    security policy names it by its hash. Raises `UserError` if the store fails while power over
    time and answers are read.
    """
    import jinja2

    loader = jinja2.PackageLoader("codejoule.report", "templates")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    script = loader.get_source(environment, "report.js")[0]
    text = environment.get_template("report.html").render(
        analysis=analysis,
        views=[_view(i, group) for i, group in enumerate(analysis.groups, start=1)],
        figures=_figures(analysis, loaded),
        most_rows=MOST_ROWS,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
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
        "answer": group.answer,
        "configurations": _table(group),
        "labels": [group.evidence.labels[i] for i in ranked(group)],
        "findings": [s for s in group.findings if s not in pairs],
        "pairs": [*pairs, *(note for note in group.notes if note not in pairs)],
        "quantization": [group.tables[name] for name in _QUANTIZATION if name in group.tables],
        "tables": [
            table
            for name, table in group.tables.items()
            if len(table.frame) and name not in _QUANTIZATION
        ],
        "predictions": predictions_table(group),
        "provenance": provenance(group),
        "runs": runs_table(group),
    }


def _table(group: GroupAnalysis) -> list[tuple[Column, str]]:
    """The terminal's table with its columns' kinds, rows as ranked."""
    table, rank = group.evidence.table, ranked(group)
    names = short_names(table, group.evidence.settings)
    settings, figures = table_columns(table.loc[rank])
    kept: list[tuple[Column, str]] = [(("configuration", [names[i] for i in rank]), "text")]
    kept += [(column, "number") for column in settings if column[0] == "runs"]
    # The chart draws the front, of the energy and the configurations that a reader chooses.
    known = [(title, cells) for title, cells in figures if set(cells) != {"-"}]
    shown = [(title, cells) for title, cells in known if title != "front"]
    kept += [((_HEADINGS.get(title, title), cells), "number") for title, cells in shown]
    kept.sort(key=lambda column: column[1] == "number" and column[0][0] != _HEADINGS["J/solved"])
    return kept


def _figures(analysis: Analysis, loaded: LoadedRuns) -> dict[str, Any]:
    """Collect what is drawn of an analysis of `loaded` runs.

    ``groups``, each with ``short``, ``kind`` (`_kind`), ``total_estimate``, ``configurations``
    (settings and figures), ``tasks`` (a list per configuration and figure; ``configurations`` says
    of which), ``attempts`` (`group_attempts`), ``curves`` (`ratio_curves`) and ``power`` (one per
    run); ``texts``; ``cut``: sentences that say what did not fit. Figures have four digits, those
    that are undefined are null.
    """
    cut: list[str] = []
    room, texts = MOST_TASK_ROWS, Texts()
    power = _power(analysis, loaded, cut)
    groups = []
    for g, group in enumerate(analysis.groups):
        tasks = _tasks(group, room)
        attempts: dict[int, Any] = {}
        if tasks is not None:
            room -= sum(len(own) for own in tasks["task"])
            missing = sum(rows.size > 0 for rows in group.evidence.rows) - len(tasks["task"])
            if missing:
                cut.append(
                    f"{missing} configurations of {_short_title(group)} are not in the list of "
                    f"tasks: it holds {MOST_TASK_ROWS:,} rows, those on the Pareto front first."
                )
            attempts, unheld = group_attempts(group, loaded, tasks["configurations"], texts)
            cut += unheld
        groups.append(
            {
                "short": _short_title(group),
                "kind": _kind(group),
                "total_estimate": "estimate"
                in group.group.facts.get("evaluation energy source", ""),
                "configurations": _configurations(group),
                "tasks": tasks,
                "attempts": attempts,
                "power": power.get(g, []),
                "curves": [_curve(curve) for curve in ratio_curves(group.evidence)],
            }
        )
    return {"groups": groups, "texts": texts.held, "cut": cut}


def _curve(curve: RatioCurve) -> dict[str, Any]:
    """A curve as the script draws it."""
    return {
        "label": curve.label,
        "batches": list(curve.batches),
        **{
            name: [_rounded(v) for v in getattr(curve, name)]
            for name in ("ratios", "lows", "highs")
        },
        "conclusion": curve.conclusion,
    }


def _kind(group: GroupAnalysis) -> str:
    """``published``, ``estimate`` or ``measured``: what the group's energy is."""
    if group.group.published:
        return "published"
    return "estimate" if group.group.estimate else "measured"


def _short_title(group: GroupAnalysis) -> str:
    """A name of the group that fits into a list to choose from."""
    facts = group.group.facts
    where = facts.get("GPU") or facts.get("machine") or "unknown machine"
    suite = " ".join(facts[name] for name in ("suite", "split") if name in facts)
    return f"{suite or 'unknown suite'}, {_kind(group)}, {where}"


def _configurations(group: GroupAnalysis) -> list[dict[str, Any]]:
    evidence = group.evidence
    table, names = evidence.table, evidence.settings
    return [
        {
            "label": label,
            "name": short,
            "settings": {
                heading(name, names): f"b{row[name]}"
                if name == "batch"
                else setting_text(name, row[name], names)
                for name in names
            },
            "runs": int(row["runs"]),
            **{name: _rounded(row[name]) for name in _POINT},
        }
        for label, short, row in zip(
            evidence.labels, short_names(table, names), table.to_dict("records"), strict=True
        )
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

    def listed(name: str, c: int) -> list[float | int | None]:
        means = getattr(figures, name)[evidence.rows[c]].mean(axis=0)
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
        **{n: [listed(n, c) for c in kept] for n in ("energy_j", "output_tokens", "passed")},
    }


def _power(
    analysis: Analysis, loaded: LoadedRuns, cut: list[str]
) -> dict[int, list[dict[str, Any]]]:
    """Power over time of the runs of each group."""
    owner: dict[Any, tuple[int, int]] = {
        run_id: (g, c)
        for g, group in enumerate(analysis.groups)
        for c, ids in enumerate(group.evidence.table["run_ids"])
        for run_id in ids
    }
    wanted = sorted((r for r in loaded.frame["run_id"] if r in owner), key=lambda r: owner[r])
    if len(wanted) > MOST_POWER_RUNS:
        cut.append(
            f"Power over time of the first {MOST_POWER_RUNS} of {len(wanted)} runs: the others' is "
            "in their artifact power.parquet."
        )
        wanted = wanted[:MOST_POWER_RUNS]
    names = dict(zip(loaded.frame["run_id"], loaded.frame["run_name"], strict=True))
    drawn: dict[int, list[dict[str, Any]]] = {}
    for own in power_profiles(loaded.frame, wanted, uri=loaded.uri, points=POWER_POINTS):
        g, c = owner[own.run_id]
        drawn.setdefault(g, []).append(
            {
                "run": names[own.run_id],
                "configuration": c,
                "end_s": _rounded(own.edges_s[-1]),
                "power_w": [_rounded(v) for v in own.power_w],
                "windows_s": [[_rounded(v) for v in window] for window in _drawn_windows(own)],
                "windows": len(own.windows_s),
                "sampled_j": _rounded(own.sampled_j),
                "energy_j": _rounded(own.energy_j),
            }
        )
    return drawn


def _drawn_windows(own: PowerProfile) -> Sequence[NDArray[np.float64]]:
    """The windows; of many those that follow one another at once as one."""
    windows_s = own.windows_s
    if len(windows_s) <= MOST_WINDOWS:
        return list(windows_s)
    apart = windows_s[1:, 0] - windows_s[:-1, 1] > own.edges_s[-1] / (2 * POWER_POINTS)
    parts = np.split(windows_s, np.flatnonzero(apart) + 1)
    return [np.array([part[0, 0], part[-1, 1]]) for part in parts]


def _rounded(value: Any) -> float | int | None:
    number = float(value)
    if not np.isfinite(number):
        return None
    number = float(f"{number:.4g}") if abs(number) < 1000 else round(number, 1)
    return int(number) if number.is_integer() else number
