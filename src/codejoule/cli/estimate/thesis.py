"""``codejoule estimate --thesis``: the same configuration by the thesis' equations."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.cli.records import write_csv
from codejoule.config import ConfigError, write_whole

if TYPE_CHECKING:
    from codejoule.cli.estimate.prediction import Prediction

_NOMINAL = {
    "qwen_0_5b": 0.5e9, "qwen_1_5b": 1.5e9, "qwen_3b": 3e9, "qwen_7b": 7e9, "qwen_14b": 14e9,
    "qwen_coder_7b": 7e9, "llama_8b": 8e9, "deepseek_coder_16b": 15.8e9,
}  # fmt: skip
_K = {"none": 1.0, "gptq8": 1 / 2, "awq": 1 / 2, "gptq4": 1 / 4}

Figures = dict[str, tuple[float | None, str, str]]


def thesis_figures_of(prediction: "Prediction") -> Figures:
    """Name: value, unit and where it comes from.

    Raises `ConfigError` for a quantization that the thesis does not have.
    """
    from codejoule.estimate.thesis import (
        memory,
        runtime,
        table_times_s,
    )

    work, card = prediction.workload, prediction.card
    quant = work.experiment.quant.name
    if quant not in _K:
        raise ConfigError(f"quant={quant}: the thesis has {', '.join(_K)}; leave out --thesis")
    a, k = work.architecture, _K[quant]
    name = work.experiment.model.name.removesuffix("_base")
    n = _NOMINAL.get(name, float(prediction.parameters.total))
    rate = card.peak_float16_flop_per_s if k == 1 else card.peak_int8_op_per_s
    b, s, tokens, p = work.batch, work.prompt_tokens, work.new_tokens, 2 * k
    cache = memory.grouped_cache_bytes(
        b=b, s=s, n=n, h=a.heads, g=a.heads / a.kv_heads, m=a.hidden_size, p=2
    )
    figures: Figures = {
        "parameters": (n, "", "nominal, as its tables have them"),
        "parameters_by_equation": (_counted(prediction), "", "eq. 3.19 or 3.22"),
        "kv_cache": (cache, "bytes", "eq. 3.25, in parameters and model widths as printed"),
        "vram": (n * p, "bytes", "as its tables: the weights alone"),
        "vram_by_equation": (
            memory.vram_bytes(n=n, p_parameters=p, cache=cache, p_cache=2), "bytes", "eq. 3.26",
        ),
        "prefill_compute": (runtime.prefill_compute(n=n * k, b=b, s=s), "FLOP", "eq. 3.27"),
        "prefill_memory": (runtime.prefill_memory(n=n * k), "bytes", "eq. 3.28"),
        "decode_compute": (runtime.decode_compute(n=n * k, b=b), "FLOP", "eq. 3.29"),
        "decode_memory": (runtime.decode_memory(n=n * k), "bytes", "eq. 3.30"),
    }  # fmt: skip
    if rate is None:
        return figures
    ttft_s, tpot_s, table_s = table_times_s(
        n=n * k, flop_per_s=rate, bytes_per_s=card.bandwidth_bytes_per_s, prompt=s,
        tokens=tokens, b=b,
    )  # fmt: skip
    total_s = runtime.total_generation_time_s(ttft_s=ttft_s, tpot_s=tpot_s, tokens=tokens)
    figures |= {
        "ttft": (ttft_s, "s", "eq. 3.31"),
        "tpot": (tpot_s, "s", "eq. 3.32"),
        "tgt": (total_s, "s", "eq. 3.33"),
        "tgt_as_tabled": (table_s, "s", "as its tables: without the decode computation"),
    }
    if card.power_limit_w is not None:
        energy_j = runtime.energy_j(power_w=card.power_limit_w, time_s=total_s)
        figures["energy"] = (energy_j, "J", f"eq. 3.34 at the limit of {card.power_limit_w:g} W")
    return figures


def thesis_text(prediction: "Prediction") -> str:
    """A table of the thesis' figures."""
    work = prediction.workload
    lines = [
        f"{work.experiment.model.name}, quant={work.experiment.quant.name}, on "
        f"{prediction.card.name}: batch of {work.batch}, {work.prompt_tokens:,} prompt and "
        f"{work.new_tokens:,} new tokens, by the equations of Buis (2024)",
        "",
    ]
    for name, (value, unit, source) in thesis_figures_of(prediction).items():
        figure = "-" if value is None else f"{value:,.5g} {unit}".rstrip()
        lines.append(f"  {name.replace('_', ' '):<22}  {figure:>20}  {source}")
    lines += [
        "",
        "They are known to be wrong in places: docs/thesis.md. Leave out --thesis for ours.",
    ]
    return "\n".join(lines)


