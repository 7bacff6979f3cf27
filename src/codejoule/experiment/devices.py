"""On which device a run's model lies, and the cards of ``conf/gpu`` and of this machine."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import DETECTED_GPU, Device, GpuConfig
from codejoule.config.typed import choices
from codejoule.estimate import Card, read_card
from codejoule.experiment.memory import MemoryPlan
from codejoule.measurement import Hardware, detect_hardware


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
    if device is Device.cpu:
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


def known_cards() -> list[Card]:
    """All cards whose figures are on file, the smallest memory first."""
    return sorted(map(_card, _on_file()), key=lambda card: card.memory_bytes)


def known_card(driver_name: str) -> Card | None:
    """The card on file that the driver calls so; None where there is none."""
    found = [config for config in _on_file() if driver_name in config.driver_names]
    return _card(found[0]) if found else None


def find_card(gpu: GpuConfig) -> Card:
    """The card that `gpu` describes; what it leaves null, NVML tells, or the file of that card.
    Raises `ConfigError` where there is no card to detect, and names the cards on file."""
    if gpu.name != DETECTED_GPU or None not in (gpu.memory_bytes, gpu.bandwidth_bytes_per_s):
        return _card(gpu)
    hardware = detect_hardware()
    if not hardware.gpus:
        raise ConfigError(
            f"gpu={DETECTED_GPU}: no card to read ({hardware.gpu_problem}); name the card to "
            f"predict for, gpu={_names()}, or give gpu.memory_bytes=... and "
            "gpu.bandwidth_bytes_per_s=..."
        )
    import pynvml

    try:
        card = read_card(hardware.gpus[0].index)
    except pynvml.NVMLError as error:
        raise ConfigError(
            f"gpu={DETECTED_GPU}: {hardware.gpus[0].name} does not tell its memory's clock and "
            f"width ({error}); name the card, gpu={_names()}"
        ) from error
    on_file = known_card(card.name)
    for source in (on_file, gpu):
        known = {
            field.name: getattr(source, field.name, None)
            for field in fields(card)
            if field.name != "name" and (source is gpu or getattr(card, field.name) is None)
        }
        card = replace(card, **{key: value for key, value in known.items() if value is not None})
    return card


def _on_file() -> list[GpuConfig]:
    return choices("gpu", GpuConfig, without=DETECTED_GPU)


def _names() -> str:
    return ", ".join(sorted(card.name for card in known_cards()))


def _card(gpu: GpuConfig) -> Card:
    assert gpu.memory_bytes is not None and gpu.bandwidth_bytes_per_s is not None
    return Card(**{field.name: getattr(gpu, field.name) for field in fields(Card)})
