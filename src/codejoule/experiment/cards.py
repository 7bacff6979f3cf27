"""The cards of ``conf/gpu``, and this machine's."""

from dataclasses import fields, replace

from codejoule.config import ConfigError
from codejoule.config.schema import DETECTED_GPU, GpuConfig
from codejoule.config.typed import choices
from codejoule.estimate import Card, read_card
from codejoule.measurement import detect_hardware


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
