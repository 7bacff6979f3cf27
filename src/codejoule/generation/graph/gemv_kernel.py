"""The Triton kernel of `gemv`; needs triton, which comes with torch for CUDA."""

import triton
import triton.language as tl

# Two half-precision numbers at a time. Or-ing four bits into the last places of 1024 makes
# 1024 + n of them, and 1024 + 16 n where they are four places higher: in both cases a subtraction,
# or a multiplication and a subtraction, gives n - 8 without rounding.
_MULTIPLY = tl.constexpr(
    """{
    .reg .b32 one, two, rest;
    .reg .b32 ones, eight, sixteenth, high;
    mov.b32 ones, 0x64006400;
    mov.b32 eight, 0x64086408;
    mov.b32 sixteenth, 0x2C002C00;
    mov.b32 high, 0xD480D480;
    shr.u32 rest, $2, 8;
    lop3.b32 one, $2, 0x000F000F, ones, 0xEA;
    lop3.b32 two, $2, 0x00F000F0, ones, 0xEA;
    sub.rn.f16x2 one, one, eight;
    fma.rn.f16x2 two, two, sixteenth, high;
    fma.rn.f16x2 one, one, $3, $5;
    fma.rn.f16x2 $0, two, $4, one;
    lop3.b32 one, rest, 0x000F000F, ones, 0xEA;
    lop3.b32 two, rest, 0x00F000F0, ones, 0xEA;
    sub.rn.f16x2 one, one, eight;
    fma.rn.f16x2 two, two, sixteenth, high;
    fma.rn.f16x2 one, one, $3, $6;
    fma.rn.f16x2 $1, two, $4, one;
    }"""
)
_HALVES = tl.constexpr(
    """{
    .reg .b16 low, high;
    mov.b32 {low, high}, $2;
    cvt.f32.f16 $0, low;
    cvt.f32.f16 $1, high;
    }"""
)


@triton.jit
def _halves(pairs):
    return tl.inline_asm_elementwise(
        _HALVES, "=f,=f,r", [pairs], dtype=(tl.float32, tl.float32), is_pure=True, pack=1
    )


@triton.jit(do_not_specialize=["blocks_0", "blocks_1", "blocks_2"])
def sum_rows(
    pairs,
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
    """See `gemv.marlin_row`; program (i, j), a warp, is for the i-th 64 outputs and the j-th part.
    `pairs` are the inputs, two in a number of 32 bits; so are the scales."""
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
    high = tl.arange(0, 8)[:, None, None]
    low = tl.arange(0, 4)[None, :, None]
    tile = tl.arange(0, 4)[None, None, :]
    first = tl.zeros((8, 4, 4), dtype=tl.float32)
    second = tl.zeros((8, 4, 4), dtype=tl.float32)
    begin = part * groups_each
    for group in tl.range(begin, min(begin + groups_each, groups)):
        scale = scales + ((group // groups_per_scale) * blocks + block) * 32 + high * 4 + tile
        # Each thread loads what it needs, in the order of the weights: moving it takes longer.
        one, two = _halves(tl.load(scale + low * 0))
        for some in tl.static_range(0, 8, 4):
            # Products of 16 inputs are added in half precision, and all others in single precision.
            half_one = tl.zeros((8, 4, 4), dtype=tl.int32)
            half_two = tl.zeros((8, 4, 4), dtype=tl.int32)
            for step in tl.static_range(0, 4):
                row = group * 8 + some + step
                place = packed + (row * blocks + block) * 128 + high * 16 + low * 4 + tile
                inputs = pairs + row * 8 + low
                half_one, half_two = tl.inline_asm_elementwise(
                    _MULTIPLY,
                    "=&r,=&r,r,r,r,r,r",
                    [tl.load(place), tl.load(inputs), tl.load(inputs + 4), half_one, half_two],
                    dtype=(tl.int32, tl.int32),
                    is_pure=True,
                    pack=1,
                )
            even, odd = _halves(half_one)
            first += (even + odd) * one
            even, odd = _halves(half_two)
            second += (even + odd) * two
    column = tl.arange(0, 8)[:, None] + 16 * tl.arange(0, 4)[None, :]
    tl.store(out + column, tl.sum(first, axis=1))
    tl.store(out + column + 8, tl.sum(second, axis=1))
