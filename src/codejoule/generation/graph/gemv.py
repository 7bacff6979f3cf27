"""Products of one row as Triton kernels: with plain weights, and with 4-bit ones of Marlin's.
Marlin is made for tensor cores: for a single row it reads weights at a fraction of a GPU's
bandwidth. Here each program reads 64 columns of a part of the rows, and multiplies by what it has
unpacked in registers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codejoule.generation.compat import is_padded_by_marlin

if TYPE_CHECKING:
    import torch

GROUP_ROWS = 128
"""Inputs that one pass of a program reads: all of one group of the quantization."""

_COLUMNS = 64
_PROGRAMS = 4000
"""How many programs keep a GPU's memory busy: some for each of over a hundred multiprocessors."""


_BIAS_ORDER = [2 * i + j for i in range(4) for j in (0, 1, 8, 9, 16, 17, 24, 25)]
"""Which of 32 biases Marlin keeps at each place."""


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


def marlin_sums(x: "torch.Tensor", outputs: int) -> "torch.Tensor":
    """Room for what `marlin_row` returns."""
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


def dense_row(x: "torch.Tensor", weight: "torch.Tensor", *, gated: bool) -> "torch.Tensor":
    """``x @ weight.T`` of `x`, shape (1, inputs), and `weight`, shape (outputs, inputs). With
    `gated` the first half of the products goes through SiLU and is multiplied by the second. How
    the work is cut is tried out when a shape is met first."""
    from codejoule.generation.graph.gemv_kernel import multiply_rows

    outputs, inputs = weight.shape
    outputs = outputs // 2 if gated else outputs
    out = x.new_empty((1, outputs))
    multiply_rows[lambda chosen: (-(-outputs // chosen["block"]),)](
        x, weight, out, inputs, outputs, gated
    )
    return out
