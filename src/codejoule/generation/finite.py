"""Logits that are NaN or infinite: the text is noise then, and its energy says nothing."""

import inspect
from typing import TYPE_CHECKING

from codejoule.config import UserError
from codejoule.domain import Prompt
from codejoule.generation.tokens import PromptTokens

if TYPE_CHECKING:
    import torch
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
        raise not_finite(model, f"behind the prompt of {prompt.task_id}")


def not_finite(model: "PreTrainedModel", where: str) -> UserError:
    """What a user is told of such logits, whichever engine met them."""
    dtype = str(model.dtype).removeprefix("torch.")
    return UserError(
        f"the model's logits are NaN or infinite {where}: what it writes is noise, and the energy "
        f"of that means nothing. Its dtype is {dtype}; float16 overflows in some models, a "
        "checkpoint may be broken (a download or a merge that went wrong), or a kernel may be "
        "wrong for it. Try model.dtype=bfloat16 or float32, another quant.kernel or quant=none, "
        "or make or download the checkpoint again"
    )


class LogitsWatch:
    """A logits processor that adds up all logits of a batch, where they are.

    A sum is finite as long as each of them is. The host looks at it once, at the batch's end: a
    look at every step would wait for the GPU, and cost energy.
    """

    def __init__(self, model: "PreTrainedModel", *, do_sample: bool) -> None:
        self._model = model
        self._do_sample = do_sample
        self._sum: torch.Tensor | None = None

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """Called by `generate` before each token is chosen."""
        import torch

        step = scores.sum(dtype=torch.float32)
        self._sum = step if self._sum is None else self._sum.add_(step)
        # Drawing from such scores ends in an error, on a GPU in one of the whole CUDA context.
        return scores.nan_to_num(posinf=0, neginf=0) if self._do_sample else scores

    def check(self) -> None:
        """Raises `UserError` where any of the logits was not finite. Waits for the device."""
        assert self._sum is not None
        if not self._sum.isfinite():
            raise not_finite(self._model, "in this batch")
