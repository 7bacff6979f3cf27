"""The product of one row with Marlin's 4-bit weights as a Triton kernel. Marlin is made for tensor
cores: for a single row it reads weights at half of a GPU's bandwidth and less. Here each program
reads 64 columns of a part of the rows, and multiplies by what it has unpacked in registers; that
takes a quarter less energy per token (docs/lab-notes/engines.md)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.generation.compat import VERSIONS, is_padded_by_marlin

if TYPE_CHECKING:
    import torch

GROUP_ROWS = 128
"""Inputs that one pass of a program reads: all of one group of the quantization."""

_COLUMNS = 64
_PROGRAMS = 4000
"""How many programs keep a GPU's memory busy: some for each of over a hundred multiprocessors."""

_TOLERANCE = 0.01
"""Of the largest output: both add products in half precision, in other orders."""

_BIAS_ORDER = [2 * i + j for i in range(4) for j in (0, 1, 8, 9, 16, 17, 24, 25)]
"""Order in which Marlin keeps each 32 biases."""


def has_row_product(layer: Any) -> bool:
    """Whether `marlin_row` computes what this layer of gptqmodel's does, for one row."""
    return (
        type(layer).__name__ == "MarlinLinear"
        and layer.bits == 4
        and str(layer.scales.dtype) == "torch.float16"
        and not layer.desc_act
        and not is_padded_by_marlin(layer)
        and layer.adapter is None
        and layer.in_features % GROUP_ROWS == 0
        and layer.out_features % _COLUMNS == 0
        and layer.scales.shape[0] > 1
        and layer.in_features // layer.scales.shape[0] % GROUP_ROWS == 0
    )


def bias_in_order(bias: "torch.Tensor | None") -> "torch.Tensor | None":
    """A bias that Marlin has permuted, as it was."""
    if bias is None:
        return None
    ordered = bias.new_empty(bias.numel() // len(_BIAS_ORDER), len(_BIAS_ORDER))
    ordered[:, _BIAS_ORDER] = bias.reshape(ordered.shape)
    return ordered.flatten()


def check_row_product(layer: Any) -> None:
    """Raises `UserError` where `marlin_row` does not compute what the layer does: `has_row_product`
    asks for what is declared, and gptqmodel promises no layout."""
    import torch

    draws = torch.Generator(layer.scales.device).manual_seed(0)
    x = torch.empty(1, layer.in_features, dtype=torch.float16, device=layer.scales.device)
    x.normal_(generator=draws)
    wanted = layer(x)[0].float()
    found = marlin_row(x, [layer.qweight], [layer.scales]).sum(dim=0)
    if layer.bias is not None:
        found += bias_in_order(layer.bias)
    off = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
    if not off < _TOLERANCE:
        raise UserError(
            f"engine=graph: its kernel for single rows is off by {off:.1%} from Marlin: this "
            "gptqmodel keeps weights otherwise; use engine.compile=false, or gptqmodel "
            f"{VERSIONS['gptqmodel']}"
        )


def marlin_sums(x: "torch.Tensor", outputs: int) -> "torch.Tensor":
    """An empty tensor for what `marlin_row` returns."""
    import torch

    groups = x.shape[1] // GROUP_ROWS
    wanted = min(groups, -(-_PROGRAMS // (outputs // _COLUMNS)))
    parts = -(-groups // -(-groups // wanted))
    return x.new_empty((parts, outputs), dtype=torch.float32)


def marlin_row(
    x: "torch.Tensor", packed: Sequence["torch.Tensor"], scales: Sequence["torch.Tensor"]
) -> "torch.Tensor":
    """Partial sums of ``x @ weights``, shape (parts, all outputs), float32; they add up to the
    product. `x` has shape (1, inputs), in half precision. Each of up to three `packed`, of shape
    (inputs / 16, 2 * outputs), holds 4-bit weights without zero points as gptqmodel's
    `gptq_marlin_repack` leaves them; its `scales`, shape (groups, outputs), are permuted as
    Marlin's are."""
    import torch

    from codejoule.generation.graph.gemv_kernel import sum_rows

    outputs = [each.shape[1] for each in scales]
    blocks = [each // _COLUMNS for each in outputs]
    sums = marlin_sums(x, sum(outputs))
    groups, parts = x.shape[1] // GROUP_ROWS, len(sums)
    packed, scales = list(packed), list(scales)
    absent = 3 - len(packed)
    sum_rows[sum(blocks), parts](
        x.view(torch.int32),
        *packed,
        *packed[:1] * absent,
        *[each.view(torch.int32) for each in [*scales, *scales[:1] * absent]],
        sums,
        *blocks,
        *[0] * absent,
        groups=groups,
        groups_each=-(-groups // parts),
        groups_per_scale=groups // scales[0].shape[0],
        num_warps=1,
    )
    return sums
