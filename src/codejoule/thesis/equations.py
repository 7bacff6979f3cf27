"""Equations 3.4 to 3.34 of the thesis, as printed.

Symbols are the thesis': ``v`` vocabulary, ``m`` width, ``c`` context, ``h`` heads, ``d`` head
width, ``l`` layers, ``d_ff`` MLP width, ``k`` normalization layers, ``j`` width of an expert; ``n``
parameters, ``b`` sequences, ``s`` tokens of each, ``g`` heads that share a key-value head, ``p``
bytes per number. Results are parameters, bytes, floating-point operations, seconds and joules.
Where an equation is wrong its docstring says so; what is right is `codejoule.estimate`, and nothing
outside of this package computes with these but `codejoule estimate --thesis`.
"""


def embedding_parameters(v: int, m: int) -> int:
    """Word embeddings, equation 3.4: ``v m``."""
    return v * m


def position_parameters(c: int, m: int) -> int:
    """Position embeddings, equation 3.5: ``c m``. Rotary positions have none."""
    return c * m


def attention_parameters(m: int, d: int, h: int, l: int) -> int:
    """Multi-head attention, equation 3.7: ``4 m d h l``. Grouped-query attention has fewer."""
    return 4 * m * d * h * l


def ffn_layer_parameters(m: int, d_ff: int) -> int:
    """One feed-forward layer, equation 3.9: ``(d_ff m)^2 + d_ff + m``.

    Two matrices of ``m x d_ff`` have ``2 d_ff m``; the square makes the figure of a 7B model 10^15
    times too large.
    """
    return (d_ff * m) ** 2 + d_ff + m


def ffn_parameters(m: int, d_ff: int, l: int) -> int:
    """All feed-forward layers, equation 3.10: equation 3.9 times ``l``."""
    return ffn_layer_parameters(m, d_ff) * l


def norm_parameters(m: int, k: int) -> int:
    """Layer normalization, equation 3.12: ``2 m k``. RMSNorm has ``m k``."""
    return 2 * m * k


def output_parameters(m: int, v: int) -> int:
    """Output layer, equation 3.13: ``m v + v``. Tied models have none, others no bias."""
    return m * v + v


def expert_width(moe_intermediate_size: int) -> float:
    """``j``, equation 3.14: 1.5 times the configured width, "for overhead", which there is not."""
    return 1.5 * moe_intermediate_size


def expert_parameters(m: int, j: float) -> float:
    """One expert, equation 3.15: ``m j + j m + j + m``. A gated expert has ``3 m j``.

    The first bias is printed as ``i``; it is as wide as the expert.
    """
    return m * j + j * m + j + m


def total_experts(routed: int, shared: int) -> int:
    """Experts of a layer, equation 3.16: routed and shared."""
    return routed + shared


def experts_parameters(per_expert: float, experts: int) -> float:
    """All experts of a layer, equation 3.17: equation 3.15 times equation 3.16."""
    return per_expert * experts


def gating_parameters(m: int, routed: int) -> int:
    """Gating network of a layer, equation 3.18: ``m n_routed``."""
    return m * routed


def dense_parameters(*, v: int, c: int, m: int, d: int, h: int, l: int, d_ff: int, k: int) -> int:
    """A dense model, equation 3.19 in its closed form.

    ``v m + c m + 4 m d h l + (d_ff m)^2 l + 5 m l + 2 m k + m v + v``. The term ``5 m l`` has
    ``d_ff = 4 m`` put in; the one before it has not.
    """
    return (
        embedding_parameters(v, m)
        + position_parameters(c, m)
        + attention_parameters(m, d, h, l)
        + (d_ff * m) ** 2 * l
        + 5 * m * l
        + norm_parameters(m, k)
        + output_parameters(m, v)
    )


def moe_layer_parameters(experts: float, shared_ffn: float, gating: float) -> float:
    """One layer of experts, equation 3.20: the experts (3.17), a shared feed-forward network and
    the gate (3.18).

    The thesis describes the sum in words; its formula is missing from the text.
    """
    return experts + shared_ffn + gating


def moe_parameters(per_layer: float, layers: int) -> float:
    """All layers of experts, equation 3.21."""
    return per_layer * layers


def moe_model_parameters(
    *, v: int, c: int, m: int, d: int, h: int, l: int, k: int, moe: float
) -> float:
    """A mixture of experts, equation 3.22, with equation 3.21 as ``moe``.

    Embeddings, positions, attention, experts, normalization and output. Ordinary layers below the
    experts, which DeepSeek-V2 has, are not in it.
    """
    return (
        embedding_parameters(v, m)
        + position_parameters(c, m)
        + attention_parameters(m, d, h, l)
        + moe
        + norm_parameters(m, k)
        + output_parameters(m, v)
    )


def cache_bytes_per_token(*, n: float, h: float, m: float, p: float) -> float:
    """Key-value cache of one token, equation 3.23: ``2 n (h m) p``.

    As printed ``n`` are parameters, ``h`` heads and ``m`` the model's width; layers, key-value
    heads and a head's width are meant, with which it is
    `codejoule.estimate.kv_cache_bytes_per_token`.
    """
    return 2 * n * (h * m) * p


def cache_bytes(*, b: float, s: float, n: float, h: float, m: float, p: float) -> float:
    """Key-value cache of a batch, equation 3.24: ``2 b s n h m p``."""
    return b * s * cache_bytes_per_token(n=n, h=h, m=m, p=p)


def grouped_cache_bytes(
    *, b: float, s: float, n: float, h: float, g: float, m: float, p: float
) -> float:
    """Key-value cache with grouped heads, equation 3.25: equation 3.24 with ``h / g`` heads."""
    return cache_bytes(b=b, s=s, n=n, h=h / g, m=m, p=p)


def vram_bytes(*, n: float, p_parameters: float, cache: float, p_cache: float) -> float:
    """Memory of a GPU, equation 3.26: ``n p_parameters + cache p_cache``.

    ``cache``, of equation 3.24 or 3.25, is in bytes already, so ``p_cache`` counts them twice.
    """
    return n * p_parameters + cache * p_cache


def prefill_compute(*, n: float, b: float, s: float) -> float:
    """Operations of prefill, equation 3.27: ``2 n b s``."""
    return 2 * n * b * s


def decode_compute(*, n: float, b: float) -> float:
    """Operations of one decode step, equation 3.29: ``2 n b``."""
    return 2 * n * b


def memory_read(*, n: float) -> float:
    """Bytes read by prefill, equation 3.28, or by one decode step, equation 3.30: ``2 n``."""
    return 2 * n


def pass_time_s(*, compute: float, memory: float, flop_per_s: float, bytes_per_s: float) -> float:
    """Time to first token, equation 3.31, of prefill (3.27, 3.28), or time per output token,
    equation 3.32, of a decode step (3.29, 3.30): computation and reading, one after the other.

    The two overlap in fact: the larger of them bounds the time.
    """
    return compute / flop_per_s + memory / bytes_per_s


def total_generation_time_s(*, ttft_s: float, tpot_s: float, tokens: float) -> float:
    """Total generation time, equation 3.33: ``TTFT + TPOT n_tokens``.

    Prefill makes the first of the tokens, so ``tokens - 1`` steps would do.
    """
    return ttft_s + tpot_s * tokens


def energy_j(*, power_w: float, time_s: float) -> float:
    """Energy, equation 3.34: ``P t``, of the machine's power; the thesis has no model of it."""
    return power_w * time_s
