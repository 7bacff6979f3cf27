"""Weights packed into 32-bit words, read and made by our own arithmetic."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def one_in_each_place(bits: int) -> int:
    """The word of 32 bits that holds a one in each of its places of so many bits."""
    return sum(1 << place for place in range(0, 32, bits))


def unpack(words: "torch.Tensor", bits: int) -> "torch.Tensor":
    """The numbers in each row's words, the lowest bits first."""
    import torch

    places = torch.arange(0, 32, bits, dtype=torch.int32, device=words.device)
    return ((words[..., None] >> places) & (2**bits - 1)).flatten(-2)


def fill_packed(layer: Any, bits: int, *, middle: int, deviation: float) -> None:
    """Random bits, zero points of `middle`, and scales that give weights this deviation."""
    import torch

    words = layer.qweight
    words.copy_(torch.randint(-(2**31), 2**31, words.shape, dtype=words.dtype, device=words.device))
    _balance(words, bits)
    word = middle * one_in_each_place(bits)
    layer.qzeros.fill_(word - 2**32 if word >= 2**31 else word)
    # Steps from the zero point: -top to top, each as likely, save that 0 is twice so.
    top = 2 ** (bits - 1) - 1
    steps_deviation = (top * (top + 1) * (2 * top + 1) / 3 / 2**bits) ** 0.5
    layer.scales.uniform_(0.5, 1.5).mul_(deviation / steps_deviation)
    group_of_input = getattr(layer, "g_idx", None)
    # gptqmodel 7.6 gives AWQ's layers for Marlin an empty one.
    if group_of_input is not None and group_of_input.numel():
        columns = torch.arange(layer.in_features, device=words.device, dtype=torch.int32)
        group_of_input.copy_(columns // layer.group_size)
    if layer.bias is not None:
        layer.bias.normal_(std=deviation)


def _balance(words: "torch.Tensor", bits: int) -> None:
    """Put the zero point in place of the lowest value, which has no opposite.

    Else the mean weight is half a step below 0, and each layer multiplies what its inputs have in
    common by hundreds: a 7B model overflows in float16.
    """
    seen = words
    for shift in (1, 2, 4):
        if shift < bits:
            seen = seen | (seen >> shift)
    words.bitwise_or_((~seen & one_in_each_place(bits)) << (bits - 1))
