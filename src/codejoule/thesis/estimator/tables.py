"""The thesis' estimator tables: 5.14, 5.19, 5.25, 5.30 and 5.35, computed anew."""

from dataclasses import dataclass

from codejoule.thesis.estimator import equations

FLOP_PER_S = 362.05e12
"""Rate of the L40S for 16-bit weights, as the tables use it."""
QUANTIZED_FLOP_PER_S = 733e12
"""Rate for quantized weights, whatever their bits."""
BYTES_PER_S = 864e9
"""Memory bandwidth of the L40S."""

NOMINAL = {
    "Qwen2.5-Coder-7B": 7e9,
    "Meta-Llama-3.1-8B": 8e9,
    "DeepSeek-V2-Lite-16B": 15.8e9,
    "0.5B": 0.5e9,
    "1.5B": 1.5e9,
    "3B": 3e9,
    "7B": 7e9,
    "14B": 14e9,
}
"""Parameters that the tables take for each model, by name or by size."""

QUANTIZED = {"AWQ": 1 / 2, "GPTQ-Int8": 1 / 2, "GPTQ-Int4": 1 / 4}
"""Bytes per parameter over two. AWQ has 4 bits; the thesis reckons with 8."""

_SIZES = ("0.5B", "1.5B", "3B", "7B", "14B")
MODELS = {
    "5.14": ("Qwen2.5-Coder-7B", "Meta-Llama-3.1-8B", "DeepSeek-V2-Lite-16B"),
    "5.19": tuple(f"Qwen2.5-{size}" for size in _SIZES),
    "5.25": tuple(f"Qwen2.5-{size}{end}" for size in _SIZES for end in ("", "-Instruct")),
    "5.30": tuple(f"Qwen2.5-{size}-Instruct{end}" for size in _SIZES for end in ("", "-AWQ")),
    "5.35": tuple(
        f"Qwen2.5-{size}-Instruct{end}"
        for size in _SIZES for end in ("", "-GPTQ-Int4", "-GPTQ-Int8")
    ),
}  # fmt: skip
"""The rows of each table, in its order."""

COLUMNS = (
    "prefill_compute", "decode_compute", "prefill_memory", "decode_memory", "ttft", "tpot",
    "tgt_s", "vram_gb",
)  # fmt: skip
"""The figures of a row. Table 5.14 prints one memory column for both."""


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


def thesis_tables() -> tuple[TableRow, ...]:
    """Compute the five tables.

    43 rows, in the order of the tables.

    The thesis states the equations and not every input; the missing ones were found by fitting.
    With ``n`` nominal parameters, ``k`` = 1, 1/2 or 1/4 for 16, 8 and 4 bits, and rates ``F`` and
    ``B``: ``TTFT = 2 n k s / F + 2 n k / B``, ``TPOT = 2 n k / F + 2 n k / B``, but
    ``TGT = TTFT + 2 n k / B * tokens``, without the decode computation that equation 3.33 has.
    ``s`` = tokens = 660; in table 5.14 ``s`` = 512 and tokens = 254.85, its prefill computation
    is printed as ``n s`` and its memory as ``4 n``, though its times use ``2 n s`` and ``2 n``,
    and its VRAM has 20 % on top.
    """
    return tuple(
        _first(model) if table == "5.14" else _later(table, model)
        for table, models in MODELS.items()
        for model in models
    )


def table_inputs(model: str) -> tuple[float, float, float]:
    """What the tables reckon with for a model.

    Nominal parameters, bytes per parameter over two, operations per second.
    """
    if model in NOMINAL:
        return NOMINAL[model], 1.0, FLOP_PER_S
    size, _, rest = model.removeprefix("Qwen2.5-").partition("-")
    quantization = rest.removeprefix("Instruct").removeprefix("-")
    if not quantization:
        return NOMINAL[size], 1.0, FLOP_PER_S
    return NOMINAL[size], QUANTIZED[quantization], QUANTIZED_FLOP_PER_S


def table_times_s(
    *, n: float, flop_per_s: float, bytes_per_s: float, prompt: float, tokens: float, b: float = 1
) -> tuple[float, float, float]:
    """Times as the tables compute them.

    TTFT, TPOT and TGT [s]; the last without the decode computation.
    """
    rates = {"flop_per_s": flop_per_s, "bytes_per_s": bytes_per_s}
    read = equations.decode_memory(n=n)
    ttft_s = equations.time_to_first_token_s(
        compute=equations.prefill_compute(n=n, b=b, s=prompt), memory=read, **rates
    )
    tpot_s = equations.time_per_output_token_s(
        compute=equations.decode_compute(n=n, b=b), memory=read, **rates
    )
    tgt_s = equations.total_generation_time_s(
        ttft_s=ttft_s, tpot_s=read / bytes_per_s, tokens=tokens
    )
    return ttft_s, tpot_s, tgt_s


def _first(model: str) -> TableRow:
    """A row of table 5.14."""
    n, _, flop_per_s = table_inputs(model)
    ttft_s, tpot_s, tgt_s = table_times_s(
        n=n, flop_per_s=flop_per_s, bytes_per_s=BYTES_PER_S, prompt=512, tokens=254.85
    )
    return TableRow(
        table="5.14",
        model=model,
        prefill_compute=n * 512 / 1e12,
        decode_compute=equations.decode_compute(n=n, b=1) / 1e9,
        prefill_memory=2 * equations.prefill_memory(n=n) / 1e9,
        decode_memory=2 * equations.decode_memory(n=n) / 1e9,
        ttft=1e3 * ttft_s,
        tpot=1e3 * tpot_s,
        tgt_s=tgt_s,
        vram_gb=1.2 * 2 * n / 1e9,
    )


def _later(table: str, model: str) -> TableRow:
    parameters, k, flop_per_s = table_inputs(model)
    n = parameters * k
    ttft_s, tpot_s, tgt_s = table_times_s(
        n=n, flop_per_s=flop_per_s, bytes_per_s=BYTES_PER_S, prompt=660, tokens=660
    )
    return TableRow(
        table=table,
        model=model,
        prefill_compute=equations.prefill_compute(n=n, b=1, s=660) / 1e12,
        decode_compute=equations.decode_compute(n=n, b=1) / 1e12,
        prefill_memory=equations.prefill_memory(n=n) / 1e12,
        decode_memory=equations.decode_memory(n=n) / 1e12,
        ttft=ttft_s,
        tpot=tpot_s,
        tgt_s=tgt_s,
        vram_gb=2 * n / 1e9,
    )
