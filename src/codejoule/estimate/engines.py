"""What is known of each engine, from measurements on one NVIDIA H200."""

from collections.abc import Mapping

from codejoule.estimate.engine_speed import EngineSpeed
from codejoule.estimate.power_model import PowerModel

_STATIC = EngineSpeed(
    bandwidth_efficiency=0.824,
    compute_efficiency=0.455,
    kernel_s_per_layer=116.6e-6,
    sequence_s=31.9e-6,
    host_s_per_layer=0.0,
    expands_heads=True,
)

ENGINES: Mapping[str, EngineSpeed] = {
    "generate": EngineSpeed(
        bandwidth_efficiency=_STATIC.bandwidth_efficiency,
        compute_efficiency=_STATIC.compute_efficiency,
        kernel_s_per_layer=_STATIC.kernel_s_per_layer,
        sequence_s=_STATIC.sequence_s,
        # Eager decoding waits for the host: five runs on two machines, 1.8 to 2.6 ms per layer.
        host_s_per_layer=2.20e-3,
        expands_heads=True,
    ),
    "static": _STATIC,
    "graph": EngineSpeed(
        bandwidth_efficiency=0.778,
        compute_efficiency=0.639,
        kernel_s_per_layer=27.8e-6,
        sequence_s=25.8e-6,
        host_s_per_layer=0.0,
        expands_heads=False,
    ),
}
"""Engines by the name that the group ``engine`` has for them; of others no speed is known.

Fitted with `calibrate_speed` to the unquantized runs of fixed length in
``tests/golden/h200_engines.csv`` and, for generate and static, to ``tests/golden/h200_speed.csv``
too, from a prior of 0.7 and 0.5 of the peaks and 50 us per layer and sequence: a machine's host
and an engine's version change them. Calibrate with runs of your own.
"""

POWER = PowerModel(active_share=0.059, bandwidth_share=0.961, compute_share=1.573)
"""Shares of the power limit, fitted with `calibrate_power` to the same runs."""
