"""``codejoule gate``: whether a change costs more energy or loses pass@1, for a CI job."""

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codejoule.config import ConfigError, UserError, default_store
from codejoule.config.credentials import refuse_credentials
from codejoule.domain import SCHEMA_VERSION, UNMEASURED, Doubt, read_validity, validity, visible

if TYPE_CHECKING:
    import pandas as pd

    from codejoule.analysis import LoadedRuns
    from codejoule.analysis.variances import Apparatus
    from codejoule.statistics import RunRatio, RunVariance

ERROR = 3
"""Exit code where nothing was judged: 1 and 2 are verdicts."""

CONFIDENCE = 0.95
"""Of the intervals that verdicts are read from."""

_MOST_RUNS = 50
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_FILTER = re.compile(r"[=<>]|\s(?:I?LIKE|IN)\s", re.IGNORECASE)


class Verdict(Enum):
    """What was found; its value is the name in JSON."""

    ok = "ok"
    """Shown not worse than allowed."""
    worse = "worse"
    """Shown worse than allowed."""
    not_resolved = "not_resolved"
    """Neither."""

    @property
    def exit_code(self) -> int:
        """0, 1 and 2."""
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One of the two limits, judged."""

    verdict: Verdict
    """By where the interval lies."""
    reason: str
    """A sentence."""
    figures: Mapping[str, Any]
    """By name, units in the names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One configuration and its runs."""

    selection: str
    """As it was asked for."""
    configuration: str
    """Its name."""
    run_ids: tuple[str, ...]
    """Its runs."""
    frame: "pd.DataFrame"
    """The same, as `load_runs` has them."""
    doubts: tuple[Doubt, ...]
    """Why its energy may not be what it seems."""
    variances: "Mapping[Apparatus, RunVariance]"
    """How much repeats in its store differ."""

    def as_json(self) -> dict[str, Any]:
        """As what `json.dumps` takes."""
        return {
            "selection": self.selection,
            "configuration": self.configuration,
            "run_ids": list(self.run_ids),
            "validity": validity(self.doubts),
        }


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "gate",
        help="exit code 0, 1 or 2: not worse than allowed, worse, not resolved; for CI",
        description="Compare a candidate with a baseline, both one configuration with any number "
        "of repeats, on the same tasks. Exit code 0: both limits are shown to be kept; 1: one is "
        "shown to be exceeded; 2: not resolved, with what it would take; 3: nothing was judged (a "
        "wrong argument, no such runs, runs that cannot be compared). SELECTION is run ids with "
        "commas between them, a filter in MLflow's search syntax, or a sweep's name or id.",
    )
    parser.add_argument("--baseline", metavar="SELECTION", help="what is compared with")
    parser.add_argument("--candidate", metavar="SELECTION", help="what is judged")
    parser.add_argument(
        "--max-energy-increase",
        metavar="SHARE",
        help="energy of generation on these tasks that it may take more, e.g. 5%% or 0.05",
    )
    parser.add_argument(
        "--max-pass-loss", metavar="D", help="pass@1 that it may lose, e.g. 0.02 or 2%%"
    )
    parser.add_argument(
        "--experiment", metavar="NAME", default="codejoule", help="default: %(default)s"
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="sqlite:///... or http://...; default: mlruns/mlflow.db below "
        "CODEJOULE_HOME or the current folder",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(error_code=ERROR)


def run(args: argparse.Namespace) -> int:
    """Judge, print and return the verdict's exit code."""
    from codejoule.analysis import load_runs

    if args.baseline is None or args.candidate is None:
        raise ConfigError("say what is compared: --baseline SELECTION --candidate SELECTION")
    limits = {
        "energy": _share("--max-energy-increase", args.max_energy_increase, most=math.inf),
        "pass_at_1": _share("--max-pass-loss", args.max_pass_loss, most=1.0),
    }
    if all(limit is None for limit in limits.values()):
        raise ConfigError("nothing to judge: give --max-energy-increase, --max-pass-loss or both")
    refuse_credentials([("--tracking-uri", args.tracking_uri)])
    uri = args.tracking_uri or default_store()

    def load(flag: str, selection: str) -> Side:
        try:
            return _side(selection, load_runs(uri, args.experiment, **_selected(selection)))
        except UserError as error:
            raise UserError(f"{flag} {selection!r}: {error}") from error

    baseline, candidate = load("--baseline", args.baseline), load("--candidate", args.candidate)
    _require_comparable(baseline, candidate)
    judged: dict[str, Criterion] = {}
    if limits["energy"] is not None:
        judged["energy"] = _judge_energy(baseline, candidate, limits["energy"])
    if limits["pass_at_1"] is not None:
        judged["pass_at_1"] = _judge_pass(baseline, candidate, limits["pass_at_1"], uri=uri)
    found = {criterion.verdict for criterion in judged.values()}
    verdict = next(v for v in (Verdict.worse, Verdict.not_resolved, Verdict.ok) if v in found)
    if args.json:
        report = {
            "schema_version": SCHEMA_VERSION,
            "verdict": verdict.value,
            "exit_code": verdict.exit_code,
            "reasons": [criterion.reason for criterion in judged.values()],
            "confidence": CONFIDENCE,
            **{name: {"verdict": own.verdict.value, **own.figures} for name, own in judged.items()},
            "baseline": baseline.as_json(),
            "candidate": candidate.as_json(),
        }
        print(json.dumps(report, indent=2))
    else:
        words = {"ok": "not worse than allowed", "worse": "WORSE", "not_resolved": "NOT RESOLVED"}
        lines = [f"{candidate.configuration} against {baseline.configuration}"]
        lines[0] += f": {words[verdict.value]}"
        lines += [criterion.reason for criterion in judged.values()]
        print(visible("\n".join(lines)))
    return verdict.exit_code


