"""Time and energy of one batch, from its first prompt token to its last new one."""

from dataclasses import dataclass

from codejoule.domain import Architecture, Quantization
from codejoule.estimate.card import Card
from codejoule.estimate.engine_speed import EngineSpeed
from codejoule.estimate.power_model import PowerModel
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
    architecture: Architecture,
    quantization: Quantization,
    *,
    card: Card,
    engine: EngineSpeed,
    power: PowerModel,
    batch: int,
    prompt_tokens: int,
    new_tokens: int,
    dtype: str,
) -> GenerationEstimate | None:
    r"""Predict one batch.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    quantization : Quantization
        How its linear layers are stored.
    card : Card
        The GPU.
    engine : EngineSpeed
        What runs the model.
    power : PowerModel
        What it draws.
    batch : int
        Sequences decoded together.
    prompt_tokens : int
        Length to which prompts are padded.
    new_tokens : int
        Tokens generated for each.
    dtype : str
        Dtype of everything unquantized.

    Returns
    -------
    GenerationEstimate or None
        None where the card's peak rate in this precision is not known: a prefill's time then
        cannot be told.

    Notes
    -----
    :math:`TTFT` is one pass over the prompts; :math:`TPOT` a decode step at the generation's
    mean cache length; latency :math:`TTFT + (n - 1)\,TPOT` (equation 3.33 of Buis (2024) counts
    the first token twice). Sequences that end early keep their place in the batch: give
    `new_tokens` of the longest.
    """
    peak = card.peak_flop_per_s(quantization, dtype=dtype)
    if peak is None:
        return None
    shape = {"layers": architecture.layers, "batch": batch}

    def time_and_energy(work: Work) -> tuple[float, float | None]:
        time_s = engine.pass_s(work, card=card, peak_flop_per_s=peak, **shape)
        power_w = power.power_w(
            card,
            bytes_per_s=work.moved_bytes / time_s,
            flop_per_s=work.flop / time_s,
            peak_flop_per_s=peak,
        )
        return time_s, None if power_w is None else power_w * time_s

    model = (architecture, quantization)
    prefill = prefill_work(*model, batch=batch, prompt_tokens=prompt_tokens, dtype=dtype)
    ttft_s, prefill_j = time_and_energy(prefill)
    steps = new_tokens - 1
    decode = decode_work(
        *model,
        batch=batch,
        cached_tokens=prompt_tokens + new_tokens / 2,
        dtype=dtype,
        expands_heads=engine.expands_heads,
    )
    tpot_s, step_j = time_and_energy(decode)
    return GenerationEstimate(
        batch=batch,
        new_tokens=new_tokens,
        ttft_s=ttft_s,
        tpot_s=tpot_s if steps else None,
        prefill_j=prefill_j,
        decode_j=None if step_j is None else steps * step_j,
        moved_bytes=prefill.moved_bytes + steps * decode.moved_bytes,
        flop=prefill.flop + steps * decode.flop,
    )