def thesis_json(prediction: "Prediction") -> dict[str, Any]:
    """The same figures by name, for programs."""
    return {
        name: {"value": value, "unit": unit, "source": source}
        for name, (value, unit, source) in thesis_figures_of(prediction).items()
    }


def write_thesis(folder: Path) -> list[Path]:
    """The thesis' estimator tables and figures computed anew, as CSV and SVG; what was written.

    Raises `UserError` where the folder cannot be written.
    """
    from codejoule.estimate.thesis import figure_checks, thesis_figures, thesis_tables

    rows: dict[str, Sequence[Any]] = {
        "tables.csv": thesis_tables(),
        "figures.csv": thesis_figures(),
        "figure_checks.csv": figure_checks(),
    }
    for name, records in rows.items():
        write_csv(folder / name, records)
    _draw(folder / "figures.svg")
    return [folder / name for name in (*rows, "figures.svg")]


def _counted(prediction: "Prediction") -> float:
    """Parameters by equation 3.19, or 3.22 with experts."""
    from codejoule.estimate.thesis import parameters

    a = prediction.workload.architecture
    shape = {
        "v": a.vocab_size, "c": a.context_tokens, "m": a.hidden_size, "d": a.head_dim,
        "h": a.heads, "l": a.layers, "k": 2 * a.layers + 1,
    }  # fmt: skip
    if a.moe is None:
        return parameters.dense_parameters(**shape, d_ff=a.intermediate_size)
    j = parameters.expert_width(a.moe.intermediate_size)
    experts = parameters.experts_parameters(
        parameters.expert_parameters(a.hidden_size, j),
        parameters.total_experts(a.moe.routed, a.moe.shared),
    )
    gate = parameters.gating_parameters(a.hidden_size, a.moe.routed)
    layer = parameters.moe_layer_parameters(experts, 0, gate)
    moe = parameters.moe_parameters(layer, a.moe_layers)
    return parameters.moe_model_parameters(**shape, moe=moe)


def _draw(path: Path) -> None:
    """Figures 4.1 to 4.5 on one sheet, every curve relative to its first value but the times."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from codejoule.estimate.thesis import thesis_figures

    titles = {
        "4.1": "4.1 time of one token [s]", "4.2": "4.2 time of ten tokens [s]",
        "4.3": "4.3 parameters", "4.4": "4.4 KV cache", "4.5": "4.5 memory",
    }  # fmt: skip
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for point in thesis_figures():
        curves.setdefault(point.figure, {}).setdefault(point.series, []).append((point.x, point.y))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "codejoule"}):
        sheet = Figure(figsize=(15, 8), layout="constrained")
        for axes, (figure, series) in zip(sheet.subplots(2, 3).flat, curves.items(), strict=False):
            axes.set_title(titles[figure])
            for name, points in series.items():
                if len(points) == 1:
                    axes.bar(name, points[0][1])
                    continue
                if name.endswith("as printed"):
                    continue  # ten orders of magnitude above the others; in figures.csv
                first = points[0]
                axes.plot([x / first[0] for x, _ in points], [y / first[1] for _, y in points],
                          label=name)  # fmt: skip
                axes.set_xlabel("variable, relative to its least value")
                axes.set_ylabel("relative to its first value")
            if axes.lines:
                axes.legend(frameon=False, fontsize="small")
        sheet.axes[-1].set_axis_off()
        content = BytesIO()
        sheet.savefig(content, format="svg", metadata={"Date": None})
        write_whole(path, content.getvalue())
