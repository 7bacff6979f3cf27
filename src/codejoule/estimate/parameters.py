"""The exact number of parameters of a decoder, by part."""

from dataclasses import dataclass

from codejoule.domain import Architecture, linear_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """Parameters of each part, over all layers."""

    embeddings: int
    """The embedding matrix."""
    attention: int
    """Projections of the attention, biases included."""
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
    of which :math:`E_s` are shared beside them, has :math:`3 m j (E + E_s) + m E`. Equations 3.14
    to 3.18 count two matrices per expert instead of three, and multiply :math:`j` by 1.5 "for
    overhead"; there is none.

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
    embeddings = a.vocab_size * a.hidden_size
    router = 0 if a.moe is None else a.moe_layers * a.moe.routed * a.hidden_size
    norms = a.layers * (2 * a.hidden_size + a.attention.norm_weights) + a.hidden_size
    passed = sum(layer.active * layer.parameters for layer in layers)
    return ParameterCount(
        embeddings=embeddings,
        **by_part,
        router=router,
        norms=norms,
        head=0 if a.tied else embeddings,
        active=passed + router + norms + embeddings,
    )
