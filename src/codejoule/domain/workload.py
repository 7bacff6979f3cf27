"""A model, the dtype that it runs in, and what it is to decode at once."""

from dataclasses import dataclass

from codejoule.domain.architecture import Architecture
from codejoule.domain.quantization import METHODS, Quantization

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_CACHE_BYTES = {"fp8": 1}


def dtype_bytes(dtype: str) -> int:
    """Bytes per number.

    Parameters
    ----------
    dtype : str
        ``float32``, ``float16`` or ``bfloat16``.

    Returns
    -------
    int
        4 or 2.

    Raises
    ------
    ValueError
        For any other name.
    """
    try:
        return _BYTES[dtype]
    except KeyError:
        raise ValueError(f"dtype={dtype}: choose one of {', '.join(sorted(_BYTES))}") from None


def dtype_in_force(asked: str, method: str, *, device: str, own: str | None) -> str:
    """Name of the dtype of everything unquantized.

    Parameters
    ----------
    asked : str
        ``model.dtype``: a dtype, or ``auto``.
    method : str
        One of `METHODS`.
    device : str
        ``cpu`` or ``cuda``.
    own : str or None
        Dtype that the weights are kept in; None where their configuration names none.

    Returns
    -------
    str
        What was asked for; for ``auto`` float32 on a CPU, and on a GPU what the method's kernels
        take, else the weights' own.
    """
    if asked != "auto":
        return asked
    if device == "cpu":
        return "float32"
    return METHODS[method].gpu_dtype or own or "float32"


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
    """``float32``, ``float16`` or ``bfloat16``, of everything unquantized."""
    batch: int
    """Sequences decoded together."""
    prompt_tokens: int
    """Length to which prompts are padded."""
    new_tokens: int
    """Tokens generated for each sequence, or the limit on them."""
    kv_dtype: str | None = None
    """``fp8`` for keys and values of a byte each; None for `dtype`."""
    refilled: bool = False
    """Whether the next sequence takes the place of one that ends, with lengths that vary around
    `new_tokens`."""

    def __post_init__(self) -> None:
        for name in ("batch", "prompt_tokens", "new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        dtype_bytes(self.dtype)
        if self.kv_dtype is not None and self.kv_dtype not in _CACHE_BYTES:
            raise ValueError(f"kv_dtype={self.kv_dtype}: choose {', '.join(_CACHE_BYTES)} or None")

    @property
    def number_bytes(self) -> int:
        """Bytes of an unquantized number."""
        return dtype_bytes(self.dtype)

    @property
    def cache_number_bytes(self) -> int:
        """Bytes of a number in the cache."""
        return self.number_bytes if self.kv_dtype is None else _CACHE_BYTES[self.kv_dtype]

    @property
    def cached_tokens(self) -> int:
        """Tokens of one sequence in the cache at its end: the last is never fed back."""
        return self.prompt_tokens + self.new_tokens - 1

    @property
    def mean_cached_tokens(self) -> float:
        """Tokens of one sequence in the cache at a step taken at random: half of its generation. In
        a batch that is refilled, long sequences are met more often: on average so many of their
        tokens are there as a sequence has in all, for lengths distributed exponentially."""
        return self.prompt_tokens + self.new_tokens / (1 if self.refilled else 2)
