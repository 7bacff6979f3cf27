"""What the thesis says, held against its own tables."""

import csv
from dataclasses import dataclass
from importlib.resources import files

from codejoule.thesis.results import (
    SIZES,
    TASKS,
    PublishedResult,
    Reduction,
    published_configurations,
    published_rows,
    reductions,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something the thesis says, beside what its tables say."""

    place: str
    """Where: abstract, section or table."""
    claim: str
    """What, in our words."""
    stated: str
    """The figure it gives."""
    tables: str
    """What the tables give."""
    agrees: bool
    """Whether both are the same within the rounding of the printed figures."""


def claims() -> tuple[Claim, ...]:
    """Hold what the thesis says against its own tables.

    What ``data/claims.csv`` lists of its text, then cells that two tables print differently.
    """
    text = (files("codejoule.thesis") / "data" / "claims.csv").read_text("utf-8")
    savings, figures, found = _savings(), _figures(), []
    for row in csv.DictReader(text.splitlines()):
        if row["claim"] in savings:
            row["tables"], agrees = _largest(savings[row["claim"]], row["stated"])
        elif row["claim"] in figures:
            row["tables"], agrees = figures[row["claim"]]
        else:
            agrees = False
        found.append(Claim(**row, agrees=agrees))
    return (*found, *_repeated_cells())


def disagreements() -> tuple[Claim, ...]:
    """The claims that the tables do not bear out, in the order of `claims`."""
    return tuple(claim for claim in claims() if not claim.agrees)


def _savings() -> dict[str, list[Reduction]]:
    """The reductions that each claim of a percentage is about."""
    found: dict[str, list[Reduction]] = {}
    for own in reductions():
        found.setdefault(f"{own.technique} saves up to", []).append(own)
        found[f"{own.technique} saves on {own.size}"] = [own]
    return found


def _largest(own: list[Reduction], stated: str) -> tuple[str, bool]:
    """The largest of some reductions, and whether it is the stated percentage."""
    percent = stated.removesuffix(" %")
    half, value = 0.5 * 10.0 ** -len(percent.partition(".")[2]), float(percent)
    best = max(own, key=lambda r: r.percent)
    low, high = max(r.low for r in own), max(r.high for r in own)
    tables = f"{best.percent:.2f} % ({best.size}; {low:.1f} to {high:.1f} by rounding)"
    return tables, value - half <= high and value + half >= low


def _figures() -> dict[str, tuple[str, bool]]:
    """What the tables give for each further claim, and whether that is what it states."""
    saved = {(r.technique, r.size): r.percent for r in reductions()}
    awq_saves = {size: p for (technique, size), p in saved.items() if technique == "AWQ"}
    tuning_saves = {size: p for (technique, size), p in saved.items() if technique == "fine-tuning"}
    int8_changes = [r for r in reductions() if r.technique == "GPTQ-Int8"]
    bases = [_find(f"qwen_{size}_base") for size in SIZES]
    tuned = [_find(f"qwen_{size}") for size in SIZES]
    small, three, seven, large = (_find(f"qwen_{size}") for size in ("0_5b", "3b", "7b", "14b"))
    small_awq, large_awq = _find("qwen_0_5b", "awq"), _find("qwen_14b", "awq")
    llama, deepseek = _find("llama_8b"), _find("deepseek_coder_16b")
    more = 100 * (llama.energy_kwh / deepseek.energy_kwh - 1)
    deepseeks = [_find("deepseek_coder_16b", batch=b).energy_kwh for b in (1, 4, 8)]
    rates = [row.pass_at_1 for row in bases]
    per_kwh = [row.pass_at_1 / row.energy_kwh for row in bases]
    lower = [(b, t) for b, t in zip(bases, tuned, strict=True) if t.pass_at_1 < b.pass_at_1]
    int8_min = _find("qwen_7b", "gptq8").latency_min
    tokens = 60 * seven.latency_min * seven.throughput_tokens_per_s
    return {
        "larger models save relatively more": (
            "AWQ: " + ", ".join(f"{size} {p:.0f} %" for size, p in awq_saves.items()),
            list(awq_saves.values()) == sorted(awq_saves.values()),
        ),
        "fine-tuning tends to save energy": (
            "saved: " + ", ".join(f"{size} {p:.0f} %" for size, p in tuning_saves.items()),
            sum(p > 0 for p in tuning_saves.values()) > len(tuning_saves) / 2,
        ),
        "Llama takes more energy than DeepSeek": (
            f"{more:.2f} % from table 5.18; 134.22 % from 0.9055 and 0.3866 kWh in the text",
            False,
        ),
        "0.3866 kWh is DeepSeek's mean over batch sizes, and its figure at batch 8": (
            "0.39 kWh at 1, 4 and 8: both can be",
            deepseeks == [0.39, 0.39, 0.39],
        ),
        "the unquantized Qwen2.5-14B takes (beside table 5.24)": (
            f"{bases[-1].energy_kwh:.2f} kWh; 1.35 is 14B-Instruct's, of table 5.29",
            bases[-1].energy_kwh == large.energy_kwh,
        ),
        "larger base models solve more": (
            ", ".join(f"{rate:.2f}" for rate in rates) + " from 0.5B to 14B",
            rates == sorted(rates),
        ),
        "small models do not lose pass@1 by fine-tuning": (
            "; ".join(
                f"{b.printed_model.removeprefix('Qwen2.5-')} {b.pass_at_1:.2f} to {t.pass_at_1:.2f}"
                for b, t in lower
            ),
            not lower,
        ),
        "larger models have higher pass@kWh": (
            ", ".join(f"{value:.2f}" for value in per_kwh) + " from 0.5B to 14B",
            per_kwh == sorted(per_kwh),
        ),
        "AWQ lowers the pass rate of 14B from 51 % to": (
            f"{100 * large_awq.pass_at_1:.0f} %",
            large_awq.pass_at_1 == 0.0027,
        ),
        "AWQ lowers latency": (
            f"0.5B: {small.latency_min:.2f} to {small_awq.latency_min:.2f} min",
            small_awq.latency_min < small.latency_min,
        ),
        "GPTQ-Int8 does not lower pass@1": (
            ", ".join(f"{r.size} {r.pass_at_1_change:+.2f}" for r in int8_changes),
            all(r.pass_at_1_change >= 0 for r in int8_changes),
        ),
        "GPTQ-Int8 lowers the latency of 7B-Instruct": (
            f"from {seven.latency_min:.2f} to {int8_min:.2f} min (5.29, 5.40), for the whole run",
            False,
        ),
        "AWQ raises the throughput of 3B-Instruct": (
            f"from {three.throughput_tokens_per_s:.2f} tokens/s (5.29)",
            three.throughput_tokens_per_s == 76.24,
        ),
        "latency of a run": (
            f"minutes: throughput x latency is then {tokens / TASKS:.0f} tokens per task",
            False,
        ),
    }


def _find(model: str, quant: str = "none", batch: int = 1) -> PublishedResult:
    return next(r for r in published_configurations() if r.configuration == (model, quant, batch))


def _repeated_cells() -> list[Claim]:
    """Cells that a later table prints differently."""
    first = {row.configuration: row for row in published_configurations()}
    figures = {
        "latency [min]": "latency_min",
        "throughput [tokens/s]": "throughput_tokens_per_s",
        "energy [kWh]": "energy_kwh",
        "pass@1": "pass_at_1",
    }
    return [
        Claim(
            place=f"Table {row.table}",
            claim=f"{name} of {row.printed_model}",
            stated=f"{getattr(row, field):.2f}",
            tables=f"{getattr(one, field):.2f} in table {one.table}; the former is the base "
            "model's",
            agrees=False,
        )
        for row, one in ((row, first[row.configuration]) for row in published_rows())
        for name, field in figures.items()
        if getattr(row, field) != getattr(one, field)
    ]
