"""The thesis' estimator tables (5.14, 5.19, 5.25, 5.30, 5.35) computed anew, and its figures."""

from collections.abc import Callable
from dataclasses import dataclass

from codejoule.thesis import equations

_FLOP_PER_S, _QUANTIZED_FLOP_PER_S = 362.05e12, 733e12
"""Rates of the L40S for 16-bit weights and for quantized ones, whatever their bits."""
_BYTES_PER_S = 864e9
"""Memory bandwidth of the L40S."""

_FIRST = {"Qwen2.5-Coder-7B": 7e9, "Meta-Llama-3.1-8B": 8e9, "DeepSeek-V2-Lite-16B": 15.8e9}
"""Models of table 5.14 and their nominal parameters."""
_SIZES = {"0.5B": 0.5e9, "1.5B": 1.5e9, "3B": 3e9, "7B": 7e9, "14B": 14e9}
"""Those of the sizes of Qwen2.5, of which each later table has the models with these endings."""
_ENDINGS = {
    "5.19": ("",),
    "5.25": ("", "-Instruct"),
    "5.30": ("-Instruct", "-Instruct-AWQ"),
    "5.35": ("-Instruct", "-Instruct-GPTQ-Int4", "-Instruct-GPTQ-Int8"),
}
_K = {"AWQ": 1 / 2, "GPTQ-Int8": 1 / 2, "GPTQ-Int4": 1 / 4}
"""Bytes per parameter over two. AWQ has 4 bits; the thesis reckons with 8."""

COLUMNS = (
    "prefill_compute", "decode_compute", "prefill_memory", "decode_memory", "ttft", "tpot",
    "tgt_s", "vram_gb",
)  # fmt: skip
"""The figures of a row. Table 5.14 prints one memory column for both."""

