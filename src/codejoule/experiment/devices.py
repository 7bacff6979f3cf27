"""On which device a run's model lies."""

import os
from collections import Counter
from collections.abc import Sequence

from codejoule.config import UserError
from codejoule.config.schema import Device
from codejoule.experiment.memory_plan import MemoryPlan
from codejoule.measurement import Hardware, amd_problem


def gpus_in_use(device: str, memory: MemoryPlan | None) -> tuple[int, ...]:
    """GPUs that a model on `device` will lie on, by PyTorch's numbers: the first so many. The one
    place that says so: the meter counts these GPUs, and the run stops if the model then lies on
    others."""
    if device != "cuda":
        return ()
    return tuple(range(1 if memory is None else len(memory.by_device_bytes)))


def name_of_gpus(gpus: Sequence[int], hardware: Hardware) -> str:
    """The models of these GPUs, each with its number where there are several."""
    counts = Counter(hardware.gpus[number].name for number in gpus)
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())


def choose_device(device: Device, hardware: Hardware) -> str:
    """``cpu`` or ``cuda``. Raises `UserError` where CUDA is asked for and cannot be had, and where
    PyTorch has a GPU that NVML does not show (a MIG slice, an AMD card): its energy could not be
    measured."""
    mig = os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("MIG")
    hidden = mig or amd_problem() is not None
    if device is Device.cpu or (device is Device.auto and not hardware.gpus and not hidden):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        if hardware.gpus:
            return "cuda"
        raise UserError(
            f"device={device.name}: PyTorch sees a GPU whose energy cannot be measured "
            f"({hardware.gpu_problem}); use a whole GPU, or device=cpu"
        )
    if device is Device.auto:
        return "cpu"
    raise UserError(
        f"device=cuda: this PyTorch ({torch.__version__}) sees no CUDA GPU "
        f"({hardware.gpu_problem or 'the driver does'}); install a CUDA build of PyTorch and "
        "check CUDA_VISIBLE_DEVICES, or use device=cpu"
    )
