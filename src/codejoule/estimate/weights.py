"""Bytes of the weights, quantized or not, in all and layer by layer."""

from dataclasses import dataclass, replace

from codejoule.domain import Architecture, Quantization, dtype_bytes, linear_layers
from codejoule.estimate.parameters import count_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightBytes:
    """Bytes of the weights, by what they are."""

    unquantized_bytes: int
    """What stays in the model's dtype: embedding, head, norms, routers, and every layer that
    the method leaves alone."""
    quantized_bytes: int
    """Quantized weights, packed."""
    overhead_bytes: int
    """What goes with them: scales, zero points, group indices, biases."""
    embedding_table_bytes: int
    """Of the unquantized, an embedding matrix that is not the head too: decoding reads a row."""

    @property
    def total_bytes(self) -> int:
        """All weights."""
        return self.unquantized_bytes + self.quantized_bytes + self.overhead_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBytes:
    """Bytes of a model's parts in the order in which a token passes them."""

    embedding_bytes: int
    """The embedding, which is the head too where the two are tied."""
    layers_bytes: tuple[int, ...]
    """Each decoder layer."""
    head_bytes: int
    """The last norm, and the head unless it is the embedding."""


def weight_bytes(
    architecture: Architecture,
    quantization: Quantization,
    *,
    dtype: str,
    routed_share: float = 1.0,
) -> WeightBytes:
    r"""Bytes of the weights as a checkpoint holds them.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    quantization : Quantization
        How its linear layers are stored.
    dtype : str
        Dtype of everything unquantized.
    routed_share : float
        Share of the routed experts to count, in [0, 1]; below 1 for what a step reads.

    Returns
    -------
    WeightBytes
        Exact for ``routed_share=1``.

    Raises
    ------
    ValueError
        If a layer's input does not divide by the group size, or its output does not fill whole
        32-bit words.

    Notes
    -----
    A layer of :math:`i` inputs and :math:`o` outputs with :math:`b` bits in groups of :math:`g`:

    - ``gptq``: ``qweight`` :math:`i o b / 8`, ``scales`` :math:`2 o i / g` (float16), ``qzeros``
      :math:`o b / 8 \cdot i / g`, ``g_idx`` :math:`4 i` (int32, one per input);
    - ``awq``: the same without ``g_idx``;
    - ``bnb``, 4 bits (NF4): :math:`i o / 2`, one float32 per 64 weights, the table of 16 values;
    - ``bnb``, 8 bits: :math:`i o`, one float32 per output; ``torchao``: :math:`i o`, one
      float32 scale and one int8 zero point per output (0.18).

    gptqmodel keeps biases of quantized layers in float16. bitsandbytes and torchao see no routed
    experts in transformers 5, which keeps a layer's experts in one tensor: they stay in `dtype`.
    GPU kernels that repack (Marlin) keep the packed weights' and scales' size and drop ``g_idx``
    and, for symmetric GPTQ, ``qzeros``: memory then lies up to 1 % (4 bits, group 128) below this.

    Equation 3.26 of Buis (2024) has bytes per parameter alone, and takes one byte for AWQ, which
    has 4 bits; it quantizes embedding and head too, which no published checkpoint does.
    """
    width = dtype_bytes(dtype)
    count = count_parameters(architecture)
    unquantized = width * float(count.embeddings + count.head + count.norms + count.router)
    facts = quantization.facts
    quantized = overhead = 0.0
    for layer in linear_layers(architecture):
        routed = layer.part == "routed_experts"
        number = layer.number * (routed_share if routed else 1.0)
        if facts.layer_bytes is None or (routed and not facts.packed):
            unquantized += number * layer.parameters * width
            continue
        weights, extra = facts.layer_bytes(layer, quantization)
        bias = layer.out_features * (facts.bias_bytes or width) if layer.bias else 0
        quantized += number * weights
        overhead += number * (extra + bias)
    return WeightBytes(
        unquantized_bytes=round(unquantized),
        quantized_bytes=round(quantized),
        overhead_bytes=round(overhead),
        embedding_table_bytes=0 if architecture.tied else width * count.embeddings,
    )


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
