"""The Triton kernel of `gemv`; needs triton, which comes with torch for CUDA."""

import triton
import triton.language as tl


@triton.jit
def _weight(numbers, place: tl.constexpr):
    # The four bits at `place`, less 8 and times 16**place: last bits of a float whose unit is 1.
    # A conversion and a shift would take longer than the memory does; and an OR of an AND is one
    # instruction, which the compiler makes two of.
    bits = tl.inline_asm_elementwise(
        "lop3.b32 $0, $1, $2, $3, 0xEA;",
        "=r,r,r,r",
        [numbers, 0xF << (4 * place), 0x4B000000],
        dtype=tl.int32,
        is_pure=True,
        pack=1,
    )
    return bits.to(tl.float32, bitcast=True) - (8388608.0 + 8.0 * (1 << (4 * place)))


@triton.jit(do_not_specialize=["blocks_0", "blocks_1", "blocks_2"])
def sum_rows(
    x,
    packed_0,
    packed_1,
    packed_2,
    scales_0,
    scales_1,
    scales_2,
    sums,
    blocks_0,
    blocks_1,
    blocks_2,
    groups: tl.constexpr,
    groups_each: tl.constexpr,
    groups_per_scale: tl.constexpr,
):
    """See `gemv.marlin_row`; program (i, j) is for the i-th 64 outputs and the j-th part."""
    block, part = tl.program_id(0), tl.program_id(1)
    out = sums + (part * (blocks_0 + blocks_1 + blocks_2) + block) * 64
    packed, scales, blocks = packed_0, scales_0, blocks_0
    if block >= blocks_0 + blocks_1:
        packed, scales, blocks = packed_2, scales_2, blocks_2
        block -= blocks_0 + blocks_1
    elif block >= blocks_0:
        packed, scales, blocks = packed_1, scales_1, blocks_1
        block -= blocks_0
    # 16 inputs by 64 outputs are 128 numbers, which a warp reads at once: `high` and `tile` choose
    # the output, `low` the inputs, of which a number holds four, for two outputs eight apart.
    high = tl.arange(0, 8)[:, None, None, None]
    low = tl.arange(0, 4)[None, :, None, None]
    rows = tl.arange(0, 8)[None, None, :, None]
    tile = tl.arange(0, 4)[None, None, None, :]
    first = tl.zeros((8, 4, 8, 4), dtype=tl.float32)
    second = tl.zeros((8, 4, 8, 4), dtype=tl.float32)
    begin = part * groups_each
    for group in tl.range(begin, min(begin + groups_each, groups)):
        row = group * 8 + rows
        place = packed + (row * blocks + block) * 128 + high * 16 + low * 4 + tile
        numbers = tl.load(tl.multiple_of(place, (1, 1, 1, 16)))
        inputs = x + row * 16 + low * 2
        a = tl.load(inputs).to(tl.float32)
        b = tl.load(inputs + 1).to(tl.float32)
        c = tl.load(inputs + 8).to(tl.float32)
        d = tl.load(inputs + 9).to(tl.float32)
        rest = numbers >> 20
        products = a * _weight(numbers, 0)
        products += (c * 0.0625) * _weight(numbers, 1)
        products += (b * 0.0000152587890625) * _weight(numbers, 4)
        products += d * _weight(rest, 0)
        scale = scales + ((group // groups_per_scale) * blocks + block) * 64 + high * 8 + 2 * tile
        first += products * tl.load(scale).to(tl.float32)
        products = (a * 0.00390625) * _weight(numbers, 2)
        products += (c * 0.000244140625) * _weight(numbers, 3)
        products += (b * 0.0625) * _weight(rest, 1)
        products += (d * 0.00390625) * _weight(rest, 2)
        second += products * tl.load(scale + 1).to(tl.float32)
    column = tl.arange(0, 8)[:, None] + 16 * tl.arange(0, 4)[None, :]
    tl.store(out + column, tl.sum(tl.sum(first, axis=2), axis=1))
    tl.store(out + column + 8, tl.sum(tl.sum(second, axis=2), axis=1))
