"""The Triton kernel of `gemv`; needs triton, which comes with torch for CUDA."""

import triton
import triton.language as tl


@triton.jit
def _weight(packed, number: tl.constexpr):
    # The nibble as the last bits of a float whose unit is 1: cheaper than a conversion.
    bits = ((packed >> (4 * number)) & 0xF) | 0x4B000000
    return bits.to(tl.float32, bitcast=True) - 8388616.0


@triton.jit
def sum_rows(
    x,
    packed,
    scales,
    sums,
    outputs,
    groups_each: tl.constexpr,
    groups_per_scale: tl.constexpr,
):
    """See `gemv.marlin_row`; program (i, j) is for the i-th 64 outputs and the j-th part."""
    block, part = tl.program_id(0), tl.program_id(1)
    # 16 inputs by 64 outputs are 128 numbers, which a warp reads at once: `high` and `tile` choose
    # the output, `low` the inputs, of which a number holds four, for two outputs eight apart.
    high = tl.arange(0, 8)[:, None, None, None]
    low = tl.arange(0, 4)[None, :, None, None]
    rows = tl.arange(0, 8)[None, None, :, None]
    tile = tl.arange(0, 4)[None, None, None, :]
    first = tl.zeros((8, 4, 8, 4), dtype=tl.float32)
    second = tl.zeros((8, 4, 8, 4), dtype=tl.float32)
    for group in tl.range(part * groups_each, (part + 1) * groups_each):
        row = group * 8 + rows
        numbers = tl.load(packed + row * (2 * outputs) + block * 128 + high * 16 + low * 4 + tile)
        inputs = x + row * 16 + low * 2
        a = tl.load(inputs).to(tl.float32)
        b = tl.load(inputs + 1).to(tl.float32)
        c = tl.load(inputs + 8).to(tl.float32)
        d = tl.load(inputs + 9).to(tl.float32)
        scale = scales + (group // groups_per_scale) * outputs + block * 64 + high * 8 + 2 * tile
        products = a * _weight(numbers, 0) + b * _weight(numbers, 4)
        products += c * _weight(numbers, 1) + d * _weight(numbers, 5)
        first += products * tl.load(scale).to(tl.float32)
        products = a * _weight(numbers, 2) + b * _weight(numbers, 6)
        products += c * _weight(numbers, 3) + d * _weight(numbers, 7)
        second += products * tl.load(scale + 1).to(tl.float32)
    column = tl.arange(0, 8)[:, None] + 16 * tl.arange(0, 4)[None, :]
    out = sums + part * outputs + block * 64 + column
    tl.store(out, tl.sum(tl.sum(first, axis=2), axis=1))
    tl.store(out + 8, tl.sum(tl.sum(second, axis=2), axis=1))
