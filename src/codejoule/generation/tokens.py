"""From prompts to one padded batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codejoule.config import UserError
from codejoule.domain import Prompt

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """Prompts as tokens, padded on the left to one length."""

    ids: "torch.Tensor"
    """Token numbers; shape (batch, longest prompt)."""
    mask: "torch.Tensor"
    """1 for tokens, 0 for padding; shape (batch, longest prompt)."""
    lengths: tuple[int, ...]
    """Tokens of each prompt, padding not counted."""

    @property
    def width(self) -> int:
        """Tokens of the longest prompt."""
        return max(self.lengths)


def tokenize(
    prompts: Sequence[Prompt],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    device: "torch.device",
    context_tokens: int | None,
    max_new_tokens: int,
) -> TokenBatch:
    """Tokenize each prompt by its own rule and pad on the left.

    Raises what `token_rows` raises.
    """
    import torch

    rows = token_rows(
        prompts, tokenizer, context_tokens=context_tokens, max_new_tokens=max_new_tokens
    )
    width = max(map(len, rows))
    pad = tokenizer.pad_token_id
    ids = [[pad] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return TokenBatch(
        ids=torch.tensor(ids, device=device),
        mask=torch.tensor(mask, device=device),
        lengths=tuple(map(len, rows)),
    )


def token_rows(
    prompts: Sequence[Prompt],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    context_tokens: int | None,
    max_new_tokens: int,
) -> list[list[int]]:
    """The tokens of each prompt, by its own rule.

    Raises `UserError` that names the task whose prompt is empty, or does not fit the model's
    context together with `max_new_tokens`: beyond it a model answers nonsense without an
    error.
    """
    rows: list[list[int]] = []
    for prompt in prompts:
        row = tokenizer(prompt.text, add_special_tokens=prompt.add_special_tokens)["input_ids"]
        if not row:
            raise UserError(f"{prompt.task_id}: its prompt has no tokens; nothing to continue")
        if context_tokens is not None and len(row) + max_new_tokens > context_tokens:
            raise UserError(
                f"{prompt.task_id}: its prompt of {len(row)} tokens and up to {max_new_tokens} "
                f"new ones exceed the model's context of {context_tokens} tokens; lower "
                "generation.max_new_tokens, leave the task out (suite.task_ids), or choose a "
                "model with a longer context"
            )
        rows.append(list(row))
    return rows
