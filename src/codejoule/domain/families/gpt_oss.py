"""gpt-oss: experts with biases in every layer, attention sinks, and a sliding window in every
second layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codejoule.domain.architecture import Family, MixtureOfExperts, read_count
from codejoule.domain.attention import Attention, SlidingWindow

_SLIDING = "sliding_attention"
_KNOWN = ("full_attention", _SLIDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkAttention(Attention):
    """Attention whose heads may look at nothing: each has a learned logit that no value goes with.

    transformers has no fused kernel for it on a GPU without a library from the hub, and writes the
    scores out (seen in 5.23).
    """

    @property
    def own_weights(self) -> int:
        """A sink for each head."""
        return self.heads

    @property
    def score_matrices(self) -> int:
        """Scores; the same beside their sink; and what softmax makes of that."""
        return 3

    @property
    def step_width(self) -> int:
        """Keys and values, repeated for every head."""
        return self.per_head_width


def _read(fields: Mapping[str, Any], **heads: int) -> dict[str, Any]:
    layers = read_count(fields, "num_hidden_layers")
    # Without a list the first layer of each two has a window, as in transformers.
    kinds = fields.get("layer_types") or [_KNOWN[(number + 1) % 2] for number in range(layers)]
    if len(kinds) != layers or not set(kinds) <= set(_KNOWN):
        raise ValueError(
            f"layer_types={kinds}: must name {' or '.join(_KNOWN)} for each of {layers} layers"
        )
    bias = bool(fields.get("attention_bias", True))
    return {
        "attention": SinkAttention(**heads, qkv_bias=bias, output_bias=bias),
        "mlp_bias": True,
        "moe": MixtureOfExperts(
            routed=read_count(fields, "num_local_experts"),
            active=read_count(fields, "num_experts_per_tok"),
            shared=0,
            intermediate_size=read_count(fields, "intermediate_size"),
            first_dense_layers=0,
            bias=True,
        ),
        "window": SlidingWindow(
            tokens=read_count(fields, "sliding_window"), layers=kinds.count(_SLIDING)
        ),
    }


FAMILY = Family(model_type="gpt_oss", read=_read, compiled_step=False, slots=False)