def _share(flag: str, text: str | None, *, most: float) -> float | None:
    """``5%`` or ``0.05`` as a number; None where nothing was given."""
    if text is None:
        return None
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 < value < most:
        below = "" if most == math.inf else f" and below {most:g}"
        raise ConfigError(f"{flag} {text}: must be a share above 0{below}, e.g. 5% or 0.05")
    return value


def _selected(selection: str) -> dict[str, Any]:
    """As `load_runs` takes it."""
    if _FILTER.search(selection):
        return {"where": selection}
    names = [name.strip() for name in selection.split(",")]
    if len(names) > 1 or _RUN_ID.fullmatch(selection):
        unknown = [name for name in names if not _RUN_ID.fullmatch(name)]
        if unknown:
            raise UserError(
                f"{', '.join(unknown)}: no id of a run, which has 32 hexadecimal digits"
            )
        return {"run_ids": names}
    return {"sweep": selection}


def _side(selection: str, loaded: "LoadedRuns") -> Side:
    from codejoule.analysis import (
        comparable_groups,
        comparison_table,
        differing,
        setting_columns,
    )
    from codejoule.analysis.families import configuration_labels

    frame = loaded.frame
    if frame.empty:
        raise UserError(
            "no finished runs"
            + (f" (left out: {'; '.join(loaded.left_out)})" if loaded.left_out else "")
        )
    groups = comparable_groups(frame)
    if len(groups) > 1:
        raise UserError(
            f"these runs cannot be compared with one another, they differ in {differing(groups)}; "
            "narrow the selection"
        )
    table = comparison_table(frame)
    labels = configuration_labels(table, setting_columns(table))
    if len(labels) > 1:
        raise UserError(
            f"{len(labels)} configurations ({', '.join(labels)}); narrow it to one, e.g. "
            f"\"params.quant.name = '{table['quant'].iloc[0]}'\", or name its runs"
        )
    column = frame.get("tags.codejoule.validity")
    return Side(
        selection=selection,
        configuration=labels[0],
        run_ids=tuple(frame["run_id"]),
        frame=frame,
        doubts=read_validity([] if column is None else column),
        variances=loaded.variances,
    )


def _require_comparable(baseline: Side, candidate: Side) -> None:
    """`UserError` unless the two answered the same tasks and were metered alike."""
    import pandas as pd

    from codejoule.analysis import comparable_groups, differing

    both = set(baseline.run_ids) & set(candidate.run_ids)
    if both:
        raise UserError(f"on both sides: run {', '.join(sorted(both))}; select different runs")
    groups = comparable_groups(pd.concat([baseline.frame, candidate.frame], ignore_index=True))
    if len(groups) > 1:
        raise UserError(
            f"the two cannot be compared, they differ in {differing(groups)}: run both on the "
            "same tasks, with the same meter on the same kind of device"
        )


def _judge_energy(baseline: Side, candidate: Side, limit: float) -> Criterion:
    """Energy of generation on these tasks, by the variance between runs."""
    from codejoule.analysis import apparatus, largest_variance
    from codejoule.statistics import ASSUMED, compare_runs

    sides = (candidate, baseline)
    energies_j = [_figures(side, "energy_generation_j") for side in sides]
    stated = [_figures(side, "energy_generation_uncertainty_j") for side in sides]
    first = baseline.frame.iloc[0]
    variance = largest_variance(
        [apparatus(side.frame.iloc[0].to_dict()) for side in sides],
        {**baseline.variances, **candidate.variances},
    )
    if variance is None:
        raise UserError(
            "the energy of published figures: how much their runs vary is not known; compare runs "
            "of your own"
        )
    meter = max(
        0.0 if np.isnan(own).any() else float((own / j).max())
        for own, j in zip(stated, energies_j, strict=True)
    )
    found = compare_runs(*energies_j, variance=variance, counter_rel=meter, confidence=CONFIDENCE)
    figures = {
        "ratio": found.ratio,
        "ratio_low": found.low,
        "ratio_high": found.high,
        "max_increase": limit,
        "baseline_j": float(energies_j[1].mean()),
        "candidate_j": float(energies_j[0].mean()),
        "runs": [len(own) for own in reversed(energies_j)],
        "energy_source": str(first["tags.codejoule.energy_source"]),
        "energy_scope": str(first["tags.codejoule.energy_scope"]),
        "between_run_sd_log": variance.sd_log,
        "between_run_df": variance.df,
        "between_run_source": variance.source,
    }
    estimate = ", an estimate" if Doubt.estimate in (*baseline.doubts, *candidate.doubts) else ""
    known = "assumed" if variance.source == ASSUMED else "by repeats"
    words = (
        f"Energy: {_change(found.ratio)} [{_change(found.low)}, {_change(found.high)}], "
        f"{_change(1 + limit)} allowed (runs vary by {100 * variance.sd_log:.2g} %, "
        f"{known}{estimate})"
    )
    if why := _disturbed(baseline, candidate):
        return Criterion(
            verdict=Verdict.not_resolved,
            reason=f"{words}: not valid ({why}). Run it again undisturbed.",
            figures=figures | {"needed_runs": None},
        )
    if found.high <= 1 + limit:
        return Criterion(verdict=Verdict.ok, reason=f"{words}: kept.", figures=figures)
    if found.low > 1 + limit:
        return Criterion(verdict=Verdict.worse, reason=f"{words}: exceeded.", figures=figures)
    needed = _needed_runs(found, limit, runs=[len(own) for own in energies_j])
    told = (
        "The ratio lies so near the limit that no reasonable number of runs tells"
        if needed is None
        else f"It would take about {needed} runs of each (repeat=1,...,{needed}), if the ratio "
        "stays"
    )
    return Criterion(
        verdict=Verdict.not_resolved,
        reason=f"{words}: not resolved. {told}.",
        figures=figures | {"needed_runs": needed},
    )


