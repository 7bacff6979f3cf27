"""The cards of ``conf/gpu``, and this machine's."""

from typing import TYPE_CHECKING

from codejoule.cli.estimate.composed import choices
from codejoule.config import ConfigError
from codejoule.config.schema import DETECTED_GPU, GpuConfig

if TYPE_CHECKING:
    from codejoule.estimate import Card


def known_cards() -> "list[Card]":
    """All cards whose figures are on file, the smallest memory first."""
    configs = choices("gpu", GpuConfig, without=DETECTED_GPU)
    return sorted(map(_card, configs), key=lambda card: card.memory_bytes)


def find_card(gpu: GpuConfig) -> "Card":
    """The card that `gpu` describes; what it leaves null, NVML tells.

    Raises `ConfigError` where there is no card to detect, and names the cards on file.
    """
    if gpu.name != DETECTED_GPU or None not in (gpu.memory_bytes, gpu.bandwidth_bytes_per_s):
        return _card(gpu)
    from dataclasses import fields, replace

    from codejoule.estimate import read_card
    from codejoule.measurement import detect_hardware

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
    given = {
        field.name: getattr(gpu, field.name)
        for field in fields(card)
        if field.name != "name" and getattr(gpu, field.name) is not None
    }
    return replace(card, **given)


def _names() -> str:
    return ", ".join(sorted(card.name for card in known_cards()))


def _card(gpu: GpuConfig) -> "Card":
    from codejoule.estimate import Card

    assert gpu.memory_bytes is not None and gpu.bandwidth_bytes_per_s is not None
    return Card(
        name=gpu.name,
        memory_bytes=gpu.memory_bytes,
        bandwidth_bytes_per_s=gpu.bandwidth_bytes_per_s,
        peak_float16_flop_per_s=gpu.peak_float16_flop_per_s,
        peak_bfloat16_flop_per_s=gpu.peak_bfloat16_flop_per_s,
        peak_int8_op_per_s=gpu.peak_int8_op_per_s,
        power_limit_w=gpu.power_limit_w,
        idle_power_w=gpu.idle_power_w,
    )
