"""Private parts of other packages that this room uses, each in one place. `VERSIONS` names the
versions for which they were tried; `tests/generation/test_compat.py` fails by name where another
version has changed one."""

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

VERSIONS = {"torch": "2.8 to 2.13", "transformers": "5.0 to 5.17", "gptqmodel": "7.6 to 7.7"}


def attention_implementation(model: "PreTrainedModel") -> str:
    """The attention that transformers has chosen for a model."""
    return str(model.config._attn_implementation)


def has_compiled_step(model: "PreTrainedModel") -> bool:
    """Whether transformers' ``generate`` has compiled this model's decode step."""
    return hasattr(model, "_compiled_call")


def page_setting() -> str:
    """What transformers calls the tokens of a page: `block_size` until 5.17, later `page_size`."""
    from transformers import ContinuousBatchingConfig

    names = {each.name for each in fields(ContinuousBatchingConfig)}
    return "page_size" if "page_size" in names else "block_size"


def prompt_attention() -> Callable[..., tuple["torch.Tensor", Any]]:
    """transformers' SDPA, as its attention interface calls it."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    forward: Callable[..., tuple[torch.Tensor, Any]] = sdpa_attention_forward
    return forward


def rotate(
    query: "torch.Tensor", key: "torch.Tensor", rotary: Any
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Queries and keys turned by the rotary embeddings of Llama's and Qwen2's kind."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    turned: tuple[torch.Tensor, torch.Tensor] = apply_rotary_pos_emb(query, key, *rotary)
    return turned


def sizes_vary(tensor: "torch.Tensor", *sizes: int) -> None:
    """Tell torch.compile that these sizes of a tensor are no constants."""
    import torch

    for size in sizes:
        torch._dynamo.mark_dynamic(tensor, size)


def is_padded_by_marlin(layer: Any) -> bool:
    """Whether gptqmodel has padded a Marlin layer to the kernel's tiles."""
    return layer._marlin_tile_padding is not None
