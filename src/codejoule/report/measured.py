"""Where a group's figures come from, in words and per run."""

import math
from typing import TYPE_CHECKING, Any

from codejoule.analysis import GroupAnalysis, Table
from codejoule.analysis.comparison import DEVICES
from codejoule.domain.text import number

if TYPE_CHECKING:
    import pandas as pd

SOURCES = {
    "nvml": "the GPU's own energy counter, read through NVML; a window's error falls with its "
    "length (a few percent from one second on), and windows add up to the run",
    "rapl": "the CPU's own energy counter (RAPL)",
    "estimate": "an estimate, not a measurement: CPU time x assumed watts per core. It is good "
    "only for comparing estimates of the same machine",
    "replay": "a recording that was played again",
    "published": "printed in the literature, not measured here",
}
"""What each source of energy is."""

_PREDICTED = {"memory_bytes": "memory_peak_bytes"}
_UNITS = (
    ("_tokens_per_s", "tokens/s", 1), ("_bytes", "GB", 1e-9), ("_j", "J", 1), ("_w", "W", 1),
    ("_s", "s", 1),
)  # fmt: skip


def provenance(group: GroupAnalysis) -> list[tuple[str, str]]:
    """What was measured, and how: terms and explanations."""
    facts = group.group.facts
    frame = group.group.frame
    rows = [
        ("Energy of generation", _source(facts.get("energy source"))),
        ("Energy of evaluation", _source(facts.get("evaluation energy source"))),
        ("Scope", with_packages(facts.get("energy scope", "unknown"), frame.get(DEVICES))),
        ("GPU", facts.get("GPU", "none")),
        ("Machine", facts.get("machine", "unknown")),
        ("Weights", facts.get("weights", "unknown")),
        ("Tasks", f"{facts.get('suite', 'unknown')} {facts.get('split', '')}".strip()),
        ("Output length", facts.get("length", "unknown")),
        ("Cross-check", _crosscheck(frame.get("metrics.energy_crosscheck_rel"))),
        (
            "Uncertainty",
            "intervals of pass@1 are Wilson's; those of energy are bootstraps over separately "
            "metered groups of tasks, and over runs where there are repeats",
        ),
    ]
    for term, tag in (("Source", "source"), ("Note", "energy_note")):
        own = frame.get(f"tags.codejoule.{tag}")
        rows += [] if own is None else [(term, text) for text in sorted(set(own.dropna()))]
    return rows


def with_packages(scope: str, devices: "pd.Series[str] | None") -> str:
    """A scope of energy, and the CPU packages that it covers where their counters gave it: whether
    memory is counted, too, differs between processors. `devices` has those of each run, such as
    ``cpu:0, dram:0``."""
    known = [] if devices is None else sorted(set(devices.dropna()))
    words = "; ".join(filter(None, map(_packages, known)))
    return f"{scope} ({words})" if words else scope


def _packages(devices: str) -> str:
    kinds: dict[str, list[str]] = {"cpu": [], "dram": []}
    for device in devices.split(", "):
        kind, _, number_ = device.partition(":")
        kinds.setdefault(kind, []).append(number_)
    packages, memory = kinds["cpu"], kinds["dram"]
    if not packages:
        return ""
    several = len(packages) > 1
    named = f"CPU package{'s' * several} {', '.join(packages)}"
    if packages == memory:
        return f"{named} and {'their' if several else 'its'} memory"
    if memory:
        return f"{named} and the memory of {', '.join(memory)}"
    return f"{named} without memory, which has no counter here"


def runs_table(group: GroupAnalysis) -> Table:
    """One row per run: its energy and how it was checked."""
    import pandas as pd

    frame = group.group.frame
    wanted = {
        "energy_generation_j": "energy of generation [J]",
        "energy_evaluation_j": "energy of evaluation [J]",
        "latency_s": "latency [s]",
        "mean_power_w": "mean power [W]",
        "idle_power_w": "idle power [W]",
        "energy_crosscheck_rel": "cross-check (relative)",
        "tasks": "tasks",
    }
    columns: dict[str, Any] = {
        "configuration": _configurations(group),
        "run": list(frame["run_name"]),
        "repeat": list(frame["params.repeat"]),
        "energy_source": list(frame["tags.codejoule.energy_source"]),
    }
    for name in wanted:
        if f"metrics.{name}" in frame.columns and frame[f"metrics.{name}"].notna().any():
            columns[name] = frame[f"metrics.{name}"].to_numpy(dtype=float)
    return Table(
        name="runs",
        title="Every run: its energy and how it was checked",
        frame=pd.DataFrame(columns),
        labels=wanted,
    )


def predictions_table(group: GroupAnalysis) -> Table | None:
    """Predictions and measurements of each run; None where no run has ``predicted_*``."""
    import pandas as pd

    frame = group.group.frame
    rows = []
    for label, row in zip(_configurations(group), frame.to_dict("records"), strict=True):
        for column in (c for c in frame.columns if c.startswith("metrics.predicted_")):
            predicted, figure = float(row[column]), column.removeprefix("metrics.predicted_")
            if math.isnan(predicted):
                continue
            measured = float(row.get(f"metrics.{_PREDICTED.get(figure, figure)}", math.nan))
            name, factor = _with_unit(figure)
            rows.append(
                {
                    "configuration": label,
                    "run": row["run_name"],
                    "figure": name,
                    "predicted": factor * predicted,
                    "measured": factor * measured,
                    "error_percent": 100 * (predicted / measured - 1) if measured else math.nan,
                }
            )
    if not rows:
        return None
    return Table(
        name="predictions",
        title="What the estimator predicted, beside what the run gave",
        frame=pd.DataFrame(rows),
        labels={
            "predicted": "predicted (estimate)",
            "measured": "of the run (energy: estimate)" if group.group.estimate else "measured",
            "error_percent": "error [%]",
        },
    )


def _configurations(group: GroupAnalysis) -> list[str]:
    of = {
        run_id: label
        for label, ids in zip(group.evidence.labels, group.evidence.table["run_ids"], strict=True)
        for run_id in ids
    }
    return [of[run_id] for run_id in group.group.frame["run_id"]]


def _source(sources: str | None) -> str:
    if not sources:
        return "not metered"
    return "; ".join(f"{s}: {SOURCES.get(s, 'unknown source')}" for s in sources.split(", "))


def _crosscheck(values: Any) -> str:
    known = [] if values is None else [abs(float(v)) for v in values.dropna()]
    if not known:
        return "none: there is no second method for this source"
    return (
        f"integrated power against the counter in {len(known)} runs: at most "
        f"{number(100 * max(known))} % apart"
    )


def _with_unit(name: str) -> tuple[str, float]:
    """A figure's name with the unit that a reader sees, and the factor to it."""
    for ending, unit, factor in _UNITS:
        if name.endswith(ending):
            return f"{name.removesuffix(ending).replace('_', ' ')} [{unit}]", factor
    return name.replace("_", " "), 1
