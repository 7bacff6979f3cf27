"""Parameters of a model by the thesis' equations 3.4 to 3.22, as printed.

Symbols are the thesis': ``v`` vocabulary, ``m`` width, ``c`` context, ``h`` heads, ``d`` head
width, ``l`` layers, ``d_ff`` MLP width, ``k`` normalization layers. Where an equation is wrong its
docstring says so; what is right is `codejoule.estimate.count_parameters`.
"""


def embedding_parameters(v: int, m: int) -> int:
    """Word embeddings, equation 3.4: ``v m``.

    Parameters
    ----------
    v, m : int
        Vocabulary and width.

    Returns
    -------
    int
        Parameters.
    """
    return v * m


def position_parameters(c: int, m: int) -> int:
    """Position embeddings, equation 3.5: ``c m``. Rotary positions have none.

    Parameters
    ----------
    c, m : int
        Context and width.

    Returns
    -------
    int
        Parameters.
    """
    return c * m


def attention_parameters(m: int, d: int, h: int, l: int) -> int:
    """Multi-head attention, equation 3.7: ``4 m d h l``. Grouped-query attention has fewer.

    Parameters
    ----------
    m, d, h, l : int
        Width, head width, heads and layers.

    Returns
    -------
    int
        Parameters.
    """
    return 4 * m * d * h * l


def ffn_layer_parameters(m: int, d_ff: int) -> int:
    """One feed-forward layer, equation 3.9: ``(d_ff m)^2 + d_ff + m``.

    Parameters
    ----------
    m, d_ff : int
        Width and MLP width.

    Returns
    -------
    int
        Parameters, as printed. Two matrices of ``m x d_ff`` have ``2 d_ff m``; the square makes
        the figure of a 7B model 10^15 times too large.
    """
    return (d_ff * m) ** 2 + d_ff + m


def ffn_parameters(m: int, d_ff: int, l: int) -> int:
    """All feed-forward layers, equation 3.10: equation 3.9 times ``l``.

    Parameters
    ----------
    m, d_ff, l : int
        Width, MLP width and layers.

    Returns
    -------
    int
        Parameters, as printed.
    """
    return ffn_layer_parameters(m, d_ff) * l


def norm_parameters(m: int, k: int) -> int:
    """Layer normalization, equation 3.12: ``2 m k``. RMSNorm has ``m k``.

    Parameters
    ----------
    m, k : int
        Width and number of normalizations.

    Returns
    -------
    int
        Parameters.
    """
    return 2 * m * k


def output_parameters(m: int, v: int) -> int:
    """Output layer, equation 3.13: ``m v + v``. Tied models have none, others no bias.

    Parameters
    ----------
    m, v : int
        Width and vocabulary.

    Returns
    -------
    int
        Parameters.
    """
    return m * v + v


def expert_width(moe_intermediate_size: int) -> float:
    """Width of an expert, equation 3.14: 1.5 times the configured one, "for overhead".

    Parameters
    ----------
    moe_intermediate_size : int
        The configured width.

    Returns
    -------
    float
        The thesis' ``j``; there is no such overhead.
    """
    return 1.5 * moe_intermediate_size


def expert_parameters(m: int, j: float) -> float:
    """One expert, equation 3.15: ``m j + j m + j + m``. A gated expert has ``3 m j``.

    Parameters
    ----------
    m : int
        Width.
    j : float
        Expert width, of equation 3.14.

    Returns
    -------
    float
        Parameters. The first bias is printed as ``i``; it is as wide as the expert.
    """
    return m * j + j * m + j + m


def total_experts(routed: int, shared: int) -> int:
    """Experts of a layer, equation 3.16: routed and shared.

    Parameters
    ----------
    routed, shared : int
        Experts of each kind.

    Returns
    -------
    int
        Their sum.
    """
    return routed + shared


def experts_parameters(per_expert: float, experts: int) -> float:
    """All experts of a layer, equation 3.17.

    Parameters
    ----------
    per_expert : float
        Of equation 3.15.
    experts : int
        Of equation 3.16.

    Returns
    -------
    float
        Parameters.
    """
    return per_expert * experts


def gating_parameters(m: int, routed: int) -> int:
    """Gating network of a layer, equation 3.18: ``m n_routed``.

    Parameters
    ----------
    m, routed : int
        Width and routed experts.

    Returns
    -------
    int
        Parameters.
    """
    return m * routed


def dense_parameters(
    *,
    v: int,
    c: int,
    m: int,
    d: int,
    h: int,
    l: int,
    d_ff: int,
    k: int,
) -> int:
    """A dense model, equation 3.19 in its closed form.

    Parameters
    ----------
    v, c, m, d, h, l, d_ff, k : int
        Vocabulary, context, width, head width, heads, layers, MLP width, normalizations.

    Returns
    -------
    int
        ``v m + c m + 4 m d h l + (d_ff m)^2 l + 5 m l + 2 m k + m v + v``. The term ``5 m l``
        has ``d_ff = 4 m`` put in; the one before it has not.
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
    """One layer of experts, equation 3.20.

    Parameters
    ----------
    experts, shared_ffn, gating : float
        Parameters of the experts (3.17), of a shared feed-forward network, of the gate (3.18).

    Returns
    -------
    float
        Their sum, which the thesis describes in words; its formula is missing from the text.
    """
    return experts + shared_ffn + gating


def moe_parameters(per_layer: float, layers: int) -> float:
    """All layers of experts, equation 3.21.

    Parameters
    ----------
    per_layer : float
        Of equation 3.20.
    layers : int
        Layers that have experts.

    Returns
    -------
    float
        Parameters.
    """
    return per_layer * layers


def moe_model_parameters(
    *,
    v: int,
    c: int,
    m: int,
    d: int,
    h: int,
    l: int,
    k: int,
    moe: float,
) -> float:
    """A mixture of experts, equation 3.22.

    Parameters
    ----------
    v, c, m, d, h, l, k : int
        As in `dense_parameters`.
    moe : float
        Parameters of all layers of experts, of equation 3.21.

    Returns
    -------
    float
        Embeddings, positions, attention, experts, normalization and output. Ordinary layers below
        the experts, which DeepSeek-V2 has, are not in it.
    """
    return (
        embedding_parameters(v, m)
        + position_parameters(c, m)
        + attention_parameters(m, d, h, l)
        + moe
        + norm_parameters(m, k)
        + output_parameters(m, v)
    )
