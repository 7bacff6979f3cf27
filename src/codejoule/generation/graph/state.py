"""What the device knows of the sequences in the slots, and how it chooses their tokens."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from codejoule.config.schema import GenerationConfig
from codejoule.generation.graph.decoder import Decoder
from codejoule.generation.graph.slots import LayerSlots, move_rows

if TYPE_CHECKING:
    import torch


class DeviceState:
    """Tokens, positions and what is left of each slot's sequence, and the step that moves them. All
    of it has fixed addresses, so that a captured step finds it again."""

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
        self,
        padded: Sequence[Sequence[int]],
        sizes: Sequence[int],
        into: Sequence[int],
        limit: int,
    ) -> list[int]:
        """Read prompts of these sizes, padded on the right, into slots; the first token of each.
        Waits for the device. `limit` is how many tokens each sequence may have."""
        import torch

        ids, lengths, rows = (
            torch.tensor(list(numbers), device=self._left.device)
            for numbers in (padded, sizes, into)
        )
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
        """Whether all logits of sequences that ran since `end_all` were, as their sums tell. Waits
        for the device."""
        return bool(self._logits.isfinite().all())

    def end(self, rows: Sequence[int]) -> None:
        """Mark these rows' sequences as ended, whatever the device has."""
        import torch

        if rows:
            self._left[torch.tensor(list(rows), device=self._left.device)] = 0

    def end_all(self) -> None:
        """Mark every row's sequence as ended."""
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


def chooser(generation: GenerationConfig) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    """What takes logits, shape (rows, vocabulary), and returns a token for each row. Samples come
    from the device's default generator, which CUDA graphs know how to replay."""
    if not generation.do_sample:
        return lambda logits: logits.float().argmax(dim=-1)
    temperature, top_p = generation.temperature, generation.top_p
    assert temperature is not None

    def sample(logits: "torch.Tensor") -> "torch.Tensor":
        import torch

        scores = logits.float() / temperature
        if top_p is not None and top_p < 1:
            ordered, order = scores.sort(dim=-1, descending=True)
            shares = ordered.softmax(dim=-1)
            # A token stays if those before it do not make up top_p: the first always does.
            beyond = shares.cumsum(dim=-1) - shares >= top_p
            scores = scores.masked_fill(
                torch.zeros_like(beyond).scatter(-1, order, beyond), float("-inf")
            )
        # The largest of p / Exp(1) is token i with probability p_i: no host takes part.
        noise = torch.empty_like(scores).exponential_()
        return (scores.softmax(dim=-1) / noise).argmax(dim=-1)

    return sample
