"""Bytes of the key-value cache."""

from codejoule.domain import Architecture, dtype_bytes


def kv_cache_bytes_per_token(architecture: Architecture, *, dtype: str) -> int:
    r"""Bytes that one token of one sequence adds to the cache, over all layers.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    dtype : str
        Dtype of keys and values: the model's.

    Returns
    -------
    int
        Exact for transformers' dynamic cache, and what any engine needs at least.

    Notes
    -----
    With :math:`l` layers, :math:`h_{kv}` key-value heads of width :math:`d` and :math:`p` bytes
    per number

    .. math:: KV = 2\, l\, h_{kv}\, d\, p, \qquad KV_{MLA} = l\,(r_{kv} + d_r)\, p

    where latent attention caches its latent of rank :math:`r_{kv}` and one rotary key of width
    :math:`d_r` for all heads. Equation 3.23 of Buis (2024) multiplies by the number of
    parameters instead of layers, and by all heads times the model's width instead of key-value
    heads times a head's; eq. 3.25 divides by the group size what eq. 3.24 had multiplied too often.

    transformers caches DeepSeek-V2's latent (seen in 5.23: ``kv_lora_rank`` beside
    ``qk_rope_head_dim`` per token and layer) and expands all of it to keys and values of every
    head, in each layer of each step: that costs no cache, but memory for a moment
    (`activation_bytes`) and time. Implementations that cache what they expand, the model's own
    published code among them, need `expanded_cache_bytes_per_token`.
    """
    return architecture.layers * architecture.attention.cached_width * dtype_bytes(dtype)


def expanded_cache_bytes_per_token(architecture: Architecture, *, dtype: str) -> int:
    r"""Bytes per token where latent attention's keys and values are cached expanded.

    Parameters
    ----------
    architecture : Architecture
        The decoder.
    dtype : str
        Dtype of keys and values.

    Returns
    -------
    int
        :math:`l\,h\,(d_n + d_r + d_v)\,p` with latent attention; else as
        `kv_cache_bytes_per_token`.
    """
    return architecture.layers * architecture.attention.expanded_width * dtype_bytes(dtype)
