"""Time and energy of one batch, from its first prompt token to its last new one."""

from dataclasses import dataclass

from codejoule.domain import Workload
from codejoule.estimate.card import Card
from codejoule.estimate.power import PowerModel
from codejoule.estimate.speed import EngineSpeed
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
    """
    peak = card.peak_flop_per_s(work.quantization, dtype=work.dtype)
    if peak is None:
        return None

    def time_and_energy(one: Work) -> tuple[float, float | None]:
        time_s = engine.pass_s(
            one,
            card=card,
            peak_flop_per_s=peak,
            layers=work.architecture.layers,
            batch=work.batch,
        )
        power_w = power.power_w(
            card,
            bytes_per_s=one.moved_bytes / time_s,
            flop_per_s=one.flop / time_s,
            peak_flop_per_s=peak,
        )
        return time_s, None if power_w is None else power_w * time_s

    prefill, decode = prefill_work(work), decode_work(work, expands_heads=engine.expands_heads)
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