_QWEN_CODER = {
    "v": 152064, "c": 128000, "m": 3584, "d": 128, "h": 28, "l": 28, "k": 57, "d_ff": 18944,
}  # fmt: skip
"""Table 4.1's figures of it, its normalizations, and its MLP width from the appendix' listing."""
_RANGES = {
    "l": (8, 80), "m": (512, 8192), "h": (4, 64), "d": (32, 256), "v": (32000, 256000),
    "c": (4096, 131072), "b": (1, 33), "s": (4096, 36864), "p": (0.5, 4.5), "n": (1e9, 17e9),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One row, unrounded, in the units that its table prints."""

    table: str
    """Number of the table."""
    model: str
    """Name of the model."""
    prefill_compute: float
    """Operations of prefill [10^12]."""
    decode_compute: float
    """Operations of a decode step [10^12; in table 5.14 10^9]."""
    prefill_memory: float
    """Bytes that prefill reads [10^12; in table 5.14 10^9]."""
    decode_memory: float
    """Bytes that a decode step reads [10^12; in table 5.14 10^9]."""
    ttft: float
    """Time to first token [s, headed "ms"; in table 5.14 ms]."""
    tpot: float
    """Time per output token [s, headed "ms"; in table 5.14 ms]."""
    tgt_s: float
    """Total generation time [s]."""
    vram_gb: float
    """Memory of the weights [10^9 bytes]; in table 5.14 a fifth more."""


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


def thesis_tables() -> tuple[TableRow, ...]:
    """Compute the five tables: 43 rows, in their order.

    The thesis states the equations and not every input; the missing ones were found by fitting.
    With ``n`` nominal parameters, ``k`` = 1, 1/2 or 1/4 for 16, 8 and 4 bits, and rates ``F`` and
    ``B``: ``TTFT = 2 n k s / F + 2 n k / B``, ``TPOT = 2 n k / F + 2 n k / B``, but
    ``TGT = TTFT + 2 n k / B * tokens``, without the decode computation that equation 3.33 has.
    ``s`` = tokens = 660; in table 5.14 ``s`` = 512 and tokens = 254.85, its prefill computation
    is printed as ``n s`` and its memory as ``4 n``, though its times use ``2 n s`` and ``2 n``,
    and its VRAM has 20 % on top.
    """
    first = [_row("5.14", model, n, k=1.0) for model, n in _FIRST.items()]
    later = [
        _row(table, f"Qwen2.5-{size}{ending}", n, k=_K.get(ending.removeprefix("-Instruct-"), 1.0))
        for table, endings in _ENDINGS.items()
        for size, n in _SIZES.items()
        for ending in endings
    ]
    return (*first, *later)


def table_times_s(
    *, n: float, flop_per_s: float, bytes_per_s: float, prompt: float, tokens: float, b: float = 1
) -> tuple[float, float, float]:
    """TTFT, TPOT and TGT [s] as the tables have them, the last without the decode computation."""
    rates = {"flop_per_s": flop_per_s, "bytes_per_s": bytes_per_s}
    read = equations.memory_read(n=n)
    ttft_s = equations.pass_time_s(
        compute=equations.prefill_compute(n=n, b=b, s=prompt), memory=read, **rates
    )
    tpot_s = equations.pass_time_s(compute=equations.decode_compute(n=n, b=b), memory=read, **rates)
    tgt_s = equations.total_generation_time_s(
        ttft_s=ttft_s, tpot_s=read / bytes_per_s, tokens=tokens
    )
    return ttft_s, tpot_s, tgt_s


def _row(table: str, model: str, parameters: float, *, k: float) -> TableRow:
    n, first = parameters * k, table == "5.14"
    prompt, tokens = (512, 254.85) if first else (660, 660)
    ttft_s, tpot_s, tgt_s = table_times_s(
        n=n, flop_per_s=_FLOP_PER_S if k == 1 else _QUANTIZED_FLOP_PER_S,
        bytes_per_s=_BYTES_PER_S, prompt=prompt, tokens=tokens,
    )  # fmt: skip
    unit, per_s = (1e9, 1e3) if first else (1e12, 1)
    read = equations.memory_read(n=n) * (2 if first else 1) / unit
    return TableRow(
        table=table,
        model=model,
        prefill_compute=equations.prefill_compute(n=n, b=1, s=prompt) / (2e12 if first else 1e12),
        decode_compute=equations.decode_compute(n=n, b=1) / unit,
        prefill_memory=read,
        decode_memory=read,
        ttft=ttft_s * per_s,
        tpot=tpot_s * per_s,
        tgt_s=tgt_s,
        vram_gb=2 * n / 1e9 * (1.2 if first else 1),
    )


def figure_checks() -> tuple[FigureCheck, ...]:
    """Hold the text's statements about the figures against the equations."""
    ttft_s, tpot_s, _ = table_times_s(
        n=_FIRST["Qwen2.5-Coder-7B"], flop_per_s=_FLOP_PER_S, bytes_per_s=_BYTES_PER_S, prompt=512,
        tokens=1,
    )  # fmt: skip
    ratio, decoding = ttft_s / tpot_s, 10 * tpot_s / (ttft_s + 10 * tpot_s)
    per_batch, per_ten_heads = _cache_gb(), _cache_gb(h=10)
    bent = _bend(_parameters_as_printed, "m")
    by_group = _vram_gb(g=28) - _vram_gb(g=1)
    return (
        FigureCheck(
            figure="4.1", statement="TTFT and TPOT contribute about equally to one token",
            stated=None, computed=ratio, holds=ratio < 1.5,
            remark="TTFT / TPOT with table 5.14's inputs; equal only for prompts of a few dozen "
            "tokens, and the figure's are not stated",
        ),
        FigureCheck(
            figure="4.2", statement="most of the time of ten tokens is token generation",
            stated=None, computed=decoding, holds=decoding > 0.5,
            remark="share of TPOT x tokens",
        ),
        FigureCheck(
            figure="4.3", statement="parameters are linear in l, h, d, v and c",
            stated=None, computed=max(_bend(_parameters_as_printed, x) for x in "lhdvc"),
            holds=all(_bend(_parameters_as_printed, x) < 1e-9 for x in "lhdvc"),
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
            stated=None, computed=max(_bend(_vram_gb, x) for x in "pnbsh"),
            holds=all(_bend(_vram_gb, x) < 1e-9 for x in "pnbsh"),
            remark="largest deviation from a straight line, relative",
        ),
        FigureCheck(
            figure="4.5", statement="memory falls when g rises",
            stated=None, computed=by_group, holds=by_group < 0,
            remark="change from g = 1 to g = 28 [GB]",
        ),
    )  # fmt: skip


def _cache_gb(**changed: float) -> float:
    """Cache of Qwen2.5-Coder-7B by equation 3.25 in layers and head widths.

    In 10^9 bytes. The equation as printed, in parameters and model widths, gives 4 x 10^9 times as
    much; the slopes that the text states of figure 4.4 are those of this one, with 32,768 tokens.
    """
    values = {"b": 1, "s": 32768, "n": 28, "h": 28, "g": 7, "m": 128, "p": 2}
    return equations.grouped_cache_bytes(**(values | changed)) / 1e9


def _parameters_as_printed(**changed: float) -> float:
    """Equation 3.19 for Qwen2.5-Coder-7B with some variables changed."""
    values = {name: int(value) for name, value in (_QWEN_CODER | changed).items()}
    return equations.dense_parameters(**values)


def _vram_gb(*, n: float = _FIRST["Qwen2.5-Coder-7B"], p: float = 2, **cache: float) -> float:
    """Memory of Qwen2.5-Coder-7B by equation 3.26, the cache counted once. In 10^9 bytes."""
    held = _cache_gb(p=p, **cache) * 1e9
    return equations.vram_bytes(n=n, p_parameters=p, cache=held, p_cache=1) / 1e9


def _bend(curve: Callable[..., float], variable: str) -> float:
    """How far the middle of a curve lies off the line through its ends, relative to it."""
    low, high = _RANGES[variable]
    first, middle, last = (curve(**{variable: x}) for x in (low, (low + high) / 2, high))
    line = (first + last) / 2
    return abs(middle - line) / abs(line)
