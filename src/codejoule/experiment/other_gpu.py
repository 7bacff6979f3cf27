"""A run that was broken off on one model of GPU is not continued on another.

A run's fingerprint holds its GPU, so that another model would simply begin another run, and leave
unseen what was done: who gives the same command again wants the run that was broken off.
"""

import hashlib
import json
from pathlib import Path

from codejoule.config import UserError, write_whole
from codejoule.config.schema import OnOtherGpu
from codejoule.experiment.plan import Plan

_NO_GPU = "a machine's CPU"


def begun_elsewhere(plan: Plan, folder: Path) -> tuple[Path, str] | None:
    """The journal's folder of the run with the same configuration that was begun last, and the
    model of its GPU; None where that was on the same model, or was none. `folder` is that of
    `plan`."""
    note = _note(plan, folder)
    if not note.exists():
        return None
    begun = json.loads(note.read_text(encoding="utf-8"))
    if begun["gpu"] == plan.gpu_name:
        return None
    return folder.with_name(begun["fingerprint"]), begun["gpu"] or _NO_GPU


def refuse_other_gpu(plan: Plan, gpu: str, run_id: str) -> None:
    """Raises `UserError` where a run that was broken off on `gpu` must not be begun anew."""
    if plan.experiment.on_other_gpu is OnOtherGpu.anew:
        return
    raise UserError(
        f"run {run_id} of this configuration was broken off on {gpu}, and this is "
        f"{plan.gpu_name or _NO_GPU}: a run has the energy of one model of GPU. Give the same "
        f"command where there is {gpu}, or begin the run anew here with on_other_gpu=anew"
    )


def note_gpu(plan: Plan, folder: Path) -> None:
    """Note on which model of GPU the run is begun."""
    begun = {"fingerprint": plan.fingerprint, "gpu": plan.gpu_name}
    write_whole(_note(plan, folder), json.dumps(begun))


def forget_gpu(plan: Plan, folder: Path) -> None:
    """The run has finished: nothing of it is to be continued."""
    note = _note(plan, folder)
    if note.exists() and json.loads(note.read_text(encoding="utf-8"))["gpu"] == plan.gpu_name:
        note.unlink(missing_ok=True)


def _note(plan: Plan, folder: Path) -> Path:
    """Beside the journals, under what the configuration asks for, whatever it runs on."""
    facts = [plan.configuration, plan.suite.checksum, plan.checkpoint.checksum]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    return folder.with_name(f"{name}.gpu")
