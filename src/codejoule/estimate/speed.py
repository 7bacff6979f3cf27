"""How near an engine comes to a card's limits, and the power that the card then draws, as
measured."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

IDLE_SHARE = 0.11
"""Idle power over the power limit where a card's was not measured: that of an H200 (77 of 700 W),
which need not be another card's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpeed:
    """What separates a card's peaks from the time of a forward pass (`estimate_generation`)."""

    bandwidth_efficiency: float
    """Share of the peak memory bandwidth that the pass reaches."""
    compute_efficiency: float
    """Share of the peak rate that its multiplications reach."""
    kernel_s_per_layer: float
    """Time per layer in which the card starts and drains kernels [s]."""
    four_bit_s_per_layer: float
    """Time per layer that kernels take longer with weights of 4 bits, which they unpack [s]; 0 for
    an engine that was fitted to no such run."""
    sequence_s: float
    """Time per sequence of the batch: sampling, small kernels of the attention [s]."""
    host_s_per_layer: float
    """Time per layer in which the host prepares kernels, beside the card [s]; 0 with CUDA
    graphs."""
    expands_heads: bool
    """Whether grouped keys and values are written out per query head (`decode_work`)."""
    absorbs_latents: bool = False
    """Whether latent attention computes with the latents themselves (`decode_work`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerModel:
    """Shares of the power limit that a card takes on top of idle (`estimate_generation`)."""

    active_share: float
    """Share while any kernel runs, whatever it does."""
    bandwidth_share: float
    """Share at the peak memory bandwidth; in proportion below it."""
    compute_share: float
    """Share at the peak rate; in proportion below it. It is above 1 for decoding's narrow matrices,
    which fill a fraction of a tensor core; the power limit then holds."""
    four_bit_share: float
    """Share while kernels unpack weights of 4 bits (`EngineSpeed.four_bit_s_per_layer`)."""


_STATIC = EngineSpeed(
    bandwidth_efficiency=0.824,
    compute_efficiency=0.455,
    kernel_s_per_layer=116.6e-6,
    four_bit_s_per_layer=0.0,
    sequence_s=31.9e-6,
    host_s_per_layer=0.0,
    expands_heads=True,
)

ENGINE_SPEEDS: Mapping[str, EngineSpeed] = {
    # Eager decoding waits for the host: five runs on two machines, 1.8 to 2.6 ms per layer.
    "generate": replace(_STATIC, host_s_per_layer=2.20e-3),
    "static": _STATIC,
    "graph": EngineSpeed(
        bandwidth_efficiency=0.778,
        compute_efficiency=0.639,
        kernel_s_per_layer=27.8e-6,
        four_bit_s_per_layer=0.0,
        sequence_s=25.8e-6,
        host_s_per_layer=0.0,
        expands_heads=False,
    ),
    "vllm": EngineSpeed(
        bandwidth_efficiency=1.0,
        compute_efficiency=0.711,
        kernel_s_per_layer=58.1e-6,
        four_bit_s_per_layer=42.4e-6,
        sequence_s=13.4e-6,
        host_s_per_layer=0.0,
        expands_heads=False,
        absorbs_latents=True,
    ),
}
"""Speeds by the name of the engine in the group ``engine``; for other engines no speed is known.

Fitted with `calibrate_speed` to the unquantized runs of fixed length in
``tests/golden/h200_engines.csv``, for generate and static to ``tests/golden/h200_speed.csv`` too,
and for vllm to the unquantized and 4-bit runs in ``tests/golden/h200_vllm.csv``, from a prior of
0.7 and 0.5 of the peaks and 50 us per layer and sequence: a machine's host and an engine's version
change them. Calibrate with runs of your own.
"""

POWER = PowerModel(
    active_share=0.0614, bandwidth_share=0.915, compute_share=1.685, four_bit_share=0.338
)
"""Shares of the power limit, fitted with `calibrate_power` to the same runs."""

MEASURED_WITH = "36 runs on H200s, 28 of them unquantized"
"""What both were fitted to, in words."""
