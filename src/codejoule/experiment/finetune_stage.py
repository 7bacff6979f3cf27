"""The stage that trains an adapter: load, idle, then metered windows of whole steps."""

import json
import math
import shutil
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

from codejoule.common.progress import doing
from codejoule.config import UserError, first_line, installed_versions, write_whole
from codejoule.config.extras import require_choice
from codejoule.domain import PowerSample
from codejoule.domain.text import duration
from codejoule.domain.text import number as figure
from codejoule.experiment import stopping
from codejoule.experiment.adapters import ARTIFACT
from codejoule.experiment.idle import measure_idle
from codejoule.experiment.memory_use import PeakMemory, is_out_of_memory
from codejoule.experiment.model_stage import gpus_of, load, record_loaded
from codejoule.experiment.plan import Plan
from codejoule.measurement import Meter, Window, open_meter
from codejoule.models.adapter import PROVENANCE
from codejoule.tracking import Journal
from codejoule.tracking.entries import CooledDown, Loaded, Power, Trained, TrainedSteps
from codejoule.training import LoraTrainer, Step


def train(plan: Plan, folder: Path) -> None:
    """Train the adapter that `plan` asks for, and leave it in `folder` with the journal of what it
    took. Training that was broken off begins anew: the energy of the earlier attempt stays on
    record. Raises `UserError` where memory does not suffice, and for a loss that is not finite."""
    require_choice("stage=finetune")
    with Journal(folder) as journal:
        if journal.count(Trained):
            return
        with open_meter(plan.experiment.meter, gpu_indices=plan.gpus, processes=()) as meter:
            try:
                _train(plan, folder, journal, meter)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                raise UserError(
                    f"stage=finetune: out of memory ({first_line(error)}); lower finetune.batch or "
                    "finetune.max_length, or compute activations anew "
                    "(finetune.gradient_checkpointing=true)"
                ) from error


def has_trained(folder: Path) -> bool:
    """Whether the adapter is there."""
    with Journal(folder) as journal:
        return journal.count(Trained) > 0


def _train(plan: Plan, folder: Path, journal: Journal, meter: Meter) -> None:
    assert plan.training is not None
    cooling = meter.cool_down()
    if cooling is not None:
        journal.append(CooledDown(**asdict(cooling)))
    memory = PeakMemory(plan.device, gpus=plan.gpus, own_process=plan.isolated)
    loaded, reading = load(plan, meter)
    meter.require_devices(gpus_of(loaded.model))
    record_loaded(journal, meter, reading, loaded.facts.to_json())
    doing("reading the training texts")
    config = plan.experiment.finetune
    trainer = LoraTrainer(loaded.model, loaded.tokenizer, config, plan.training.examples)
    journal.append(measure_idle(plan, meter))
    steps = _Steps(journal, meter, attempt=journal.count(Loaded), total=trainer.steps)
    with (
        stopping.finishing(),
        meter.window("finetune") as whole,
        meter.slices("steps") as slices,
    ):
        for step in trainer.train():
            steps.take(step)
            stopping.check()
            if steps.done < trainer.steps and slices.window.age_s >= meter.shortest_s:
                steps.end(slices.cut())
    steps.end(slices.window)
    steps.settle(wait=True)
    adapter = folder / ARTIFACT
    shutil.rmtree(adapter, ignore_errors=True)
    model = plan.experiment.model
    trainer.save(adapter, base=model.id or model.name)
    facts = {
        "base": plan.checkpoint.checksum,
        "base_name": f"{model.name} ({plan.checkpoint.source})",
        "trainable_parameters": trainer.trainable_parameters,
        "parameters": trainer.parameters,
        "steps": trainer.steps,
        "learned_texts": trainer.texts,
        "cut_texts": trainer.cut,
        "config": asdict(config),
        "versions": installed_versions(("peft", "torch", "transformers")),
        **plan.training.to_json(),
    }
    write_whole(adapter / PROVENANCE, json.dumps(facts, indent=1) + "\n")
    journal.append(
        Trained(
            attempt=steps.attempt,
            facts={key: value for key, value in facts.items() if not key.endswith("_hashes")},
            reading=whole.reading,
            memory_peak_bytes=memory.read(),
        )
    )


@dataclass(slots=True)
class _Steps:
    """Steps that were made, and the windows that they are booked in."""

    journal: Journal
    meter: Meter
    attempt: int
    total: int
    began_s: float = field(default_factory=time.monotonic)
    done: int = 0
    tokens: int = 0
    open: list[Step] = field(default_factory=list)
    waiting: deque[tuple[Window, list[Step]]] = field(default_factory=deque)

    def take(self, step: Step) -> None:
        """Another step was made."""
        self.open.append(step)
        self.done += 1
        self.tokens += step.tokens
        if not math.isfinite(step.loss):
            raise UserError(
                f"stage=finetune: the loss of step {self.done} is {step.loss}; lower "
                f"finetune.learning_rate"
            )
        took_s = time.monotonic() - self.began_s
        left_s = took_s * (self.total - self.done) / self.done
        said = f"{self.done}/{self.total} steps, loss {figure(step.loss)}"
        said += f", {self.tokens / took_s:.0f} tokens/s"
        doing("training", said + (f", {duration(left_s)} to go" if left_s >= 1 else ""))

    def end(self, window: Window) -> None:
        """The window of the steps since the last has ended."""
        self.waiting.append((window, self.open))
        self.open = []
        self.settle(wait=False)

    def settle(self, *, wait: bool) -> None:
        """Put on record what is known by now, or all."""
        while self.waiting and (wait or self.waiting[0][0].settled):
            window, steps = self.waiting.popleft()
            self.journal.append(
                TrainedSteps(
                    attempt=self.attempt,
                    losses=tuple(step.loss for step in steps),
                    tokens=sum(step.tokens for step in steps),
                    learned_tokens=sum(step.learned_tokens for step in steps),
                    positions=sum(step.positions for step in steps),
                    reading=window.reading,
                )
            )
        power: list[PowerSample] = self.meter.new_power() if wait or not self.waiting else []
        if power:
            self.journal.append(Power(samples=tuple(power)))
