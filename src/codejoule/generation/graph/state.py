"""What the device knows of the sequences in the slots."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from codejoule.generation.graph.decoder import Decoder
from codejoule.generation.graph.slots import LayerSlots, move_rows

if TYPE_CHECKING:
    import torch


class DeviceState:
    """Tokens, positions and what is left of each slot's sequence, and the step that moves them.

    All of it has fixed addresses, so that a captured step finds it again.
    """

    def __init__(
        self,
        decoder: Decoder,
        slots: Sequence[LayerSlots],
        *,
        choose: Callable[["torch.Tensor"], "torch.Tensor"],
        end_tokens: Sequence[int],
        steps: int,
    ) -> None:
        """`steps` is how many steps' tokens are kept before the host reads them."""
        import torch

        self.slots = slots
        self._decoder = decoder
        self._choose = choose
        count, device = slots[0].keys.shape[0], slots[0].keys.device
        self._tokens = torch.zeros(count, dtype=torch.long, device=device)
        self._positions = torch.zeros(count, dtype=torch.long, device=device)
        self._left = torch.zeros(count, dtype=torch.long, device=device)
        # While it is captured, a step runs three times without a look in between.
        self._recent = torch.zeros((max(steps, 3), count), dtype=torch.long, device=device)
        self._tick = torch.zeros(1, dtype=torch.long, device=device)
        self._logits = torch.zeros(count, dtype=torch.float32, device=device)
        self._ends = torch.tensor(list(end_tokens), dtype=torch.long, device=device)

    def admit(
        self, ids: "torch.Tensor", lengths: "torch.Tensor", rows: "torch.Tensor", limit: int
    ) -> list[int]:
        """Read prompts into the slots of `rows`; the first token of each. Waits for the device.

        `limit` is how many tokens each sequence may have.
        """
        import torch

        logits = self._decoder.prefill(ids, lengths, rows, self.slots)
        tokens = self._choose(logits)
        self._tokens[rows] = tokens
        self._positions[rows] = lengths
        self._left[rows] = limit - 1
        self._left[rows] *= ~self._ended(tokens)
        self._logits[rows] += logits.sum(dim=-1, dtype=torch.float32)
        first: list[int] = tokens.tolist()
        return first

    def step(self, rows: int, length: int) -> None:
        """One more token for each of the first `rows` slots whose sequence still runs."""
        import torch

        tokens, positions, left = self._tokens[:rows], self._positions[:rows], self._left[:rows]
        logits = self._decoder.step(tokens, positions, self.slots, length=length)
        runs = left > 0
        chosen = torch.where(runs, self._choose(logits), tokens)
        tokens.copy_(chosen)
        positions.add_(runs)
        sums = logits.sum(dim=-1, dtype=torch.float32)
        self._logits[:rows].add_(sums.masked_fill_(~runs, 0))
        left.sub_(runs.long()).mul_(~self._ended(chosen))
        self._recent[:, :rows].index_copy_(0, self._tick, chosen[None])
        self._tick.add_(1)

    def begin_block(self) -> None:
        """The next step's tokens are the first that `read` returns."""
        self._tick.zero_()

    def read(self, steps: int, rows: int) -> list[list[int]]:
        """Tokens of the block's steps, for each of them one per row. Waits for the device."""
        tokens: list[list[int]] = self._recent[:steps, :rows].tolist()
        return tokens

    def finite(self) -> bool:
        """Whether all logits of sequences that ran since `end_all` were, as their sums tell.

        Waits for the device.
        """
        return bool(self._logits.isfinite().all())

    def end(self, rows: Sequence[int]) -> None:
        """These rows' sequences have ended, whatever the device thinks."""
        import torch

        if rows:
            self._left[torch.tensor(list(rows), device=self._left.device)] = 0

    def end_all(self) -> None:
        """No row's sequence runs."""
        self._left.zero_()
        self._positions.zero_()
        self._logits.zero_()

    def move(self, rows: Sequence[int]) -> None:
        """Bring the sequences of these rows to the front, in this order."""
        import torch

        order = torch.tensor(list(rows), device=self._left.device)
        move_rows(self.slots, order)
        for tensor in (self._tokens, self._positions, self._left):
            tensor[: len(rows)] = tensor[order]

    def _ended(self, tokens: "torch.Tensor") -> "torch.Tensor":
        return (tokens[:, None] == self._ends[None]).any(dim=1)
