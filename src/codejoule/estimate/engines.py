"""What is known of each engine, from measurements on one NVIDIA H200."""

from collections.abc import Mapping

from codejoule.estimate.engine_speed import EngineSpeed
from codejoule.estimate.power_model import PowerModel

_STATIC = EngineSpeed(
    bandwidth_efficiency=0.795,
    compute_efficiency=0.472,
    kernel_s_per_layer=115.0e-6,
    sequence_s=28.1e-6,
    host_s_per_layer=0.0,
    expands_heads=True,
)

ENGINES: Mapping[str, EngineSpeed] = {
    "generate": EngineSpeed(
        bandwidth_efficiency=_STATIC.bandwidth_efficiency,
        compute_efficiency=_STATIC.compute_efficiency,
        kernel_s_per_layer=_STATIC.kernel_s_per_layer,
        sequence_s=_STATIC.sequence_s,
        # Eager decoding waits for the host: seven runs on three machines, 1.8 to 2.6 ms per layer.
        host_s_per_layer=2.29e-3,
        expands_heads=True,
    ),
    "static": _STATIC,
    "graph": EngineSpeed(
        bandwidth_efficiency=0.773,
        compute_efficiency=0.694,
        kernel_s_per_layer=28.6e-6,
        sequence_s=22.2e-6,
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

POWER = PowerModel(active_share=0.060, bandwidth_share=0.954, compute_share=1.661)
"""Shares of the power limit, fitted with `calibrate_power` to the same runs."""
