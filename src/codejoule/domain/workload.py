"""A model and what it is to decode at once."""

from dataclasses import dataclass

from codejoule.domain.architecture import Architecture
from codejoule.domain.dtype import dtype_bytes
from codejoule.domain.quantization import Quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model and a batch; what its memory, its time and its energy depend on.

    Raises `ValueError` for lengths below 1 and for a dtype that is not known.
    """

    architecture: Architecture
    """The decoder."""
    quantization: Quantization
    """How its linear layers are stored, with the group size in force."""
    dtype: str
    """``float32``, ``float16`` or ``bfloat16``, of everything unquantized, the cache included."""
    batch: int
    """Sequences decoded together."""
    prompt_tokens: int
    """Length to which prompts are padded."""
    new_tokens: int
    """Tokens generated for each sequence, or the limit on them."""

    def __post_init__(self) -> None:
        for name in ("batch", "prompt_tokens", "new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        dtype_bytes(self.dtype)

    @property
    def number_bytes(self) -> int:
        """Bytes of an unquantized number."""
        return dtype_bytes(self.dtype)

    @property
    def cached_tokens(self) -> int:
        """Tokens of one sequence in the cache at its end: the last is never fed back."""
        return self.prompt_tokens + self.new_tokens - 1

    @property
    def mean_cached_tokens(self) -> float:
        """Tokens of one sequence in the cache in the middle of its generation."""
        return self.prompt_tokens + self.new_tokens / 2
