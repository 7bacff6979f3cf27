"""What is known of each engine, from measurements on one NVIDIA H200."""

from collections.abc import Mapping

from codejoule.estimate.engine_speed import EngineSpeed
from codejoule.estimate.power_model import PowerModel

_STATIC = EngineSpeed(
    bandwidth_efficiency=0.655,
    compute_efficiency=0.686,
    kernel_s_per_layer=87.7e-6,
    sequence_s=35.6e-6,
    host_s_per_layer=0.0,
    expands_heads=True,
)

ENGINES: Mapping[str, EngineSpeed] = {
    "generate": EngineSpeed(
        bandwidth_efficiency=_STATIC.bandwidth_efficiency,
        compute_efficiency=_STATIC.compute_efficiency,
        kernel_s_per_layer=_STATIC.kernel_s_per_layer,
        sequence_s=_STATIC.sequence_s,
        # Eager decoding waits for the host: three runs, 2.2 to 2.6 ms per layer.
        host_s_per_layer=2.44e-3,
        expands_heads=True,
    ),
    "static": _STATIC,
    "graph": EngineSpeed(
        bandwidth_efficiency=0.746,
        compute_efficiency=0.449,
        kernel_s_per_layer=48.7e-6,
        sequence_s=57.4e-6,
        host_s_per_layer=0.0,
        expands_heads=True,
    ),
}
"""Engines by the name that the group ``engine`` has for them; of others no speed is known.

Fitted with `calibrate_speed` to the figures of ``tests/golden/h200_speed.csv``, two or three per
engine, from a prior of 0.7 and 0.5 of the peaks and 50 us per layer and sequence: a machine's host
and an engine's version change them. Calibrate with runs of your own.
"""

POWER = PowerModel(active_share=0.045, bandwidth_share=0.859, compute_share=3.39)
"""Shares of the power limit, fitted with `calibrate_power` to the same runs."""
