"""The largest batch that a memory holds."""

from codejoule.domain import Architecture, Quantization
from codejoule.estimate.memory import memory_needed

_MOST = 2**20


def largest_batch(
    architecture: Architecture,
    quantization: Quantization,
    *,
    memory_bytes: int,
    prompt_tokens: int,
    new_tokens: int,
    dtype: str,
) -> int:
    """Find the largest batch whose `memory_needed` fits.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    quantization : Quantization
        How its linear layers are stored.
    memory_bytes : int
        The card's memory.
    prompt_tokens : int
        Length to which prompts are padded.
    new_tokens : int
        Limit on new tokens.
    dtype : str
        Dtype of everything unquantized.

    Returns
    -------
    int
        Sequences; 0 where not even one fits, at most 2^20.
    """

    def fits(batch: int) -> bool:
        needed = memory_needed(
            architecture,
            quantization,
            batch=batch,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            dtype=dtype,
        )
        return needed.total_bytes <= memory_bytes

    # Memory grows with the batch, so the answer lies where `fits` turns from true to false.
    low, high = 0, _MOST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
