"""Attention of one new token per row over a slot cache, without writing heads out."""

from typing import TYPE_CHECKING, Any

from codejoule.generation.compat import prompt_attention

if TYPE_CHECKING:
    import torch

NAME = "codejoule_slots"
"""Name under which transformers knows `attention`."""


def register() -> None:
    """Make `attention` known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention)


def attention(
    module: "torch.nn.Module",
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple["torch.Tensor", None]:
    """Prompts by transformers' own SDPA; one token per row by two batched products. `query` has
    shape (rows, heads, 1, width), `key` and `value` (rows, heads of keys, length, width),
    `attention_mask` (rows, 1, 1, length), True where a row may look. Query heads that share keys
    are the rows of one product, so that keys and values are read once: SDPA with a mask writes them
    out per query head first (transformers 5, torch 2.13)."""
    import torch

    if attention_mask is None:
        out, _ = prompt_attention()(
            module, query, key, value, None, scaling=scaling, is_causal=True, **kwargs
        )
        return out, None
    rows, heads, _, width = query.shape
    shared, length = key.shape[1], key.shape[2]
    if scaling is None:
        scaling = width**-0.5
    grouped = (query * scaling).reshape(rows, shared, heads // shared, width)
    scores = torch.matmul(grouped, key.transpose(2, 3)).float()
    scores = scores.masked_fill(~attention_mask, float("-inf"))
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    out = torch.matmul(weights, value)
    assert out.shape[:3] == (rows, shared, heads // shared) and length == value.shape[2]
    return out.reshape(rows, 1, heads, value.shape[3]), None
