"""From logits to tokens, on the device."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from codejoule.config.schema import GenerationConfig

if TYPE_CHECKING:
    import torch


def chooser(generation: GenerationConfig) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    """What takes logits, shape (rows, vocabulary), and returns a token for each row.

    Samples come from the device's default generator, which CUDA graphs know how to replay.
    """
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
