"""How a model's linear layers are stored."""

from dataclasses import dataclass

BITS = {"none": (None,), "gptq": (4, 8), "awq": (4,), "bnb": (4, 8), "torchao": (8,)}
"""Methods, as the configuration names them, and the bits that each stores a weight in."""

PACKED = ("gptq", "awq")
"""Methods that pack weights of a group with a common scale into 32-bit words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """Method, bits and group size; what the bytes of a quantized layer depend on."""

    method: str = "none"
    """``none``, ``gptq``, ``awq``, ``bnb`` (bitsandbytes: NF4 or LLM.int8) or ``torchao``."""
    bits: int | None = None
    """Bits per weight; None for ``none``."""
    group_size: int | None = None
    """Weights along the input that share one scale, -1 for the whole input; of no use but for
    ``gptq`` and ``awq``, which need it."""

    def __post_init__(self) -> None:
        if self.method not in BITS:
            raise ValueError(f"method={self.method}: choose one of {', '.join(BITS)}")
        allowed = BITS[self.method]
        if self.bits not in allowed:
            raise ValueError(f"bits={self.bits}: {self.method} takes {_or(allowed)}")
        size = self.group_size
        if self.packed and (size is None or (size != -1 and size < 1)):
            raise ValueError(
                f"group_size={size}: {self.method} needs one of at least 1, or -1 for whole rows"
            )

    @property
    def packed(self) -> bool:
        """Whether weights are packed in groups (``gptq``, ``awq``)."""
        return self.method in PACKED


def _or(choices: tuple[int | None, ...]) -> str:
    return " or ".join(map(str, choices))
