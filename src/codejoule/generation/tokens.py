"""Turns prompts into one padded batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codejoule.config import UserError
from codejoule.domain import Prompt

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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


class PromptRows:
    """Turns prompts into tokens that one model can take."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", *, vocabulary: int, context_tokens: int | None
    ) -> None:
        """`vocabulary` is the rows of the model's embedding, `context_tokens` the positions that
        it was made for, where that is known."""
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._context_tokens = context_tokens

    def rows(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[list[int]]:
        """The tokens of each prompt, by its own rule. Raises `UserError` that names the task whose
        prompt is empty, has tokens that the model has not, or does not fit the model's context
        together with `max_new_tokens`: beyond it a model answers nonsense without an error. Samples
        of one task share theirs."""
        rows: dict[tuple[str, bool], list[int]] = {}
        found = []
        for prompt in prompts:
            key = prompt.text, prompt.add_special_tokens
            if key not in rows:
                rows[key] = self._row(prompt, max_new_tokens)
            found.append(rows[key])
        return found

    def _row(self, prompt: Prompt, max_new_tokens: int) -> list[int]:
        encode = self._tokenizer
        row = list(encode(prompt.text, add_special_tokens=prompt.add_special_tokens)["input_ids"])
        if not row:
            raise UserError(f"{prompt.task_id}: its prompt has no tokens; nothing to continue")
        if max(row) >= self._vocabulary:
            token = self._tokenizer.convert_ids_to_tokens(max(row))
            raise UserError(
                f"{prompt.task_id}: its prompt has the token {token!r}, number {max(row)}, but the "
                f"model knows {self._vocabulary} from 0 on: the tokenizer is another model's, or "
                "tokens were added to it alone; put the model's own tokenizer beside its weights"
            )
        context = self._context_tokens
        if context is not None and len(row) + max_new_tokens > context:
            raise UserError(
                f"{prompt.task_id}: its prompt of {len(row)} tokens and up to {max_new_tokens} "
                f"new ones exceed the model's context of {context} tokens; lower "
                "generation.max_new_tokens, leave the task out (suite.task_ids), or choose a "
                "model with a longer context"
            )
        return row


class PromptTokens(PromptRows):
    """The same for a model in this process."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        super().__init__(
            tokenizer,
            vocabulary=model.get_input_embeddings().weight.shape[0],
            context_tokens=getattr(model.config, "max_position_embeddings", None),
        )
        self._device = model.device
        own = tokenizer.pad_token_id
        self.pad_token: int = own if own is not None and own < self._vocabulary else 0
        """What fills masked positions: any number serves that the embedding has, and transformers 5
        adds padding tokens that it has not."""

    def batch(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> TokenBatch:
        """The prompts padded on the left. Raises what `rows` raises."""
        import torch

        rows = self.rows(prompts, max_new_tokens=max_new_tokens)
        width = max(map(len, rows))
        ids = [[self.pad_token] * (width - len(row)) + row for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        return TokenBatch(
            ids=torch.tensor(ids, device=self._device),
            mask=torch.tensor(mask, device=self._device),
            lengths=tuple(map(len, rows)),
        )
