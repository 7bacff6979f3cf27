"""Bytes of the weights, layer by layer: what a placement on several GPUs starts from."""

from dataclasses import dataclass, replace

from codejoule.domain import Architecture, Quantization, dtype_bytes
from codejoule.estimate.weights import weight_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBytes:
    """Bytes of a model's parts in the order in which a token passes them."""

    embedding_bytes: int
    """The embedding, which is the head too where the two are tied."""
    layers_bytes: tuple[int, ...]
    """Each decoder layer."""
    head_bytes: int
    """The last norm, and the head unless it is the embedding."""


def bytes_by_layer(
    architecture: Architecture, quantization: Quantization, *, dtype: str
) -> LayerBytes:
    """Divide the weights by layer.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    quantization : Quantization
        How its linear layers are stored.
    dtype : str
        Dtype of everything unquantized.

    Returns
    -------
    LayerBytes
        Adds up to the total of `weight_bytes`, exactly.

    Raises
    ------
    ValueError
        As `weight_bytes`.
    """
    totals = [
        weight_bytes(_first(architecture, n), quantization, dtype=dtype).total_bytes
        for n in range(architecture.layers + 1)
    ]
    embedding = architecture.vocab_size * architecture.hidden_size * dtype_bytes(dtype)
    return LayerBytes(
        embedding_bytes=embedding,
        layers_bytes=tuple(totals[n + 1] - totals[n] for n in range(architecture.layers)),
        head_bytes=totals[0] - embedding,
    )


def _first(a: Architecture, layers: int) -> Architecture:
    """The same model with its first layers alone."""
    moe = a.moe
    if moe is not None:
        moe = replace(moe, first_dense_layers=min(layers, moe.first_dense_layers))
    return replace(a, layers=layers, moe=moe)
