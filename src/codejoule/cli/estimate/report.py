"""A forecast as an aligned table, or as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from codejoule.cli.estimate.forecast import Forecast
from codejoule.config.schema import Weights
from codejoule.domain import SCHEMA_VERSION

_USUAL_GROUP = 128

_Row = tuple[str, str, str]


def as_text(forecast: Forecast, remedies: Sequence[str], notes: Sequence[str] = ()) -> str:
    """The table; figures are exact where nothing else is said."""
    work = forecast.workload
    title = (
        f"{work.experiment.model.name}, quant={work.experiment.quant.name}, {work.dtype}, on "
        f"{forecast.card.name}: batch of {work.batch}, prompts of {work.prompt_tokens:,} and "
        f"completions of {work.new_tokens:,} tokens"
    )
    sections = [
        ("parameters", _parameters(forecast)),
        ("memory of one card", _memory(forecast)),
        ("decoding: a bound, no engine reaches it", _decoding(forecast)),
        ("one batch to its limit of new tokens: an estimate", _generation(forecast)),
    ]
    rows = [row for _, section in sections for row in section]
    labels, figures = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [title]
    for heading, section in sections:
        lines += ["", heading]
        for label, figure, note in section:
            lines.append(f"  {label:<{labels}}  {figure:>{figures}}  {note}".rstrip())
    lines += ["", _verdict(forecast, remedies), *_notes(forecast), *notes]
    return "\n".join(lines)


def as_json(forecast: Forecast, remedies: Sequence[str], notes: Sequence[str] = ()) -> str:
    """The same figures by name, units in the names."""
    work = forecast.workload
    report = {
        "schema_version": SCHEMA_VERSION,
        "model": work.experiment.model.name,
        "quant": work.experiment.quant.name,
        "quantization": asdict(work.quantization),
        "dtype": work.dtype,
        "batch": work.batch,
        "prompt_tokens": work.prompt_tokens,
        "new_tokens": work.new_tokens,
        "gpu": asdict(forecast.card),
        "parameters": _facts(forecast.parameters, "total"),
        "weights": _facts(forecast.weights, "total_bytes"),
        "kv_cache_bytes_per_token": forecast.cache_bytes,
        "memory": _facts(forecast.memory, "total_bytes"),
        "fits": forecast.fits,
        "largest_batch": forecast.largest_batch,
        "would_fit_with": list(remedies),
        "decode_bound": _facts(forecast.decode, "tpot_s", "tokens_per_s", "limit"),
        "generation": None,
        "calibration": forecast.calibration,
        "notes": [*_notes(forecast), *notes],
    }
    if (found := forecast.generation) is not None:
        tokens = found.batch * found.new_tokens
        report["generation"] = {
            **_facts(found, "latency_s", "tokens_per_s", "energy_j", "mean_power_w"),
            "energy_per_token_j": found.energy_j and found.energy_j / tokens,
            "idle_power_assumed": forecast.card.idle_power_w is None,
        }
    return json.dumps(report, indent=2)


def _facts(found: Any, *derived: str) -> Any:
    """Its fields and these properties; None of None."""
    return found and {**asdict(found), **{name: getattr(found, name) for name in derived}}


def _parameters(forecast: Forecast) -> list[_Row]:
    count = forecast.parameters
    rows = [("total", f"{count.total:,}", "")]
    for part, number in asdict(count).items():
        if number and part != "active":
            label = "MLP" if part == "mlp" else part.replace("_", " ")
            rows.append((f"  {label}", f"{number:,}", ""))
    tied = "" if count.head else "; the head is the embedding matrix"
    rows.append(("active per token", f"{count.active:,}", f"all but the lookup{tied}"))
    if count.routed_experts:
        moe = forecast.workload.architecture.moe
        assert moe is not None
        rows[-1] = (*rows[-1][:2], f"{moe.active} of {moe.routed} experts; without the lookup")
    return rows


def _memory(forecast: Forecast) -> list[_Row]:
    work, memory, weights = forecast.workload, forecast.memory, forecast.weights
    quantized = ""
    if weights.quantized_bytes:
        quantized = (
            f"{_gb(weights.quantized_bytes)} quantized, {_gb(weights.overhead_bytes)} scales and "
            f"indices, {_gb(weights.unquantized_bytes)} in {work.dtype}"
        )
    per_token, window = forecast.cache_bytes, work.architecture.window
    cache = f"{per_token:,} bytes per token x {work.cached_tokens:,} tokens x {work.batch}"
    if window is not None:
        cache += f"; {window.layers} layers keep {window.cached_tokens} tokens at most"
    return [
        ("weights", _gb(memory.weights_bytes), quantized),
        (
            "KV cache",
            _gb(memory.kv_cache_bytes),
            cache,
        ),
        ("activations", _gb(memory.activations_bytes), "estimate"),
        ("CUDA context", _gb(memory.context_bytes), "estimate"),
        ("needed", _gb(memory.total_bytes), ""),
        (f"{forecast.card.name} has", _gb(forecast.card.memory_bytes), ""),
    ]


def _decoding(forecast: Forecast) -> list[_Row]:
    bound = forecast.decode
    if bound is None:
        return [("none", "-", "one new token comes out of prefill")]
    card = forecast.card
    experts = ""
    if bound.experts_read is not None:
        moe = forecast.workload.architecture.moe
        assert moe is not None
        experts = f"{bound.experts_read:.1f} of {moe.routed} experts expected (even routing)"
    return [
        ("weights read per step", _gb(bound.weights_read_bytes), experts),
        ("cache read per step", _gb(bound.kv_cache_read_bytes), "at the mean length"),
        (
            "time by bandwidth",
            _time(bound.memory_s),
            f"at {card.bandwidth_bytes_per_s / 1e9:,.0f} GB/s",
        ),
        ("time by computation", _time(bound.compute_s), _peak(forecast)),
        ("TPOT, at least", _time(bound.tpot_s), f"limited by {bound.limit}"),
        ("tokens/s, at most", f"{bound.tokens_per_s:,.0f}", "of the whole batch"),
    ]


def _generation(forecast: Forecast) -> list[_Row]:
    found = forecast.generation
    if found is None:
        return [("none", "-", forecast.calibration)]
    card, tokens = forecast.card, found.batch * found.new_tokens
    rows = [
        ("TTFT", _time(found.ttft_s), "prefill of the whole batch"),
        ("TPOT", _time(found.tpot_s), "per step"),
        ("time", f"{found.latency_s:,.2f} s", f"for {tokens:,} tokens"),
        ("tokens/s", f"{found.tokens_per_s:,.1f}", ""),
    ]
    if found.energy_j is None or found.mean_power_w is None:
        rows.append(("energy", "-", "the card's power limit is not on file"))
    else:
        idle = "idle power assumed" if card.idle_power_w is None else "idle power measured"
        rows += [
            (
                "power",
                f"{found.mean_power_w:,.0f} W",
                f"mean; {idle}, limit {card.power_limit_w:,.0f} W",
            ),
            ("energy", _energy(found.energy_j), f"{found.energy_j / tokens:,.3g} J per token"),
            ("energy per task", _energy(found.energy_j / found.batch), ""),
            ("energy of 1,000 tasks", f"{found.energy_j / found.batch / 3600:,.3g} kWh", ""),
        ]
    rows.append(("calibration", "", forecast.calibration))
    return rows


def _energy(energy_j: float) -> str:
    return f"{energy_j:,.0f} J" if energy_j >= 100 else f"{energy_j:,.3g} J"


def _peak(forecast: Forecast) -> str:
    work = forecast.workload
    peak = forecast.card.peak_flop_per_s(work.quantization, dtype=work.dtype)
    return "the card's peak is not on file" if peak is None else f"at {peak / 1e12:,.0f} TFLOP/s"


def _verdict(forecast: Forecast, remedies: Sequence[str]) -> str:
    name, most = forecast.card.name, forecast.largest_batch
    if forecast.fits:
        return f"Fits on {name}; the largest batch that does is {most:,}."
    short = _gb(forecast.memory.total_bytes - forecast.card.memory_bytes)
    if not remedies:
        return f"Does not fit on {name} by {short}, nor with any one change that is on file."
    return f"Does not fit on {name} by {short}. Any one of these would: {'; '.join(remedies)}."


def _notes(forecast: Forecast) -> list[str]:
    work = forecast.workload
    notes = []
    packed, chosen = work.quantization.packed, work.quantization.facts.group_sizes is None
    if packed and chosen and work.quantization.group_size != _USUAL_GROUP:
        notes.append(f"Quantized in groups of {work.quantization.group_size} (-1: whole rows).")
    total = work.prompt_tokens + work.new_tokens
    if total > work.architecture.context_tokens:
        notes.append(
            f"{total:,} tokens are more than the {work.architecture.context_tokens:,} that the "
            "model was made for."
        )
    if work.experiment.model.weights is Weights.random:
        notes.append(
            "model.weights=random makes one token per byte, about four times as many of a prompt: "
            "set suite.prompt_tokens."
        )
    return notes


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.2f} GB" if size_bytes >= 1e7 else f"{size_bytes / 1e6:,.3f} MB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:,.3f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:,.3f} us"
