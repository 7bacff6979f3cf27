"""Peak memory of the process that holds the model."""

from collections.abc import Sequence
from pathlib import Path


class PeakMemory:
    """Peak since this object was made: of the GPU on CUDA, of the process on the CPU.

    On CUDA it is what PyTorch allocated, the peaks of several GPUs added up; on the CPU the
    kernel's resident-set high-water mark, reset at the start (``/proc/self/clear_refs``). In a
    process that other jobs have used, or where the kernel refuses the reset, that mark is not
    this job's: None.
    """

    def __init__(self, device: str, *, gpus: Sequence[int] = (), own_process: bool) -> None:
        self._device = device
        self._gpus = tuple(gpus)
        self._valid = own_process
        if device == "cuda":
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
        if self._device == "cuda":
            import torch

            return sum(int(torch.cuda.max_memory_allocated(gpu)) for gpu in self._gpus)
        if not self._valid:
            return None
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None
