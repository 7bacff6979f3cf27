"""Idle power, which the jobs of a sweep need to observe but once as long as it stays."""

import hashlib
import json
from pathlib import Path

from codejoule.config import write_whole
from codejoule.domain import IdleSource
from codejoule.experiment.plan import Plan
from codejoule.experiment.sweep import sweep_file
from codejoule.measurement import Meter
from codejoule.tracking.entries import Idle


def measure_idle(plan: Plan, meter: Meter) -> Idle:
    """Observe it, or take it over from an earlier job of the sweep on the same cards with which a
    short look agrees. What was observed, and settled, is there for the next."""
    file = _file(plan)
    power_w = meter.measure_idle(None if file is None else _earlier_w(file))
    if file is not None and meter.idle_source is IdleSource.measured:
        write_whole(file, json.dumps({"power_w": power_w}))
    return Idle(power_w=power_w, temperature_c=meter.temperature_c(), source=meter.idle_source)


def _earlier_w(file: Path) -> float | None:
    if not file.exists():
        return None
    return float(json.loads(file.read_text(encoding="utf-8"))["power_w"])


def _file(plan: Plan) -> Path | None:
    """Where the sweep keeps it for these cards; None for a job by itself, or without a GPU."""
    sweep = sweep_file()
    if sweep is None or not plan.gpus:
        return None
    cards = ",".join(sorted(plan.hardware.gpus[number].uuid for number in plan.gpus))
    return sweep.with_name(
        f"{sweep.stem}-idle-{hashlib.sha256(cards.encode()).hexdigest()[:16]}.json"
    )
