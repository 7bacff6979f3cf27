"""Parameters of a decoder, and the bytes of its weights: exact, by part and layer by layer."""

from dataclasses import dataclass, replace
from itertools import pairwise

from codejoule.domain import Architecture, Quantization, dtype_bytes, linear_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """Parameters of each part, over all layers."""

    embeddings: int
    """The embedding matrix."""
    attention: int
    """Projections of the attention, biases included, and attention sinks."""
    mlp: int
    """Ordinary MLPs."""
    shared_experts: int
    """Experts that every token passes."""
    routed_experts: int
    """Experts to choose from, all of them."""
    router: int
    """Matrices that choose."""
    norms: int
    """RMSNorm weights."""
    head: int
    """The output matrix; 0 where it is the embedding matrix."""
    active: int
    """Parameters that one token is multiplied with: the chosen experts instead of all, the
    head whether tied or not, and no embedding (a lookup)."""

    @property
    def total(self) -> int:
        """All parameters; a tied matrix counts once."""
        return (
            self.embeddings
            + self.attention
            + self.mlp
            + self.shared_experts
            + self.routed_experts
            + self.router
            + self.norms
            + self.head
        )


def count_parameters(architecture: Architecture) -> ParameterCount:
    r"""Count parameters, exactly as transformers builds the model.

    Parameters
    ----------
    architecture : Architecture
        The decoder.

    Returns
    -------
    ParameterCount
        Whole numbers, by part.

    Notes
    -----
    With vocabulary :math:`v`, width :math:`m`, layers :math:`l`, heads :math:`h` and key-value
    heads :math:`h_{kv}` of width :math:`d`, and MLP width :math:`d_{ff}`, a dense model has

    .. math::
        n = v m\,[1 + \text{untied}]
            + l\,\bigl(2 m h d + 2 m h_{kv} d + b\bigr)
            + l\,(3\, m\, d_{ff}) + (2 l + 1)\, m

    with biases :math:`b = (h + 2 h_{kv}) d` in Qwen2 and 0 in Llama. This replaces equation 3.19
    of Buis (2024) [1]_, which errs in five places: the MLP of eq. 3.9 is
    :math:`(d_{ff} m)^2`, where two matrices have :math:`2 d_{ff} m` and a gated MLP's three
    :math:`3 d_{ff} m`; eq. 3.7 (:math:`4 m d h l`) has no grouped-query attention; eq. 3.5 adds a
    learned position matrix, where rotary positions have none; eq. 3.13 adds an output layer with
    bias, which none of these models has and the small ones tie to the embedding; eq. 3.12 counts
    two vectors per normalization, where RMSNorm has one.

    Latent attention with ranks :math:`r_{kv}`, :math:`r_q` and widths :math:`d_n`, :math:`d_r`,
    :math:`d_v` has per layer :math:`m h (d_n + d_r)` for queries (or
    :math:`r_q (m + h (d_n + d_r))`), :math:`m (r_{kv} + d_r)` and
    :math:`r_{kv} h (d_n + d_v)` for keys and values, and :math:`h d_v m` out of it; its latents
    are normalized (:math:`r_{kv}`, :math:`r_q`). A layer of :math:`E` experts of width :math:`j`,
    of which :math:`E_s` are shared beside them, has :math:`3 m j (E + E_s) + m E`; where experts
    and router have biases, :math:`(2 j + m + 1) E` more. Normalized queries and keys have
    :math:`2 d` per layer, attention sinks :math:`h`. Equations 3.14 to 3.18 count two matrices per
    expert instead of three, and multiply :math:`j` by 1.5 "for overhead"; there is none.

    References
    ----------
    .. [1] M. Buis (2024), "Walking the tightrope: balancing energy efficiency and accuracy in
       LLM-driven code generation", Utrecht University, section 3.6.

    Examples
    --------
    >>> from codejoule.domain import Architecture
    >>> count_parameters(Architecture.from_config({
    ...     "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096,
    ...     "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    ...     "num_key_value_heads": 8, "max_position_embeddings": 131072})).total
    8030261248
    """
    a = architecture
    layers = linear_layers(a)
    by_part = {
        part: sum(layer.number * layer.parameters for layer in layers if layer.part == part)
        for part in ("attention", "mlp", "shared_experts", "routed_experts")
    }
    by_part["attention"] += a.layers * a.attention.own_weights
    embeddings = a.vocab_size * a.hidden_size
    router = 0
    if a.moe is not None:
        router = a.moe_layers * a.moe.routed * (a.hidden_size + a.moe.bias)
    norms = a.layers * (2 * a.hidden_size + a.attention.norm_weights) + a.hidden_size
    passed = sum(layer.active * layer.parameters for layer in layers)
    passed += a.layers * a.attention.own_weights
    return ParameterCount(
        embeddings=embeddings,
        **by_part,
        router=router,
        norms=norms,
        head=0 if a.tied else embeddings,
        active=passed + router + norms + embeddings,
    )


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
    """Part of the unquantized bytes: an embedding matrix that is not the head, too. Decoding reads
    single rows of it."""

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
      float32 scale and one int8 zero point per output (0.18); ``fp8``: :math:`i o`, one float32
      scale per output; ``fp8_block``: :math:`i o`, one float32 for 128 x 128 weights;
    - compressed-tensors, ``w8a8``: :math:`i o`, a 16-bit scale per output; ``w4a16``:
      :math:`i o / 2`, :math:`2 o i / g`, and the shape;
    - ``mxfp4``: :math:`i o / 2 + i o / 32`, of routed experts alone; ``nvfp4``:
      :math:`i o / 2 + i o / 16` and two float32.

    gptqmodel keeps biases of quantized layers in float16. bitsandbytes and torchao see no routed
    experts in transformers 5, which keeps a layer's experts in one tensor: they stay in `dtype`.
    vLLM's ``fp8`` quantizes them.
    GPU kernels that repack (Marlin) keep the packed weights' and scales' size and drop ``g_idx``
    and, for symmetric GPTQ, ``qzeros``: memory then lies up to 1 % (4 bits, group 128) below this.

    Equation 3.26 of Buis (2024) has bytes per parameter alone, and takes one byte for AWQ, which
    has 4 bits; it quantizes embedding and head too, which no published checkpoint does.
    """
    width = dtype_bytes(dtype)
    count = count_parameters(architecture)
    sinks = architecture.layers * architecture.attention.own_weights
    unquantized = width * float(count.embeddings + count.head + count.norms + count.router + sinks)
    facts = quantization.facts
    quantized = overhead = 0.0
    for layer in linear_layers(architecture):
        routed = layer.part == "routed_experts"
        number = layer.number * (routed_share if routed else 1.0)
        left = facts.experts_only if not routed else not facts.experts
        if facts.layer_bytes is None or left:
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
) -> tuple[int, tuple[int, ...], int]:
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
    tuple of (int, tuple of int, int)
        The embedding, which is the head too where the two are tied; each decoder layer; the last
        norm, and the head unless it is the embedding. They add up to the total of `weight_bytes`,
        exactly.

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
    layers = tuple(after - before for before, after in pairwise(totals))
    return embedding, layers, totals[0] - embedding


def _first(a: Architecture, layers: int) -> Architecture:
    """The same model with its first layers alone."""
    moe = a.moe
    if moe is not None:
        moe = replace(moe, first_dense_layers=min(layers, moe.first_dense_layers))
    return replace(a, layers=layers, moe=moe, window=None)
