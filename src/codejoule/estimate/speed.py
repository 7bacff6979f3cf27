"""How near an engine comes to a card's limits, and what is known of each engine."""

from collections.abc import Mapping
from dataclasses import dataclass

from codejoule.estimate.card import Card
from codejoule.estimate.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpeed:
    """What lies between a card's peaks and the time of a forward pass."""

    bandwidth_efficiency: float
    """Share of the peak memory bandwidth that the pass reaches."""
    compute_efficiency: float
    """Share of the peak rate that its multiplications reach."""
    kernel_s_per_layer: float
    """Time per layer in which the card starts and drains kernels [s]."""
    sequence_s: float
    """Time per sequence of the batch: sampling, small kernels of the attention [s]."""
    host_s_per_layer: float
    """Time per layer in which the host prepares kernels, beside the card [s]; 0 with CUDA
    graphs."""
    expands_heads: bool
    """Whether grouped keys and values are written out per query head (`decode_work`)."""

    def pass_s(
        self, work: Work, *, card: Card, peak_flop_per_s: float, layers: int, batch: int
    ) -> float:
        r"""Time of one forward pass.

        Parameters
        ----------
        work : Work
            What the pass does.
        card : Card
            Its bandwidth is used.
        peak_flop_per_s : float
            The card's peak in the precision of the multiplications.
        layers, batch : int
            Decoder layers and sequences.

        Returns
        -------
        float
            Seconds.

        Notes
        -----
        .. math:: t = \max\left(l\,t_h,\;\; l\,t_k + b\,t_s
            + \max\left(\frac{D}{\eta_B B}, \frac{O}{\eta_F F}\right)\right)

        with bytes :math:`D`, operations :math:`O`, and the fields of this class in their order
        as :math:`\eta_B, \eta_F, t_k, t_s, t_h`: the host works ahead of the card, so the slower
        of both counts.
        """
        roof = max(
            work.moved_bytes / (self.bandwidth_efficiency * card.bandwidth_bytes_per_s),
            work.flop / (self.compute_efficiency * peak_flop_per_s),
        )
        on_card = roof + self.kernel_s_per_layer * layers + self.sequence_s * batch
        return max(self.host_s_per_layer * layers, on_card)


_STATIC = EngineSpeed(
    bandwidth_efficiency=0.824,
    compute_efficiency=0.455,
    kernel_s_per_layer=116.6e-6,
    sequence_s=31.9e-6,
    host_s_per_layer=0.0,
    expands_heads=True,
)

ENGINE_SPEEDS: Mapping[str, EngineSpeed] = {
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

MEASURED_WITH = "20 unquantized runs on H200s"
"""What those, and `codejoule.estimate.POWER`, were fitted to, in words."""
