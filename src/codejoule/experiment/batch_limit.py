"""How many sequences are decoded together: what was asked for, until memory says less."""

import gc
import logging
from typing import TYPE_CHECKING

from codejoule.config import UserError
from codejoule.config.schema import OnOutOfMemory
from codejoule.domain import EnergyReading
from codejoule.experiment.journal_entries import reading_to_json
from codejoule.experiment.plan import Plan

if TYPE_CHECKING:
    from codejoule.tracking import Journal

_log = logging.getLogger(__name__)
OUT_OF_MEMORY = "out_of_memory"
_CPU_ALLOCATOR = "DefaultCPUAllocator: can't allocate memory"


class BatchLimit:
    """The largest batch that has not run out of memory; a continued run remembers it."""

    def __init__(self, plan: Plan, journal: "Journal") -> None:
        self._plan = plan
        self._journal = journal
        reduced = [entry["reduced_to"] for entry in journal.entries(OUT_OF_MEMORY)]
        self.size = min([plan.experiment.batch.size, *reduced])

    def reduce(
        self, error: RuntimeError, *, sequences: int, during: str, reading: EnergyReading | None
    ) -> None:
        """Halve, after `sequences` at once ran out of memory; the attempt goes on record.

        Raises `error`'s meaning as `UserError` where there is nothing to halve, or
        ``batch.on_out_of_memory=fail``; any other error is raised as it is.
        """
        if not is_out_of_memory(error):
            raise error
        halve = self._plan.experiment.batch.on_out_of_memory is OnOutOfMemory.halve
        if sequences == 1 or not halve:
            raise out_of_memory(error, self._plan, sequences, can_halve=sequences > 1) from error
        # The error's frames hold the tensors of the attempt.
        error.__traceback__ = None
        _free(self._plan.device)
        self.size = sequences // 2
        self._journal.append(
            OUT_OF_MEMORY,
            {
                "during": during,
                "sequences": sequences,
                "reduced_to": self.size,
                "reading": None if reading is None else reading_to_json(reading),
                "error": str(error).partition("\n")[0],
            },
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
        isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error)
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


def _free(device: str) -> None:
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
