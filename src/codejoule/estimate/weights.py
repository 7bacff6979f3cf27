"""Bytes of the weights, quantized or not."""

from dataclasses import dataclass

from codejoule.domain import Architecture, Quantization, dtype_bytes
from codejoule.estimate.layers import LinearLayers, linear_layers
from codejoule.estimate.parameters import count_parameters

_NF4_BLOCK = 64
"""Weights that share one absmax in bitsandbytes' 4-bit layers (its default)."""
_NF4_TABLE_BYTES = 16 * 4
"""The 16 values of NF4 in float32, which each layer keeps."""


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
    quantized = overhead = 0.0
    for layer in linear_layers(architecture):
        routed = layer.part == "routed_experts"
        number = layer.number * (routed_share if routed else 1.0)
        if quantization.method == "none" or (routed and not quantization.packed):
            unquantized += number * layer.parameters * width
            continue
        weights, extra = _layer(layer, quantization, width)
        quantized += number * weights
        overhead += number * extra
    return WeightBytes(
        unquantized_bytes=round(unquantized),
        quantized_bytes=round(quantized),
        overhead_bytes=round(overhead),
        embedding_table_bytes=0 if architecture.tied else width * count.embeddings,
    )


def _layer(layer: LinearLayers, quantization: Quantization, width: int) -> tuple[int, int]:
    """Bytes of one quantized layer's weights, and of what goes with them."""
    inputs, outputs = layer.in_features, layer.out_features
    bias = outputs * width if layer.bias else 0
    if quantization.packed:
        return _packed(layer, quantization)
    if quantization.method == "bnb" and quantization.bits == 4:
        blocks = -(-layer.weights // _NF4_BLOCK)
        return -(-layer.weights // 2), 4 * blocks + _NF4_TABLE_BYTES + bias
    if quantization.method == "bnb":
        return inputs * outputs, 4 * outputs + bias
    assert quantization.method == "torchao"
    return inputs * outputs, (4 + 1) * outputs + bias


def _packed(layer: LinearLayers, quantization: Quantization) -> tuple[int, int]:
    inputs, outputs, bits = layer.in_features, layer.out_features, quantization.bits
    assert bits is not None and quantization.group_size is not None
    size = inputs if quantization.group_size == -1 else quantization.group_size
    if inputs % size:
        raise ValueError(
            f"group_size={size}: {layer.name} has {inputs} inputs, which do not divide by it"
        )
    if inputs * bits % 32 or outputs * bits % 32:
        raise ValueError(
            f"{layer.name} ({inputs} x {outputs}) with {bits} bits does not fill 32-bit words"
        )
    groups = inputs // size
    scales, zeros = 2 * groups * outputs, groups * outputs * bits // 8
    indices = 4 * inputs if quantization.method == "gptq" else 0
    bias = 2 * outputs if layer.bias else 0
    return layer.weights * bits // 8, scales + zeros + indices + bias
