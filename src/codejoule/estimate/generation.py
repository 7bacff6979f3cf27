"""Time and energy of one batch, from its first prompt token to its last new one."""

from dataclasses import dataclass

from codejoule.domain import Workload
from codejoule.estimate.card import Card
from codejoule.estimate.speed import IDLE_SHARE, EngineSpeed, PowerModel
from codejoule.estimate.work import Work, decode_work, prefill_work


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationEstimate:
    """What one batch is expected to take. No measurement."""

    batch: int
    """Sequences."""
    new_tokens: int
    """Tokens generated for each."""
    ttft_s: float
    """Time to the first token [s]."""
    tpot_s: float | None
    """Time per further step [s]; None for one new token."""
    prefill_j: float | None
    """Energy up to the first token [J]; None where the card's power limit is not known."""
    decode_j: float | None
    """Energy after it [J]."""
    moved_bytes: float
    """Bytes moved in all."""
    flop: float
    """Operations in all."""

    @property
    def latency_s(self) -> float:
        """Time of the whole batch [s]."""
        return self.ttft_s + (self.tpot_s or 0.0) * (self.new_tokens - 1)

    @property
    def tokens_per_s(self) -> float:
        """New tokens of all sequences over that time."""
        return self.batch * self.new_tokens / self.latency_s

    @property
    def energy_j(self) -> float | None:
        """Energy of the card, idle power included [J]."""
        if self.prefill_j is None or self.decode_j is None:
            return None
        return self.prefill_j + self.decode_j

    @property
    def mean_power_w(self) -> float | None:
        """That energy over that time [W]."""
        return None if self.energy_j is None else self.energy_j / self.latency_s


def estimate_generation(
    work: Workload, *, card: Card, engine: EngineSpeed, power: PowerModel
) -> GenerationEstimate | None:
    r"""Predict one batch.

    Parameters
    ----------
    work : Workload
        The model and its batch.
    card : Card
        The GPU.
    engine : EngineSpeed
        What runs the model.
    power : PowerModel
        What it draws.

    Returns
    -------
    GenerationEstimate or None
        None where the card's peak rate in this precision is not known: a prefill's time then
        cannot be told.

    Notes
    -----
    :math:`TTFT` is one pass over the prompts; :math:`TPOT` a decode step at the generation's
    mean cache length; latency :math:`TTFT + (n - 1)\,TPOT` (equation 3.33 of Buis (2024) counts
    the first token twice). Sequences that end early keep their place in the batch:
    ``new_tokens`` is that of the longest.

    A pass over :math:`D` bytes with :math:`O` operations takes, on a card of bandwidth :math:`B`
    and peak :math:`F`, with :math:`l` layers and :math:`b` sequences,

    .. math:: t = \max\left(l\,t_h,\;\; l\,(t_k + t_p) + b\,t_s
        + \max\left(\frac{D}{\eta_B B}, \frac{O}{\eta_F F}\right)\right)

    with the fields of `EngineSpeed` in their order as
    :math:`\eta_B, \eta_F, t_k, t_p, t_s, t_h`; what counts for 4 bits alone is
    :math:`t_p`. The host works ahead of the card, so the slower of both counts. It draws

    .. math:: P = \min\left(P_l,\; P_0 + P_l\left(\alpha
        + \beta \frac{D/t}{B} + \gamma \frac{O/t}{F} + \delta \frac{l\,t_p}{t}
        \right)\right)

    with the limit :math:`P_l`, idle power :math:`P_0`, `IDLE_SHARE` of the limit where it is not
    known, and the fields of `PowerModel` in their order. Equation 3.34 of Buis (2024) has a
    constant power instead.
    """
    peak = card.peak_flop_per_s(work.quantization, dtype=work.dtype)
    if peak is None:
        return None
    layers, bandwidth = work.architecture.layers, card.bandwidth_bytes_per_s
    unpacking_s = layers * engine.four_bit_s_per_layer if work.quantization.bits == 4 else 0.0

    def time_and_energy(one: Work) -> tuple[float, float | None]:
        roof_s = max(
            one.moved_bytes / (engine.bandwidth_efficiency * bandwidth),
            one.flop / (engine.compute_efficiency * peak),
        )
        on_card_s = (
            roof_s + engine.kernel_s_per_layer * layers + unpacking_s
            + engine.sequence_s * work.batch
        )  # fmt: skip
        time_s = max(engine.host_s_per_layer * layers, on_card_s)
        if card.power_limit_w is None:
            return time_s, None
        share = (
            power.active_share
            + power.bandwidth_share * one.moved_bytes / time_s / bandwidth
            + power.compute_share * one.flop / time_s / peak
            + power.four_bit_share * unpacking_s / time_s
        )
        idle_w = card.idle_power_w or IDLE_SHARE * card.power_limit_w
        return time_s, min(card.power_limit_w, idle_w + share * card.power_limit_w) * time_s

    prefill = prefill_work(work)
    decode = decode_work(
        work, expands_heads=engine.expands_heads, absorbs_latents=engine.absorbs_latents
    )
    ttft_s, prefill_j = time_and_energy(prefill)
    tpot_s, step_j = time_and_energy(decode)
    steps = work.new_tokens - 1
    return GenerationEstimate(
        batch=work.batch,
        new_tokens=work.new_tokens,
        ttft_s=ttft_s,
        tpot_s=tpot_s if steps else None,
        prefill_j=prefill_j,
        decode_j=None if step_j is None else steps * step_j,
        moved_bytes=prefill.moved_bytes + steps * decode.moved_bytes,
        flop=prefill.flop + steps * decode.flop,
    )
