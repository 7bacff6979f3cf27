"""Finds logits that are NaN or infinite. The text is then noise, and its energy means nothing."""

import inspect
from typing import TYPE_CHECKING

from codejoule.config import UserError
from codejoule.domain import Prompt
from codejoule.generation.tokens import PromptTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def check_logits(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompt: Prompt,
    *,
    max_new_tokens: int,
) -> None:
    """Let the model read one prompt; raises `UserError` where its logits are not finite, and what
    `PromptTokens` raises."""
    import torch

    batch = PromptTokens(model, tokenizer).batch([prompt], max_new_tokens=max_new_tokens)
    # All positions' logits of a long prompt take more memory than a small model.
    takes = inspect.signature(model.forward).parameters
    options = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    with torch.inference_mode():
        logits = model(input_ids=batch.ids, use_cache=False, **options).logits
    if not logits.isfinite().all():
        raise not_finite(model.dtype, f"behind the prompt of {prompt.task_id}")


def not_finite(dtype: object, where: str) -> UserError:
    """The error for such logits, the same for all engines."""
    dtype = str(dtype).removeprefix("torch.")
    return UserError(
        f"the model's logits are NaN or infinite {where}: what it writes is noise, and the energy "
        f"of that means nothing. Its dtype is {dtype}; float16 overflows in some models, a "
        "checkpoint may be broken (a download or a merge that went wrong), or a kernel may be "
        "wrong for it. Try model.dtype=bfloat16 or float32, another quant.kernel or quant=none, "
        "or make or download the checkpoint again"
    )
