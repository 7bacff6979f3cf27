"""Watches a batch while Hugging Face `generate` decodes it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from codejoule.domain import FIRST_TOKEN
from codejoule.generation.sequence import DecodedSequence

if TYPE_CHECKING:
    import torch


class BatchWatch:
    """A stopping criterion: marks the first token and feeds each row's tokens to its sequence.

    Reading the tokens waits for the GPU, which `generate` does at the same place of each step
    anyway (it asks whether any row is unfinished).
    """

    def __init__(
        self, sequences: Sequence[DecodedSequence], *, mark: Callable[[str], None]
    ) -> None:
        self._sequences = sequences
        self._mark = mark
        self._begun = False

    def __call__(
        self, input_ids: "torch.Tensor", scores: "torch.Tensor", **kwargs: Any
    ) -> "torch.Tensor":
        """Called by `generate` after each token; tells which rows have ended."""
        import torch

        if not self._begun:
            self._begun = True
            if input_ids.is_cuda:
                torch.cuda.synchronize(input_ids.device)
            self._mark(FIRST_TOKEN)
        newest = input_ids[:, -1].tolist()
        ended = [
            sequence.feed(token) for sequence, token in zip(self._sequences, newest, strict=True)
        ]
        return torch.tensor(ended, device=input_ids.device)
