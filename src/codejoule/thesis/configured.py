"""``codejoule estimate --thesis``: the same configuration by the thesis' equations."""

from codejoule.config import ConfigError
from codejoule.domain import Architecture
from codejoule.estimate import Card
from codejoule.thesis import equations
from codejoule.thesis.estimates import table_times_s

_NOMINAL = {
    "qwen_0_5b": 0.5e9, "qwen_1_5b": 1.5e9, "qwen_3b": 3e9, "qwen_7b": 7e9, "qwen_14b": 14e9,
    "qwen_coder_7b": 7e9, "llama_8b": 8e9, "deepseek_coder_16b": 15.8e9,
}  # fmt: skip
_K = {"none": 1.0, "gptq8": 1 / 2, "awq": 1 / 2, "gptq4": 1 / 4}

Figures = dict[str, tuple[float | None, str, str]]


def thesis_figures_of(
    *,
    model: str,
    quant: str,
    architecture: Architecture,
    counted: int,
    card: Card,
    batch: int,
    prompt_tokens: int,
    new_tokens: int,
) -> Figures:
    """What the thesis' equations give for a configuration.

    By name: value, unit and where it comes from. `model` and `quant` are names of ``conf``,
    `counted` the exact parameters of a model whose nominal number the thesis does not have. Raises
    `ConfigError` for a quantization that it does not have.
    """
    if quant not in _K:
        raise ConfigError(f"quant={quant}: the thesis has {', '.join(_K)}; leave out --thesis")
    a, k, heads = architecture, _K[quant], architecture.attention.heads
    n = _NOMINAL.get(model.removesuffix("_base"), float(counted))
    rate = card.peak_float16_flop_per_s if k == 1 else card.peak_int8_op_per_s
    b, s, tokens, p = batch, prompt_tokens, new_tokens, 2 * k
    cache = equations.grouped_cache_bytes(
        b=b, s=s, n=n, h=heads, g=heads / a.attention.kv_heads, m=a.hidden_size, p=2
    )
    figures: Figures = {
        "parameters": (n, "", "nominal, as its tables have them"),
        "parameters_by_equation": (_by_equation(a), "", "eq. 3.19 or 3.22"),
        "kv_cache": (cache, "bytes", "eq. 3.25, in parameters and model widths as printed"),
        "vram": (n * p, "bytes", "as its tables: the weights alone"),
        "vram_by_equation": (
            equations.vram_bytes(n=n, p_parameters=p, cache=cache, p_cache=2), "bytes", "eq. 3.26",
        ),
        "prefill_compute": (equations.prefill_compute(n=n * k, b=b, s=s), "FLOP", "eq. 3.27"),
        "prefill_memory": (equations.memory_read(n=n * k), "bytes", "eq. 3.28"),
        "decode_compute": (equations.decode_compute(n=n * k, b=b), "FLOP", "eq. 3.29"),
        "decode_memory": (equations.memory_read(n=n * k), "bytes", "eq. 3.30"),
    }  # fmt: skip
    if rate is None:
        return figures
    ttft_s, tpot_s, table_s = table_times_s(
        n=n * k, flop_per_s=rate, bytes_per_s=card.bandwidth_bytes_per_s, prompt=s,
        tokens=tokens, b=b,
    )  # fmt: skip
    total_s = equations.total_generation_time_s(ttft_s=ttft_s, tpot_s=tpot_s, tokens=tokens)
    figures |= {
        "ttft": (ttft_s, "s", "eq. 3.31"),
        "tpot": (tpot_s, "s", "eq. 3.32"),
        "tgt": (total_s, "s", "eq. 3.33"),
        "tgt_as_tabled": (table_s, "s", "as its tables: without the decode computation"),
    }
    if card.power_limit_w is not None:
        energy_j = equations.energy_j(power_w=card.power_limit_w, time_s=total_s)
        figures["energy"] = (energy_j, "J", f"eq. 3.34 at the limit of {card.power_limit_w:g} W")
    return figures


def thesis_text(figures: Figures, title: str) -> str:
    """A table of the thesis' figures under a title."""
    lines = [f"{title}, by the equations of Buis (2024)", ""]
    for name, (value, unit, source) in figures.items():
        figure = "-" if value is None else f"{value:,.5g} {unit}".rstrip()
        lines.append(f"  {name.replace('_', ' '):<22}  {figure:>20}  {source}")
    lines += [
        "",
        "They are known to be wrong in places (codejoule's documentation, page The thesis, "
        "recomputed). Leave out --thesis for codejoule's own estimate.",
    ]
    return "\n".join(lines)


def _by_equation(a: Architecture) -> float:
    """Parameters by equation 3.19, or 3.22 with experts."""
    shape = {
        "v": a.vocab_size, "c": a.context_tokens, "m": a.hidden_size, "d": a.attention.head_dim,
        "h": a.attention.heads, "l": a.layers, "k": 2 * a.layers + 1,
    }  # fmt: skip
    if a.moe is None:
        return equations.dense_parameters(**shape, d_ff=a.intermediate_size)
    j = equations.expert_width(a.moe.intermediate_size)
    experts = equations.experts_parameters(
        equations.expert_parameters(a.hidden_size, j),
        equations.total_experts(a.moe.routed, a.moe.shared),
    )
    gate = equations.gating_parameters(a.hidden_size, a.moe.routed)
    layer = equations.moe_layer_parameters(experts, 0, gate)
    moe = equations.moe_parameters(layer, a.moe_layers)
    return equations.moe_model_parameters(**shape, moe=moe)
