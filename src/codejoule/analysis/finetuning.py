"""Fine-tuning: what training an adapter took, what it changed, and after how many tasks it pays."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codejoule.analysis.comparison import row_keys
from codejoule.analysis.evidence import Evidence
from codejoule.analysis.table import Table
from codejoule.domain import break_even_tasks
from codejoule.domain.text import number
from codejoule.statistics import ALPHA, Resampler, resample

NAME = "finetuning"
KIND = "finetune"
"""Value of the tag ``codejoule.kind`` of runs that have trained."""
_ADAPTER = "tags.codejoule.adapter"
_SOURCES = ("tags.codejoule.energy_source", "tags.codejoule.energy_scope")
_OWN = ("model.adapter", "model.merge_adapter")
_FEWEST_CLUSTERS = 8
"""As of the interval of energy per solved task."""
_TRAINING = {
    "energy_finetune_j": "energy_finetune_j",
    "energy_per_trained_token_j": "energy_per_trained_token_j",
    "trained_tokens": "trained_tokens",
    "throughput_trained_tokens_per_s": "throughput_trained_tokens_per_s",
    "loss_first": "loss_first",
    "loss_last": "loss_last",
}
_COLUMNS = (
    "training", "data", "trainable_parameters", *_TRAINING, "configuration", "reference",
    "pass_at_1_reference", "pass_at_1", "energy_per_solved_task_reference_j",
    "energy_per_solved_task_j", "energy_inference_j", "energy_with_training_j",
    "break_even_solved_tasks", "break_even_solved_tasks_ci_low", "break_even_solved_tasks_ci_high",
)  # fmt: skip

Trained = Sequence[Mapping[str, Any]]
"""Rows of finished runs that have trained, with the columns of `LoadedRuns.frame`."""


def finetuning_table(evidence: Evidence, trained: Trained, resampler: Resampler) -> Table | None:
    """The trained adapters that these configurations run with, each beside the configuration that
    differs in nothing but the adapter; None where none runs with one of `trained`."""
    of_run = dict(zip(evidence.runs["run_id"], _adapters(evidence), strict=True))
    adapters = [of_run[ids[0]] for ids in evidence.table["run_ids"]]
    others = [name for name in evidence.settings if name not in _OWN]
    keys = list(row_keys(evidence.table, others))
    bases = {keys[i]: i for i, adapter in enumerate(adapters) if adapter is None}
    rows = []
    for run in trained:
        for i, adapter in enumerate(adapters):
            if adapter is not None and adapter == run.get(_ADAPTER):
                rows.append(_row(evidence, run, i, bases.get(keys[i]), resampler))
    if not rows:
        return None
    return Table.of(
        rows,
        _COLUMNS,
        name=NAME,
        title="Fine-tuning: energy of training and of inference, and after how many tasks it is "
        "paid back",
        notes=(
            "Break-even: energy of training over what a solved task takes less than with the "
            "reference, generation and evaluation; absent where it does not take less, and where "
            "training and inference have energy from different sources. Its interval is a "
            "bootstrap over tasks and holds the variance between runs, assumed where there are no "
            "repeats; without an upper end, training may never be paid back.",
        ),
        labels={
            "break_even_solved_tasks": "break-even [solved tasks]",
            "break_even_solved_tasks_ci_low": "ci low",
            "break_even_solved_tasks_ci_high": "ci high",
        },
    )


def training_notes(trained: Trained, tables: Sequence[Table]) -> tuple[str, ...]:
    """A sentence on each adapter that was trained; `tables` are those of all groups."""
    used = {row["training"]: row for table in tables for row in table.rows()}
    return tuple(_sentence(run, used.get(run["run_name"])) for run in trained)


def _sentence(run: Mapping[str, Any], row: Mapping[str, Any] | None) -> str:
    mark = "~" if run.get(_SOURCES[0]) == "estimate" else ""
    metrics = {name: run.get(f"metrics.{name}", math.nan) for name in _TRAINING}
    said = (
        f"Fine-tuning {run['run_name']}: {mark}{number(metrics['energy_finetune_j'])} J, "
        f"{metrics['trained_tokens']:,.0f} tokens, loss {number(metrics['loss_first'])} to "
        f"{number(metrics['loss_last'])}"
    )
    if row is None:
        return f"{said}; no run with its adapter (model.adapter=runs:/{run['run_id']}/adapter)."
    rates = row["pass_at_1_reference"], row["pass_at_1"]
    if not any(map(math.isnan, rates)):
        said += f"; pass@1 {rates[0]:.3f} to {rates[1]:.3f}"
    after, low, high = (row[f"break_even_solved_tasks{end}"] for end in ("", "_ci_low", "_ci_high"))
    if math.isnan(after):
        return f"{said}; no break-even: a solved task does not take less energy than before."
    span = ""
    if not math.isnan(low):
        to = "never" if math.isnan(high) else f"{high:,.0f}"
        span = f" [95 % CI {low:,.0f} to {to}]"
    return f"{said}; paid back after {after:,.0f} solved tasks{span}."


def _adapters(evidence: Evidence) -> list[str | None]:
    runs = evidence.runs
    return list(runs[_ADAPTER]) if _ADAPTER in runs else [None] * len(runs)


def _row(
    evidence: Evidence, run: Mapping[str, Any], i: int, base: int | None, resampler: Resampler
) -> dict[str, Any]:
    table = evidence.table
    cost_j = float(run.get("metrics.energy_finetune_j", math.nan))
    sources = evidence.runs[list(_SOURCES)].drop_duplicates().to_numpy().tolist()
    comparable = sources == [[run.get(name) for name in _SOURCES]]

    def of(name: str, place: int | None) -> float:
        return math.nan if place is None else float(table[name].iloc[place])

    inference_j = of("energy_total_j", i)
    solved = "energy_per_solved_task_j"
    row = {
        "training": run["run_name"],
        "data": run.get("params.finetune.data") or run.get("params.suite.name"),
        "trainable_parameters": run.get("metrics.trainable_parameters", math.nan),
        **{name: run.get(f"metrics.{metric}", math.nan) for name, metric in _TRAINING.items()},
        "configuration": evidence.labels[i],
        "reference": None if base is None else evidence.labels[base],
        "pass_at_1_reference": of("pass_at_1", base),
        "pass_at_1": of("pass_at_1", i),
        "energy_per_solved_task_reference_j": of(solved, base),
        "energy_per_solved_task_j": of(solved, i),
        "energy_inference_j": inference_j,
        "energy_with_training_j": inference_j + cost_j if comparable else math.nan,
    }
    after = low = high = math.nan
    if base is not None and comparable:
        after = _known(break_even_tasks(cost_j=cost_j, before_j=of(solved, base),
                                        after_j=of(solved, i)))  # fmt: skip
    if base is not None and not math.isnan(after):
        low, high = _interval(evidence, i, base, cost_j, resampler)
    return row | {
        "break_even_solved_tasks": after,
        "break_even_solved_tasks_ci_low": low,
        "break_even_solved_tasks_ci_high": high,
    }


def _interval(
    evidence: Evidence, i: int, base: int, cost_j: float, resampler: Resampler
) -> tuple[float, float]:
    """Of the break-even, by a bootstrap over the tasks that both have, energies spread as much as
    runs differ; NaN where that is not known."""
    pair, figures = [i, base], evidence.figures
    variance = evidence.variance(i, base)
    judged = ~np.isnan(evidence.passed[pair]).any(axis=0)
    tasks = np.asarray(evidence.complete[pair].all(axis=0) & judged)
    labels = evidence.clusters(pair, tasks)
    if variance is None or not labels.size or labels.max() + 1 < _FEWEST_CLUSTERS:
        return math.nan, math.nan
    energy_j = figures.energy_j + figures.evaluation_j
    own_j = [energy_j[evidence.rows[place]][:, tasks] for place in pair]
    if any(np.isnan(own).any() for own in own_j):
        return math.nan, math.nan
    runs = np.sqrt([len(own) for own in own_j])
    means_j = [own.mean(axis=0, keepdims=True) for own in own_j]
    drawn = resample(means_j, evidence.passed[pair][:, tasks], labels, resampler=resampler)
    # A variance that few repeats tell is uncertain itself.
    noise = resampler.rng.standard_t(min(variance.df, 1e6), drawn.energy_j.shape)
    spread = np.exp(variance.sd_log / runs * noise)
    with np.errstate(divide="ignore", invalid="ignore"):
        each_j = drawn.energy_j * spread / (drawn.pass_at_1 * tasks.sum())
        saved_j = each_j[:, 1] - each_j[:, 0]
    if not np.isfinite(saved_j).all():
        return math.nan, math.nan
    least_j, most_j = np.percentile(saved_j, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
    ends = (break_even_tasks(cost_j=cost_j, before_j=float(j), after_j=0.0)
            for j in (most_j, least_j))  # fmt: skip
    low, high = ends
    return _known(low), _known(high)


def _known(tasks: float) -> float:
    return tasks if math.isfinite(tasks) else math.nan
