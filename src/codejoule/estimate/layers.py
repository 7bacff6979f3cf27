"""Every linear layer of a decoder's blocks, with its shape and how often there is one."""

from dataclasses import dataclass

from codejoule.domain import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearLayers:
    """Layers of one name: the same shape in each block that has them."""

    name: str
    """transformers' name, e.g. ``q_proj``."""
    part: str
    """``attention``, ``mlp``, ``shared_experts`` or ``routed_experts``."""
    in_features: int
    """Width of the input."""
    out_features: int
    """Width of the output."""
    bias: bool
    """Whether there is a bias."""
    number: int
    """How many the model has."""
    active: int
    """How many of them one token passes."""

    @property
    def weights(self) -> int:
        """Weights of one layer, bias aside."""
        return self.in_features * self.out_features

    @property
    def parameters(self) -> int:
        """Parameters of one layer."""
        return self.weights + (self.out_features if self.bias else 0)


def linear_layers(architecture: Architecture) -> tuple[LinearLayers, ...]:
    """List the linear layers of all blocks; the head, the embedding and routers are none.

    Parameters
    ----------
    architecture : Architecture
        The decoder.

    Returns
    -------
    tuple of LinearLayers
        In the order in which a token passes them.
    """
    attention = _latent(architecture) if architecture.mla else _grouped_query(architecture)
    return (*attention, *_dense_mlps(architecture), *_experts(architecture))


def _grouped_query(a: Architecture) -> tuple[LinearLayers, ...]:
    queries, keys = a.heads * a.head_dim, a.kv_heads * a.head_dim
    return (
        _attention(a, "q_proj", a.hidden_size, queries, a.qkv_bias),
        _attention(a, "k_proj", a.hidden_size, keys, a.qkv_bias),
        _attention(a, "v_proj", a.hidden_size, keys, a.qkv_bias),
        _attention(a, "o_proj", queries, a.hidden_size, a.output_bias),
    )


def _latent(a: Architecture) -> tuple[LinearLayers, ...]:
    assert a.mla is not None
    mla, queries = a.mla, a.heads * a.mla.qk_head_dim
    if mla.q_lora_rank is None:
        into_queries = [_attention(a, "q_proj", a.hidden_size, queries, False)]
    else:
        into_queries = [
            _attention(a, "q_a_proj", a.hidden_size, mla.q_lora_rank, a.qkv_bias),
            _attention(a, "q_b_proj", mla.q_lora_rank, queries, False),
        ]
    latent = mla.kv_lora_rank + mla.qk_rope_head_dim
    expanded = a.heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    return (
        *into_queries,
        _attention(a, "kv_a_proj_with_mqa", a.hidden_size, latent, a.qkv_bias),
        _attention(a, "kv_b_proj", mla.kv_lora_rank, expanded, False),
        _attention(a, "o_proj", a.heads * mla.v_head_dim, a.hidden_size, a.output_bias),
    )


def _attention(a: Architecture, name: str, width: int, out: int, bias: bool) -> LinearLayers:
    return LinearLayers(
        name=name,
        part="attention",
        in_features=width,
        out_features=out,
        bias=bias,
        number=a.layers,
        active=a.layers,
    )


def _dense_mlps(a: Architecture) -> tuple[LinearLayers, ...]:
    number = a.dense_layers
    return _gated(a, "mlp", a.intermediate_size, number, number) if number else ()


def _experts(a: Architecture) -> tuple[LinearLayers, ...]:
    if a.moe is None or not a.moe_layers:
        return ()
    moe, layers = a.moe, a.moe_layers
    # transformers keeps the shared experts of a layer as one MLP of their summed width.
    width = moe.shared * moe.intermediate_size
    shared = _gated(a, "shared_experts", width, layers, layers) if moe.shared else ()
    routed = _gated(
        a, "routed_experts", moe.intermediate_size, layers * moe.routed, layers * moe.active
    )
    return (*shared, *routed)


def _gated(
    a: Architecture, part: str, width: int, number: int, active: int
) -> tuple[LinearLayers, ...]:
    # transformers' routed experts are bare matrices.
    bias = a.mlp_bias and part != "routed_experts"
    shapes = {
        "gate_proj": (a.hidden_size, width),
        "up_proj": (a.hidden_size, width),
        "down_proj": (width, a.hidden_size),
    }
    return tuple(
        LinearLayers(
            name=name,
            part=part,
            in_features=into,
            out_features=out,
            bias=bias,
            number=number,
            active=active,
        )
        for name, (into, out) in shapes.items()
    )
