"""A decoder's shape, as far as its size and its caches depend on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from codejoule.domain.attention import Attention, SlidingWindow


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureOfExperts:
    """Layers whose MLP is a choice among many."""

    routed: int
    """Experts to choose from, per layer."""
    active: int
    """Experts chosen per token."""
    shared: int
    """Experts that every token passes, beside the chosen."""
    intermediate_size: int
    """Width of one expert."""
    first_dense_layers: int
    """Layers at the bottom that have an ordinary MLP."""
    bias: bool = False
    """Whether routed experts and their router have biases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A decoder-only transformer with rotary positions, RMSNorm and gated MLPs."""

    model_type: str
    """transformers' name of the family, one of `FAMILIES`."""
    vocab_size: int
    """Rows of the embedding."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of an ordinary layer's MLP."""
    layers: int
    """Decoder layers."""
    attention: Attention
    """Each layer's attention."""
    tied: bool
    """Whether the head is the embedding matrix."""
    mlp_bias: bool
    """Whether the MLP's layers have biases."""
    context_tokens: int
    """Positions that the model was made for."""
    dtype: str | None
    """Dtype of the published weights; None where the configuration names none."""
    moe: MixtureOfExperts | None = None
    """Mixture of experts; None for a dense model."""
    window: SlidingWindow | None = None
    """Layers with a sliding window; None where every layer sees the whole context."""

    @classmethod
    def from_config(cls, fields: Mapping[str, Any]) -> "Architecture":
        """Read the top level of a ``config.json``, as in ``model.architecture`` of ``conf/model``.

        Raises `ValueError` for a family that is not in `FAMILIES`, a missing field, or a sliding
        window in a family of which that is not known.
        """
        refuse_other_kinds(fields)
        family = FAMILIES.get(str(fields.get("model_type")))
        if family is None:
            raise ValueError(
                f"model_type={fields.get('model_type')}: its layers are not known to the "
                f"estimator, which knows {', '.join(sorted(FAMILIES))}"
            )
        if fields.get("use_sliding_window"):
            raise ValueError(
                "use_sliding_window=true: in this family the estimator knows only attention over "
                "the whole context"
            )
        dtype = fields.get("dtype") or fields.get("torch_dtype")
        hidden, heads = read_count(fields, "hidden_size"), read_count(fields, "num_attention_heads")
        grouped = fields.get("num_key_value_heads") is not None
        return cls(
            model_type=family.model_type,
            vocab_size=read_count(fields, "vocab_size"),
            hidden_size=hidden,
            intermediate_size=read_count(fields, "intermediate_size"),
            layers=read_count(fields, "num_hidden_layers"),
            tied=bool(fields.get("tie_word_embeddings", False)),
            context_tokens=read_count(fields, "max_position_embeddings"),
            dtype=None if dtype is None else str(dtype),
            **family.read(
                fields,
                heads=heads,
                kv_heads=read_count(fields, "num_key_value_heads") if grouped else heads,
                head_dim=int(fields.get("head_dim") or hidden // heads),
            ),
        )

    @property
    def family(self) -> "Family":
        """What is known of all models of its kind."""
        return FAMILIES[self.model_type]

    @property
    def moe_layers(self) -> int:
        """Layers with experts."""
        return 0 if self.moe is None else self.layers - self.moe.first_dense_layers

    @property
    def dense_layers(self) -> int:
        """Layers with an ordinary MLP."""
        return self.layers - self.moe_layers

    def cached_tokens(self, tokens: float) -> float:
        """Tokens that the cache holds, counted once for each layer, where a sequence has so many:
        a layer with a sliding window keeps the last alone."""
        if self.window is None:
            return self.layers * tokens
        kept = min(tokens, self.window.cached_tokens)
        return (self.layers - self.window.layers) * tokens + self.window.layers * kept

    def seen_pairs(self, tokens: int) -> float:
        """Pairs of a prompt's token and one that it sees, over all layers, where half of the square
        that is seen counts."""
        whole = tokens * tokens / 2
        if self.window is None:
            return self.layers * whole
        width = min(tokens, self.window.tokens)
        band = tokens * width - width * width / 2
        return (self.layers - self.window.layers) * whole + self.window.layers * band


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What is known of an architecture family beyond a model's own numbers."""

    model_type: str
    """transformers' name of it."""
    read: Callable[..., dict[str, Any]]
    """Fields of `Architecture` from a ``config.json`` and the ``heads``, ``kv_heads`` and
    ``head_dim`` that it has: ``attention``, ``mlp_bias``, ``moe`` of a mixture of experts, and
    ``window`` where some layers have a sliding one. Raises `ValueError`."""
    compiled_step: bool
    """Whether its layers are Llama's in all but biases and norms of queries and keys, which
    ``engine=graph`` compiles."""
    slots: bool = True
    """Whether a softmax over all that is cached is its attention, as ``engine=graph`` computes."""
    embedding: str = "model.embed_tokens"
    """Path of the embedding in transformers' model."""
    rotary: str = "model.rotary_emb"
    """Path of the rotary positions."""
    blocks: str = "model.layers"
    """Path of the decoder layers' list."""
    norm: str = "model.norm"
    """Path of the last normalization."""
    head: str = "lm_head"
    """Path of the output matrix."""


FAMILIES: dict[str, Family] = {}
"""Every family whose layers are known, by its name; the modules of `codejoule.domain.families`
register theirs."""


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

    a, moe = architecture, architecture.moe
    blocks = [
        ("attention", a.attention.projections(a.hidden_size), a.layers, a.layers),
        ("mlp", _gated_mlp(a, a.intermediate_size), a.dense_layers, a.dense_layers),
    ]
    if moe is not None:
        # transformers keeps the shared experts of a layer as one MLP of their summed width, and
        # the routed ones as bare matrices.
        shared, layers = _gated_mlp(a, moe.shared * moe.intermediate_size), a.moe_layers
        if moe.shared:
            blocks.append(("shared_experts", shared, layers, layers))
        routed = _gated_mlp(a, moe.intermediate_size, bias=moe.bias)
        blocks.append(("routed_experts", routed, layers * moe.routed, layers * moe.active))
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
        for part, shapes, number, active in blocks
        if number
        for name, (into, out, bias) in shapes.items()
    )


