"""What the thesis' text says of its figures 4.1 to 4.5, held against the equations."""

from collections.abc import Callable
from dataclasses import dataclass

from codejoule.thesis.estimator import equations
from codejoule.thesis.estimator.tables import BYTES_PER_S, FLOP_PER_S, table_times_s

QWEN_CODER = {"v": 152064, "c": 128000, "m": 3584, "d": 128, "h": 28, "l": 28, "k": 57}
"""Qwen2.5-Coder-7B in table 4.1; ``k`` are its normalizations, two per layer and one."""
D_FF = 18944
"""Its MLP width, from the listing in the thesis' appendix."""
NOMINAL_PARAMETERS = 7e9
"""What the estimator's tables take for it."""
CONTEXT = 32768
"""Tokens in the cache with which figure 4.4's slopes come out; the thesis names none."""
GROUP = 7
"""Query heads per key-value head (28 over 4)."""

_RANGES = {
    "l": (8, 80), "m": (512, 8192), "h": (4, 64), "d": (32, 256), "v": (32000, 256000),
    "c": (4096, 131072), "b": (1, 33), "s": (4096, 36864), "p": (0.5, 4.5), "n": (1e9, 17e9),
    "g": (1, 28),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureCheck:
    """A statement of the thesis' text about a figure, and what its equations give."""

    figure: str
    """Number of the figure."""
    statement: str
    """What the text says, in our words."""
    stated: float | None
    """The figure that it states; None for a statement in words."""
    computed: float
    """What the equations give."""
    holds: bool
    """Whether both agree: within one unit of the last digit stated, or as worded."""
    remark: str
    """With which inputs, or why not."""


def cache_gb(
    *,
    b: float = 1,
    s: float = CONTEXT,
    l: float = 28,
    h: float = 28,
    g: float = GROUP,
    d: float = 128,
    p: float = 2,
) -> float:
    """Cache of Qwen2.5-Coder-7B by equation 3.25 in layers and head widths.

    In 10^9 bytes. The equation as printed, in parameters and model widths, gives 4 x 10^9 times as
    much; the slopes that the text states of figure 4.4 are those of this one.
    """
    return equations.grouped_cache_bytes(b=b, s=s, n=l, h=h, g=g, m=d, p=p) / 1e9


def parameters_as_printed(**changed: float) -> float:
    """Equation 3.19 for Qwen2.5-Coder-7B with some variables changed."""
    values = {name: int(value) for name, value in (QWEN_CODER | changed).items()}
    return equations.dense_parameters(d_ff=D_FF, **values)


def vram_gb(*, n: float = NOMINAL_PARAMETERS, p: float = 2, **cache: float) -> float:
    """Memory of Qwen2.5-Coder-7B by equation 3.26, the cache counted once. In 10^9 bytes."""
    held = cache_gb(p=p, **cache) * 1e9
    return equations.vram_bytes(n=n, p_parameters=p, cache=held, p_cache=1) / 1e9


def generation_time_s(output_tokens: int, *, prompt: int = 512) -> tuple[float, float]:
    """The two parts of figures 4.1 and 4.2 for Qwen2.5-Coder-7B on an L40S.

    They are TTFT, and TPOT times tokens [s].
    """
    ttft_s, tpot_s, _ = table_times_s(
        n=NOMINAL_PARAMETERS, flop_per_s=FLOP_PER_S, bytes_per_s=BYTES_PER_S,
        prompt=prompt, tokens=output_tokens,
    )  # fmt: skip
    return ttft_s, tpot_s * output_tokens


def figure_checks() -> tuple[FigureCheck, ...]:
    """Hold the text's statements about the figures against the equations."""
    one, ten = generation_time_s(1), generation_time_s(10)
    per_batch, per_ten_heads = cache_gb(), cache_gb(h=10)
    bent = _bend(parameters_as_printed, "m")
    return (
        FigureCheck(
            figure="4.1", statement="TTFT and TPOT contribute about equally to one token",
            stated=None, computed=one[0] / one[1], holds=one[0] / one[1] < 1.5,
            remark="TTFT / TPOT with table 5.14's inputs; equal only for prompts of a few dozen "
            "tokens, and the figure's are not stated",
        ),
        FigureCheck(
            figure="4.2", statement="most of the time of ten tokens is token generation",
            stated=None, computed=ten[1] / sum(ten), holds=ten[1] / sum(ten) > 0.5,
            remark="share of TPOT x tokens",
        ),
        FigureCheck(
            figure="4.3", statement="parameters are linear in l, h, d, v and c",
            stated=None, computed=max(_bend(parameters_as_printed, x) for x in "lhdvc"),
            holds=all(_bend(parameters_as_printed, x) < 1e-9 for x in "lhdvc"),
            remark="largest deviation from a straight line, relative",
        ),
        FigureCheck(
            figure="4.3", statement="parameters are linear in m",
            stated=None, computed=bent, holds=bent < 1e-9,
            remark="equation 3.19 as printed is quadratic in m; with 2 d_ff m it is linear, so "
            "the figure was not drawn from the equation",
        ),
        FigureCheck(
            figure="4.4", statement="one more sequence costs 1.875 GB of cache",
            stated=1.875, computed=per_batch, holds=abs(per_batch - 1.875) <= 0.001,
            remark="32,768 tokens, 28 layers, 4 key-value heads of 128, 2 bytes; the text says "
            "approximately, and no context that is a power of two comes closer",
        ),
        FigureCheck(
            figure="4.4", statement="ten more heads cost 0.67 GB of cache",
            stated=0.67, computed=per_ten_heads, holds=abs(per_ten_heads - 0.67) <= 0.01,
            remark="the same inputs",
        ),
        FigureCheck(
            figure="4.5", statement="memory is linear in p, n, b, s and h",
            stated=None, computed=max(_bend(vram_gb, x) for x in "pnbsh"),
            holds=all(_bend(vram_gb, x) < 1e-9 for x in "pnbsh"),
            remark="largest deviation from a straight line, relative",
        ),
        FigureCheck(
            figure="4.5", statement="memory falls when g rises",
            stated=None, computed=vram_gb(g=28) - vram_gb(g=1), holds=vram_gb(g=28) < vram_gb(g=1),
            remark="change from g = 1 to g = 28 [GB]",
        ),
    )  # fmt: skip


def _bend(curve: Callable[..., float], variable: str) -> float:
    """How far the middle of a curve lies off the line through its ends, relative to it."""
    low, high = _RANGES[variable]
    first, middle, last = (curve(**{variable: x}) for x in (low, (low + high) / 2, high))
    line = (first + last) / 2
    return abs(middle - line) / abs(line)
