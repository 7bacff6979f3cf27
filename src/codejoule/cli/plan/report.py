"""A plan as text, as JSON, and in two lines."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codejoule.cli.estimate.benchmark import answer_tokens
from codejoule.cli.plan.jobs import Basis, PlannedJob, Target
from codejoule.cli.plan.resolution import POWER, Change, Outlook, Resolution
from codejoule.domain import SCHEMA_VERSION
from codejoule.domain.metrics import J_PER_KWH
from codejoule.domain.text import duration, size
from codejoule.estimate import MEASURED_WITH
from codejoule.statistics import REPEATS


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """Everything that is said of a sweep before it runs."""

    target: Target
    """Where it runs."""
    jobs: tuple[PlannedJob, ...]
    """Its jobs."""
    outlook: Outlook
    """What it will resolve."""
    store: str
    """Where its runs will be recorded, and earlier ones were looked for."""
    earlier_runs: int
    """Runs on the same device that were found there."""

    @property
    def predicted(self) -> tuple[PlannedJob, ...]:
        """The jobs whose time is known."""
        return tuple(job for job in self.jobs if job.generation_s is not None)


def two_lines(plan: SweepPlan) -> str:
    """For the start of a sweep."""
    return f"Plan: {_totals(plan)}.\n{_resolves(plan)}"


def as_text(plan: SweepPlan) -> str:
    """The table of jobs, all of them together, and what they will resolve."""
    many = len(plan.jobs) > 1
    rows = [("job", "tasks", "generation", "other", "energy", "memory"), *map(_row, plan.jobs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        f"{_count(len(plan.jobs), 'job')} on {plan.target.name}; nothing has run, every figure is "
        "a prediction",
        "",
    ]
    for first, *others in rows:
        cells = [f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    lines += ["", f"{'All' if many else 'It'}: {_totals(plan)}."]
    lines += _basis(plan)
    reasons = Counter(job.why for job in plan.jobs if job.why)
    lines += [f"Not predicted, of {_count(n, 'job')}: {why}." for why, n in reasons.items()]
    tight = [job.name for job in plan.jobs if job.fits is False]
    if tight:
        lines.append(f"More memory than {plan.target.name} has: {', '.join(tight)}.")
    store = f"Store: {plan.store}, with {_count(plan.earlier_runs, 'run')} on {plan.target.name}."
    return "\n".join([*lines, "", _resolves(plan), *_assumed(plan), store])


def as_json(plan: SweepPlan) -> str:
    """The same by name, units in the names; what is not known is null."""
    outlook, target = plan.outlook, plan.target
    report = {
        "schema_version": SCHEMA_VERSION,
        "device": target.name,
        "energy_source": target.source.value,
        "jobs": [_job(job) for job in plan.jobs],
        "store": plan.store,
        "earlier_runs": plan.earlier_runs,
        "total": {
            "jobs": len(plan.jobs),
            "predicted_jobs": len(plan.predicted),
            "generation_s": _sum(job.generation_s for job in plan.jobs),
            "other_s": _sum(job.other_s for job in plan.jobs),
            "energy_kwh": _kwh(_sum(job.energy_j for job in plan.jobs)),
            "memory_bytes": max(
                (j.memory_bytes for j in plan.jobs if j.memory_bytes), default=None
            ),
        },
        "resolves": {
            "power": POWER,
            "configurations": outlook.configurations,
            "runs_of_each": outlook.runs,
            "comparisons": outlook.comparisons,
            **_resolved(outlook.resolution),
            "between_runs": {
                engine: {"sd_log": own.sd_log, "df": _finite(own.df), "source": own.source}
                for engine, own in outlook.variances.items()
            },
            "discordance": outlook.discordance,
            "discordance_source": "runs" if outlook.discordance_pairs else "assumed",
            "changes": [
                {
                    "override": change.override,
                    **_resolved(change.resolution),
                    "energy_kwh": _kwh(change.energy_j),
                }
                for change in outlook.changes
            ],
        },
    }
    return json.dumps(report, indent=2)


def _job(job: PlannedJob) -> dict[str, Any]:
    return {
        "name": job.name,
        "tasks": job.tasks,
        "basis": job.basis and job.basis.value,
        "generation_s": job.generation_s,
        "other_s": job.other_s,
        "energy_kwh": _kwh(job.energy_j),
        "memory_bytes": job.memory_bytes,
        "fits": job.fits,
        "not_predicted": job.why or None,
    }


def _resolved(found: Resolution) -> dict[str, Any]:
    energy_rel = {engine: _finite(rel) for engine, rel in found.energy_rel.items()}
    return {"energy_rel": energy_rel, "pass_at_1": found.pass_at_1}


def _row(job: PlannedJob) -> tuple[str, ...]:
    return (
        job.name,
        "-" if job.tasks is None else f"{job.tasks:,}",
        _time(job.generation_s),
        _time(job.other_s),
        _energy(job.energy_j),
        _memory(job.memory_bytes),
    )


def _totals(plan: SweepPlan) -> str:
    """E.g. ``8 jobs, about 55 s and 0.0039 kWh of generation (estimate), at most 20.4 GB``."""
    jobs, known = plan.jobs, plan.predicted
    parts = [_count(len(jobs), "job")]
    if known:
        rest = "" if len(known) == len(jobs) else f" for {len(known)} of them"
        energy_j = _sum(job.energy_j for job in known)
        energy = "" if energy_j is None else f" and {_energy(energy_j)}"
        other_s = _sum(job.other_s for job in known)
        more = "" if other_s is None else f", {_time(other_s)} of loading and judging"
        generation = _time(_sum(job.generation_s for job in known))
        parts.append(f"about {generation}{energy} of generation{rest} (predicted){more}")
    if len(known) < len(jobs):
        parts.append(f"time and energy of {len(jobs) - len(known)} cannot be predicted")
    if (most := _most_memory(jobs)) is not None:
        parts.append(f"at most {_memory(most)} of memory")
    return ", ".join(parts)


def _resolves(plan: SweepPlan) -> str:
    """What it resolves, and what would be changed for less."""
    outlook = plan.outlook
    if outlook.configurations < 2:
        return "One configuration: there is nothing to compare it with."
    found = outlook.resolution
    changes = "; ".join(_change(change, outlook) for change in outlook.changes)
    return (
        f"In {100 * POWER:.0f} of 100 cases it will find a real difference of {_energies(found)} "
        f"in energy on these tasks, and {_passed(outlook, found)}. To find smaller ones: {changes}."
    )


def _energies(found: Resolution) -> str:
    """E.g. ``4 % (graph), 18 % (generate)``; the percentage alone where one engine runs."""
    told = sorted(found.energy_rel.items(), key=lambda own: own[1])
    if len(told) == 1:
        return _percent(told[0][1])
    return ", ".join(f"{_percent(rel)} ({engine})" for engine, rel in told)


def _passed(outlook: Outlook, found: Resolution) -> str:
    if not outlook.accuracy:
        return "none in pass@1, which means nothing here"
    if found.pass_at_1 is None:
        return "none in pass@1: too few tasks, or their number is not known"
    return f"one of {found.pass_at_1:.2g} in pass@1"


def _change(change: Change, outlook: Outlook) -> str:
    at = "" if change.energy_j is None else f" at {_energy(change.energy_j)}"
    if change.override.startswith("repeat"):
        return f"{change.override}: {_energies(change.resolution)}{at}"
    return f"{change.override}: {_passed(outlook, change.resolution)}{at}"


def _assumed(plan: SweepPlan) -> list[str]:
    """What that rests on."""
    outlook = plan.outlook
    if outlook.configurations < 2:
        return []
    lines = [
        f"Energy: runs of one configuration with engine={engine} vary by "
        f"{_percent(own.sd_log)}, "
        + (
            f"by repeats in the store ({own.df:.0f} degrees of freedom)."
            if own.source == REPEATS
            else "assumed, from the repeated runs that codejoule has on file."
        )
        for engine, own in outlook.variances.items()
    ]
    if outlook.accuracy:
        told = (
            f"median of {_count(outlook.discordance_pairs, 'pair')} of runs in the store"
            if outlook.discordance_pairs
            else "assumed; fewer make smaller differences known"
        )
        lines.append(
            f"pass@1: {_percent(outlook.discordance)} of the tasks end otherwise in one "
            f"configuration than in the other ({told}). Repeats add nothing to it, more tasks do."
        )
    if outlook.comparisons > 1:
        lines.append(
            f"Up to {outlook.comparisons} comparisons of one setting are adjusted together, which "
            "is in these figures."
        )
    return lines


def _basis(plan: SweepPlan) -> list[str]:
    """What time and energy rest on."""
    bases = {job.basis for job in plan.jobs}
    lines = []
    if Basis.estimator in bases:
        tokens = sorted({answer_tokens(j.experiment) for j in plan.jobs})
        told = f"{tokens[0]:,} to {tokens[-1]:,}" if len(tokens) > 1 else f"{tokens[0]:,}"
        lines.append(
            f"Estimator (calibrated with {MEASURED_WITH}): generation alone, with answers of "
            f"{told} tokens; loading, compiling and judging come on top."
        )
    if Basis.runs in bases:
        lines.append("Earlier runs of the same configuration in the store, per task.")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _percent(share: float | None) -> str:
    if share is None:
        return "not known"
    if share == math.inf:
        return "more than can be counted"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _sum(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _most_memory(jobs: Sequence[PlannedJob]) -> int | None:
    return max((job.memory_bytes for job in jobs if job.memory_bytes is not None), default=None)


def _finite(value: float) -> float | None:
    return value if value < math.inf else None


def _kwh(energy_j: float | None) -> float | None:
    return None if energy_j is None else energy_j / J_PER_KWH


def _energy(energy_j: float | None) -> str:
    if energy_j is None:
        return "-"
    kwh = energy_j / J_PER_KWH
    return f"{kwh:,.2g} kWh" if kwh >= 1e-4 else f"{energy_j:,.3g} J"


def _memory(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else size(size_bytes)


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)