def _figures(side: Side, name: str) -> NDArray[np.float64]:
    """A metric of each of its runs; NaN where one does not have it."""
    if (column := side.frame.get(f"metrics.{name}")) is None:
        return np.full(len(side.frame), math.nan)
    return np.asarray(column, dtype=float)


def _disturbed(baseline: Side, candidate: Side) -> str:
    """What makes a side's energy another than its configuration's; empty where nothing does."""
    return "; ".join(
        f"{name}: {', '.join(doubt.words for doubt in own)}"
        for name, side in (("baseline", baseline), ("candidate", candidate))
        if (own := [doubt for doubt in side.doubts if doubt not in UNMEASURED])
    )


def _needed_runs(found: "RunRatio", limit: float, *, runs: Sequence[int]) -> int | None:
    """Runs of each with which the interval would end at the limit; None for too many."""
    away, half = abs(math.log(found.ratio / (1 + limit))), math.log(found.high / found.ratio)
    now = 2 / sum(1 / own for own in runs)
    if away == 0 or (needed := math.ceil(now * (half / away) ** 2)) > _MOST_RUNS:
        return None
    return needed


def _judge_pass(baseline: Side, candidate: Side, limit: float, *, uri: str) -> Criterion:
    """pass@1 on tasks like these, task by task."""
    import pandas as pd

    from codejoule.analysis import read_tasks
    from codejoule.statistics import paired_accuracy

    frame = pd.concat([baseline.frame, candidate.frame], ignore_index=True)
    tasks, _ = read_tasks(frame, uri=uri)
    rates = [
        tasks.passed[tasks.rows(side.run_ids)].mean(axis=0)
        if len(tasks.rows(side.run_ids))
        else np.array([math.nan])
        for side in (candidate, baseline)
    ]
    judged = ~np.isnan(rates).any(axis=0) if len(rates[0]) == len(rates[1]) else np.array([False])
    if not judged.any():
        return Criterion(
            verdict=Verdict.not_resolved,
            reason="pass@1: no task was judged in both (random weights, or evaluator=none). It "
            "would take runs with real weights and evaluator=sandbox.",
            figures={"max_loss": limit, "tasks": 0, "needed_tasks": None},
        )
    found = paired_accuracy(rates[0][judged], rates[1][judged], margin=limit)
    named = asdict(found)
    figures = {
        "difference": found.difference,
        "difference_low": found.ci_low,
        "difference_high": found.ci_high,
        "max_loss": limit,
        "baseline": float(rates[1][judged].mean()),
        "candidate": float(rates[0][judged].mean()),
        **{name: named[name] for name in ("tasks", "lost", "gained", "method")},
    }
    words = (
        f"pass@1: {found.difference:+.3f} [{found.ci_low:+.3f}, {found.ci_high:+.3f}] on "
        f"{found.tasks} tasks, a loss of {limit:g} allowed"
    )
    if found.ci_low >= -limit:
        return Criterion(verdict=Verdict.ok, reason=f"{words}: kept.", figures=figures)
    if found.ci_high < -limit:
        return Criterion(verdict=Verdict.worse, reason=f"{words}: exceeded.", figures=figures)
    away = abs(found.difference + limit)
    end = found.ci_low if found.difference > -limit else found.ci_high
    needed = math.ceil(found.tasks * (abs(end - found.difference) / away) ** 2) if away else None
    told = (
        "It lies at the limit: no number of tasks tells"
        if needed is None
        else f"It would take about {needed:,} tasks, if the difference stays"
    )
    return Criterion(
        verdict=Verdict.not_resolved,
        reason=f"{words}: not resolved. {told}.",
        figures=figures | {"needed_tasks": needed},
    )


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"
