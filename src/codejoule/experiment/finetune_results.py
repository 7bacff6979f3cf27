"""From the journal of training to MLflow: metrics, tags, and the adapter as an artifact."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from codejoule.config import write_whole
from codejoule.config.typed import to_plain
from codejoule.domain import EnergySource, doubts, validity
from codejoule.domain.finetuning import finetune_metrics
from codejoule.domain.metrics import J_PER_KWH
from codejoule.domain.text import number
from codejoule.experiment.adapters import ARTIFACT
from codejoule.experiment.artifacts import IDENTITY, write_json
from codejoule.experiment.identity import environment
from codejoule.experiment.kept_journal import pack_journal
from codejoule.experiment.plan import Plan
from codejoule.experiment.results import concurrent_tags, footprint
from codejoule.models.adapter import find_adapter
from codejoule.tracking import (
    Journal,
    TrackedRun,
    power_figure,
    write_power_parquet,
    write_windows_parquet,
)
from codejoule.tracking.entries import Idle, Loaded, Power, Trained, TrainedSteps

KIND = {"codejoule.kind": "finetune"}
"""The tag by which such runs are told from those that generate."""
NOTE = "mlflow.note.content"


def log_finetuning(
    plan: Plan, folder: Path, artifacts: Path, tracked: TrackedRun
) -> tuple[str, ...]:
    """Record a run that has trained; its figures in words."""
    with Journal(folder) as journal:
        (trained,), load = journal.entries(Trained), journal.entries(Loaded)[-1]
        every = journal.entries(TrainedSteps)
        idle = next(reversed(journal.entries(Idle)), None)
        power = tuple(sample for entry in journal.entries(Power) for sample in entry.samples)
    windows = [entry for entry in every if entry.attempt == trained.attempt]
    broken_j = [e.reading.energy_j for e in every if e.attempt != trained.attempt]
    readings = [entry.reading for entry in windows]
    losses = [loss for entry in windows for loss in entry.losses]
    metrics = finetune_metrics(
        readings,
        trained.reading,
        losses,
        tokens=sum(entry.tokens for entry in windows),
        learned_tokens=sum(entry.learned_tokens for entry in windows),
        positions=sum(entry.positions for entry in windows),
    )
    facts = trained.facts
    metrics["trainable_parameters"] = float(facts["trainable_parameters"])
    metrics["texts"] = float(facts["learned_texts"])
    others = {
        "energy_load_j": None if load.reading is None else load.reading.energy_j,
        "energy_broken_off_j": sum(broken_j) if broken_j else None,
        "idle_power_w": None if idle is None else idle.power_w,
        "memory_peak_bytes": trained.memory_peak_bytes,
    }
    metrics |= {k: float(v) for k, v in others.items() if v is not None and not math.isnan(v)}
    if "energy_finetune_j" in metrics:
        metrics |= footprint(plan.experiment, metrics["energy_finetune_j"] / J_PER_KWH)
    adapter, use = folder / ARTIFACT, f"model.adapter=runs:/{tracked.run_id}/{ARTIFACT}"
    found = find_adapter(adapter, plan.experiment.model)
    tags = {
        "codejoule.energy_source": load.meter.source.value,
        "codejoule.energy_scope": load.meter.scope.value,
        "codejoule.device": load.device,
        "codejoule.dtype": load.dtype,
        "codejoule.adapter": found.checksum,
        "codejoule.base": str(facts["base"]),
        "codejoule.trained_on": f"{facts['texts']} texts of {facts['data']}; {facts['left_out']} "
        f"left out, which hold a task of {facts['evaluated_suite']} "
        f"({facts['evaluated_tasks']} tasks)",
        NOTE: f"Use it: `model={plan.experiment.model.name} {use}`",
    }
    if plan.gpus:
        tags["codejoule.gpu"] = plan.gpu_name
    if load.meter.uuids:
        tags["codejoule.gpu_uuid"] = ", ".join(load.meter.uuids)
    tags |= concurrent_tags([frozenset(reading.concurrent) for reading in readings])
    seen = doubts(
        readings, crosscheck_differs=False, concurrent="codejoule.concurrent" in tags,
        reduced_batch=False,
    )  # fmt: skip
    tags["codejoule.validity"] = validity(seen)
    shutil.rmtree(artifacts, ignore_errors=True)
    write_windows_parquet(readings, artifacts / "windows.parquet")
    write_power_parquet(power, artifacts / "power.parquet")
    if power:
        power_figure(power, artifacts / "power.svg", source=load.meter.source)
    write_whole(
        artifacts / "config.yaml", yaml.safe_dump(to_plain(plan.experiment), sort_keys=False)
    )
    write_whole(artifacts / "losses.jsonl", _lines(losses))
    write_json(artifacts / IDENTITY, plan.identity)
    write_json(artifacts / "environment.json", environment(plan.hardware))
    write_json(artifacts / "model.json", load.model)
    files = [*sorted(artifacts.iterdir()), pack_journal(folder, artifacts), adapter]
    tracked.log(metrics=metrics, tags=tags, artifacts=files, dataset=None)
    return *_headline(metrics, load.meter.source), use


def _lines(losses: Sequence[float]) -> str:
    rows = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _headline(metrics: Mapping[str, float], source: EnergySource) -> tuple[str, ...]:
    about = "~" if source is EnergySource.estimate else ""
    label = source.label
    energy, each = (metrics.get(f"energy_{n}_j") for n in ("finetune", "per_trained_token"))
    figures = [] if energy is None else [f"{about}{number(energy)} J of training{label}"]
    figures += [] if each is None else [f"{about}{number(each)} J/token{label}"]
    return (
        *figures,
        f"loss {number(metrics['loss_first'])} to {number(metrics['loss_last'])}",
        f"{number(metrics['throughput_trained_tokens_per_s'])} tokens/s",
    )
