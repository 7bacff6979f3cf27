"""What the page's figures and its explorer are drawn from, as JSON."""

from typing import Any

import numpy as np

from codejoule.analysis import Analysis, GroupAnalysis, LoadedRuns, power_table, task_table

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


def figures_json(analysis: Analysis, loaded: LoadedRuns) -> dict[str, Any]:
    """Collect what is drawn of an analysis of `loaded` runs.

    ``groups``, each with ``title``, ``short``, ``kind`` (`kind`), ``total_estimate``,
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
                    f"{missing} configurations of {short_title(group)} are not in the explorer: it "
                    f"holds {MOST_TASK_ROWS:,} rows, those on the Pareto front first."
                )
        groups.append(
            {
                "title": group.group.title,
                "short": short_title(group),
                "kind": kind(group),
                "total_estimate": "estimate"
                in group.group.facts.get("evaluation energy source", ""),
                "configurations": _points(group),
                "tasks": tasks,
            }
        )
    return {"groups": groups, "power": _power(analysis, loaded, cut), "cut": cut}


def kind(group: GroupAnalysis) -> str:
    """``published``, ``estimate`` or ``measured``: what the group's energy is."""
    if group.group.published:
        return "published"
    return "estimate" if group.group.estimate else "measured"


def short_title(group: GroupAnalysis) -> str:
    """A name of the group that fits beside a checkbox."""
    facts = group.group.facts
    where = facts.get("GPU") or facts.get("machine") or "unknown machine"
    suite = " ".join(facts[name] for name in ("suite", "split") if name in facts)
    return f"{suite or 'unknown suite'}, {kind(group)}, {where}"


def _points(group: GroupAnalysis) -> list[dict[str, Any]]:
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
    """Figures of tasks, column by column; None where the group has none."""
    evidence = group.evidence
    frame = task_table(evidence).frame
    if frame.empty:
        return None
    places = {task: i for i, task in enumerate(evidence.figures.task_ids)}
    names = list(evidence.figures.domains)
    of = {str(label): own for label, own in frame.groupby("configuration", sort=False)}
    front = dict(zip(evidence.labels, evidence.table["pareto"], strict=True))
    kept = []
    for label in sorted(of, key=lambda label: not front[label]):
        if len(of[label]) <= room:
            room -= len(of[label])
            kept.append(label)
    kept.sort(key=evidence.labels.index)
    return {
        "ids": list(evidence.figures.task_ids),
        "domains": names,
        "domains_of": [
            [d for d, name in enumerate(names) if evidence.figures.domains[name][i]]
            for i in range(len(evidence.figures.task_ids))
        ],
        "configurations": [evidence.labels.index(label) for label in kept],
        "task": [[places[task] for task in of[label]["task_id"]] for label in kept],
        **{
            name: [[_rounded(v) for v in of[label][name]] for label in kept]
            for name in ("order", "energy_j", "output_tokens", "latency_s", "passed")
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
    frame = power_table(loaded.frame, wanted, uri=loaded.uri, points=POWER_POINTS).frame
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
