"""What the estimator is asked about."""

from dataclasses import dataclass
from typing import Any

from codejoule.domain import Architecture, Quantization
from codejoule.estimate.memory import MemoryEstimate, memory_needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model and what it is to decode at once."""

    architecture: Architecture
    """The model's."""
    quantization: Quantization
    """How it is stored, with the group size in force."""
    dtype: str
    """Dtype of everything unquantized."""
    batch: int
    """Sequences decoded together."""
    prompt_tokens: int
    """Length of the longest prompt, to which the others are padded."""
    new_tokens: int
    """Limit on new tokens."""

    @property
    def lengths(self) -> dict[str, Any]:
        """Keyword arguments that the estimator's functions share, batch aside."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "dtype": self.dtype,
        }

    def needed(self) -> MemoryEstimate:
        """Memory of one device that holds everything."""
        model = (self.architecture, self.quantization)
        return memory_needed(*model, batch=self.batch, **self.lengths)
