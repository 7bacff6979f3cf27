"""The memory of the process that holds the model: its peak, and what is done when it is full."""

import gc
import logging
from collections.abc import Sequence
from pathlib import Path

from codejoule.config import UserError
from codejoule.config.schema import OnOutOfMemory
from codejoule.domain import EnergyReading
from codejoule.experiment.plan import Plan
from codejoule.models.compat import CPU_ALLOCATOR
from codejoule.tracking import Journal
from codejoule.tracking.entries import OutOfMemory

_log = logging.getLogger(__name__)


class PeakMemory:
    """Peak since this object was made: of the GPU on CUDA, of the process on the CPU. On CUDA it is
    what PyTorch allocated, the peaks of several GPUs added up; on the CPU the kernel's resident-set
    high-water mark, reset at the start (``/proc/self/clear_refs``). In a process that other jobs
    have used, or where the kernel refuses the reset, that mark is not this job's: None."""

    def __init__(self, device: str, *, gpus: Sequence[int] = (), own_process: bool) -> None:
        self._gpus = tuple(gpus)
        self._on_gpus = device == "cuda"
        self._valid = own_process
        if self._on_gpus:
            import torch

            torch.cuda.empty_cache()
            for gpu in self._gpus:
                torch.cuda.reset_peak_memory_stats(gpu)
        elif own_process:
            try:
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            except OSError:
                self._valid = False

    def read(self) -> int | None:
        """Peak so far [bytes]; None where it cannot be known."""
        if self._on_gpus:
            import torch

            return sum(int(torch.cuda.max_memory_allocated(gpu)) for gpu in self._gpus)
        if not self._valid:
            return None
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None


class BatchLimit:
    """The largest batch that has not run out of memory; a continued run remembers it."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self._plan = plan
        self._journal = journal
        reduced = [entry.reduced_to for entry in journal.entries(OutOfMemory)]
        self.size = min([plan.experiment.batch.size, *reduced])

    def reduce(
        self, error: Exception, *, sequences: int, during: str, reading: EnergyReading | None
    ) -> None:
        """Halve, after `sequences` at once ran out of memory; the attempt goes on record. Raises
        `error`'s meaning as `UserError` where there is nothing to halve, or
        ``batch.on_out_of_memory=fail``; any other error is raised as it is."""
        if not is_out_of_memory(error):
            raise error
        halve = self._plan.experiment.batch.on_out_of_memory is OnOutOfMemory.halve
        if sequences == 1 or not halve:
            raise out_of_memory(error, self._plan, sequences, can_halve=sequences > 1) from error
        # The error's frames hold the tensors of the attempt.
        error.__traceback__ = None
        gc.collect()
        if self._plan.device == "cuda":
            import torch

            torch.cuda.empty_cache()
        self.size = sequences // 2
        self._journal.append(
            OutOfMemory(
                during=during,
                sequences=sequences,
                reduced_to=self.size,
                reading=reading,
                error=str(error).partition("\n")[0],
            )
        )
        _log.warning(
            "out of memory with %d sequences at once: goes on with %d, and is tagged so. Its "
            "figures are those of smaller batches; set batch.size=%d to have them under their "
            "name, or batch.on_out_of_memory=fail",
            sequences,
            self.size,
            self.size,
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is PyTorch's error for an allocation that has no room."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)
    )


def out_of_memory(
    error: BaseException, plan: Plan, sequences: int | None, *, can_halve: bool
) -> UserError:
    """The same in the user's words."""
    import torch

    room = ""
    if plan.device == "cuda" and torch.cuda.is_available():
        free = ", ".join(
            "{:.1f} of {:.1f} GiB free".format(*(n / 2**30 for n in torch.cuda.mem_get_info(gpu)))
            for gpu in plan.gpus
        )
        room = f" ({free})"
    at_once = "" if sequences is None else f" with {sequences} sequences at once"
    remedy = "leave batch.on_out_of_memory=halve, use a smaller batch (batch=b1)"
    return UserError(
        f"out of memory: {plan.experiment.model.name}{at_once} and up to {plan.max_new_tokens} "
        f"new tokens{room}: {str(error).partition(chr(10))[0]}; "
        + (f"{remedy}, " if can_halve else "use ")
        + "quantized weights (quant=gptq4), a smaller generation.max_new_tokens, or a larger "
        "device"
    )
