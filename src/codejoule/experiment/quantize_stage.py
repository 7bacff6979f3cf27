"""Quantizing here: once, into the cache, with its energy in the journal."""

import dataclasses
import json
import logging
import random
from pathlib import Path

from codejoule.config import ConfigError, write_whole
from codejoule.config.schema import Weights
from codejoule.domain import EnergyReading, from_json, to_json
from codejoule.experiment.plan import Plan
from codejoule.measurement import Meter
from codejoule.models import bundled_calibration_texts, quantize_checkpoint
from codejoule.suites import load_suite
from codejoule.tracking import Journal
from codejoule.tracking.entries import Quantized

_log = logging.getLogger(__name__)

_READING = "quantize_energy.json"


def ensure_quantized(plan: Plan, meter: Meter, journal: Journal) -> None:
    """Quantize the plan's checkpoint into the cache unless it is there. What it took is kept beside
    the checkpoint, so that a run that finds it there knows too."""
    folder = plan.checkpoint.path
    if plan.checkpoint.base_path is None or folder is None:
        return
    kept = folder / _READING
    if not plan.checkpoint.needs_quantization:
        if kept.exists() and not journal.entries(Quantized):
            earlier = from_json(EnergyReading, json.loads(kept.read_text(encoding="utf-8")))
            journal.append(Quantized(reading=earlier, earlier=True))
        return
    texts = _calibration_texts(plan)
    with meter.window("quantize") as window:
        quantize_checkpoint(
            plan.checkpoint, plan.experiment.quant, calibration_texts=texts, device=plan.device
        )
    write_whole(kept, json.dumps(to_json(window.reading)))
    journal.append(Quantized(reading=window.reading, earlier=False))


def _calibration_texts(plan: Plan) -> list[str]:
    """Texts never evaluated: a file's paragraphs, the starter model's training texts, or the
    prompts of the suite's tasks that this run leaves out."""
    calibration = plan.experiment.quant.calibration
    if calibration.path is not None:
        text = Path(calibration.path).expanduser().read_text(encoding="utf-8")
        texts = [part for part in text.split("\n\n") if part.strip()]
    elif plan.experiment.model.weights is Weights.bundled:
        texts = bundled_calibration_texts(plan.experiment.model)[: calibration.samples]
    else:
        texts = _unselected_prompts(plan)
    remedy = (
        "evaluate fewer tasks (suite.limit), or name a text file of your own in "
        "quant.calibration.path"
    )
    if not texts:
        raise ConfigError(
            f"quant={plan.experiment.quant.name}: no calibration texts are there that the run does "
            f"not evaluate; {remedy}"
        )
    if len(texts) < calibration.samples:
        _log.warning(
            "quant.calibration.samples=%d: only %d calibration texts are there that the run does "
            "not evaluate, and all are taken; for more, %s",
            calibration.samples,
            len(texts),
            remedy,
        )
    count = min(calibration.samples, len(texts))
    return random.Random(calibration.seed).sample(texts, count)


def _unselected_prompts(plan: Plan) -> list[str]:
    whole = load_suite(dataclasses.replace(plan.experiment.suite, limit=None, task_ids=None))
    evaluated = {task.task_id for task in plan.suite.tasks}
    return [task.complete_prompt for task in whole.tasks if task.task_id not in evaluated]