def _gated_mlp(
    a: Architecture, width: int, *, bias: bool | None = None
) -> Mapping[str, tuple[int, int, bool]]:
    biased = a.mlp_bias if bias is None else bias
    return {
        "gate_proj": (a.hidden_size, width, biased),
        "up_proj": (a.hidden_size, width, biased),
        "down_proj": (width, a.hidden_size, biased),
    }


_LINEAR = "linear_attention"
_EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")


def routed_experts(config: Mapping[str, Any]) -> int:
    """How many experts each layer of a ``config.json`` chooses from; 0 for a dense model."""
    return next((int(config[key]) for key in _EXPERTS if config.get(key)), 0)


def refuse_other_kinds(config: Mapping[str, Any]) -> None:
    """Refuse a ``config.json`` with layers of linear attention, or with an encoder; `ValueError`.

    Such layers keep a state of fixed size beside the others' cache, in dtypes of their own. Batches
    that are padded, slots that are filled anew and pages know nothing of it. Behind an encoder a
    decoder begins with a token of its own, and attends to a second cache that does not grow.
    """
    if config.get("is_encoder_decoder"):
        raise ValueError(
            f"model_type={config.get('model_type')}: it has an encoder and a decoder, and the "
            "engines and the estimate here know decoders alone. It would take an engine that runs "
            "the encoder once and keeps keys and values of cross-attention beside the decoder's "
            "own, a family that counts both stacks, and a rule for what of a prompt is encoded; "
            "choose a model with a decoder alone (model=qwen_coder_0_5b)"
        )
    inner = config.get("text_config")
    for fields in (config, inner if isinstance(inner, Mapping) else {}):
        # Qwen3-Next's configs of 2025 have no list of layers.
        hybrid = _LINEAR in (fields.get("layer_types") or ()) or "linear_num_value_heads" in fields
        if hybrid:
            raise ValueError(
                f"model_type={config.get('model_type')}: some of its layers have linear attention, "
                "whose state neither the estimate of memory nor any engine here knows; choose a "
                "model with attention in every layer (model=qwen3_8b, or "
                "model=qwen3_coder_30b as a mixture of experts), or serve it yourself "
                "(vllm serve ...) and measure that with engine=server"
            )


def read_count(fields: Mapping[str, Any], key: str) -> int:
    """The whole number that a ``config.json`` has under `key`; `ValueError` for anything else, and
    for one below 1."""
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key}={value}: the estimator needs a whole number of at least 1")
    return value
