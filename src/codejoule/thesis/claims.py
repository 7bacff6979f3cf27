"""What the thesis says, held against its own tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from codejoule.thesis.ratios import SIZES, Reduction, reductions
from codejoule.thesis.results import (
    TASKS,
    PublishedResult,
    published_configurations,
    published_rows,
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

    Headline figures, figures and comparisons in the text, cells that two tables print differently.
    """
    return (*_headlines(), *_energies(), *_accuracies(), *_repeats(), *_statistics())


def disagreements() -> tuple[Claim, ...]:
    """The claims that the tables do not bear out.

    In the order of `claims`.
    """
    return tuple(claim for claim in claims() if not claim.agrees)


def _percent_claim(place: str, claim: str, stated: str, figures: Sequence[Reduction]) -> Claim:
    """A stated percentage against the largest of some reductions."""
    digits = len(stated.partition(".")[2])
    half, value = 0.5 * 10.0**-digits, float(stated)
    best = max(figures, key=lambda r: r.percent)
    low, high = max(r.low for r in figures), max(r.high for r in figures)
    return Claim(
        place=place,
        claim=claim,
        stated=f"{stated} %",
        tables=f"{best.percent:.2f} % ({best.size}; {low:.1f} to {high:.1f} by rounding)",
        agrees=value - half <= high and value + half >= low,
    )


def _headlines() -> list[Claim]:
    by_technique: dict[str, list[Reduction]] = {}
    for reduction in reductions():
        by_technique.setdefault(reduction.technique, []).append(reduction)
    stated = {
        "Abstract": ("19", "67", "40", "67"),
        "Conclusion": ("19.65", "51.11", "41.48", "63.41"),
    }
    found = [
        _percent_claim(place, f"{technique} saves up to", percent, by_technique[technique])
        for place, percents in stated.items()
        for technique, percent in zip(by_technique, percents, strict=True)
    ]
    sized = {(technique, r.size): [r] for technique, group in by_technique.items() for r in group}
    for place, technique, size, percent in (
        ("4.2.3.3", "AWQ", "14B", "51"),
        ("4.2.3.4", "GPTQ-Int8", "1.5B", "33.33"),
        ("4.2.3.4", "GPTQ-Int4", "1.5B", "48"),
        ("4.2.3.4", "GPTQ-Int8", "14B", "41"),
        ("4.2.3.4", "GPTQ-Int4", "14B", "66"),
    ):
        text = f"{technique} saves on {size}"
        found.append(_percent_claim(place, text, percent, sized[technique, size]))
    awq = {r.size: r.percent for r in by_technique["AWQ"]}
    found.append(
        Claim(
            place="Conclusion",
            claim="larger models save relatively more",
            stated="the larger, the more",
            tables="AWQ: " + ", ".join(f"{size} {p:.0f} %" for size, p in awq.items()),
            agrees=list(awq.values()) == sorted(awq.values()),
        )
    )
    tuned = {r.size: r.percent for r in by_technique["fine-tuning"]}
    found.append(
        Claim(
            place="Conclusion",
            claim="fine-tuning tends to save energy",
            stated="less",
            tables="saved: " + ", ".join(f"{size} {p:.0f} %" for size, p in tuned.items()),
            agrees=sum(p > 0 for p in tuned.values()) > len(tuned) / 2,
        )
    )
    return found


def _find(model: str, quant: str = "none", batch: int = 1) -> PublishedResult:
    return next(r for r in published_configurations() if r.configuration == (model, quant, batch))


def _energies() -> list[Claim]:
    llama, deepseek = _find("llama_8b"), _find("deepseek_coder_16b")
    more = 100 * (llama.energy_kwh / deepseek.energy_kwh - 1)
    base, instruct = _find("qwen_14b_base"), _find("qwen_14b")
    return [
        Claim(
            place="Abstract and conclusion, against 4.2.2",
            claim="Llama takes more energy than DeepSeek",
            stated="130.77 % in the one, 134.22 % in the other",
            tables=f"{more:.2f} % from table 5.18; 134.22 % from 0.9055 and 0.3866 kWh in the text",
            agrees=False,
        ),
        Claim(
            place="4.2.2",
            claim="0.3866 kWh is DeepSeek's mean over batch sizes, and its figure at batch 8",
            stated="0.3866 kWh twice",
            tables="0.39 kWh at 1, 4 and 8: both can be",
            agrees=all(_find("deepseek_coder_16b", batch=b).energy_kwh == 0.39 for b in (1, 4, 8)),
        ),
        Claim(
            place="4.3",
            claim="the unquantized Qwen2.5-14B takes (beside table 5.24)",
            stated="1.35 kWh",
            tables=f"{base.energy_kwh:.2f} kWh; 1.35 is 14B-Instruct's, of table 5.29",
            agrees=base.energy_kwh == instruct.energy_kwh,
        ),
        Claim(
            place="4.2.3.1",
            claim="a 72B model needs 144 GB and 110.43 s, by table 5.19",
            stated="72B",
            tables="table 5.19 ends at 14B (the figures follow from its equations)",
            agrees=False,
        ),
        Claim(
            place="4.4",
            claim="batch size made no significant difference",
            stated="none",
            tables="table 5.16: p < 0.001 for Qwen-Coder and Llama, 0.28 for DeepSeek",
            agrees=False,
        ),
    ]


def _accuracies() -> list[Claim]:
    bases = [_find(f"qwen_{size}_base") for size in SIZES]
    tuned = [_find(f"qwen_{size}") for size in SIZES]
    rates = [row.pass_at_1 for row in bases]
    per_kwh = [row.pass_at_1 / row.energy_kwh for row in bases]
    lower = [(b, t) for b, t in zip(bases, tuned, strict=True) if t.pass_at_1 < b.pass_at_1]
    awq, small = _find("qwen_14b", "awq"), _find("qwen_0_5b", "awq")
    return [
        Claim(
            place="4.2.3.1",
            claim="larger base models solve more",
            stated="pass@1 rises",
            tables=", ".join(f"{rate:.2f}" for rate in rates) + " from 0.5B to 14B",
            agrees=rates == sorted(rates),
        ),
        Claim(
            place="4.2.3.2",
            claim="small models do not lose pass@1 by fine-tuning",
            stated="no lower pass@1",
            tables="; ".join(
                f"{b.printed_model.removeprefix('Qwen2.5-')} {b.pass_at_1:.2f} to {t.pass_at_1:.2f}"
                for b, t in lower
            ),
            agrees=not lower,
        ),
        Claim(
            place="4.2.4",
            claim="larger models have higher pass@kWh",
            stated="pass@kWh rises",
            tables=", ".join(f"{value:.2f}" for value in per_kwh) + " from 0.5B to 14B",
            agrees=per_kwh == sorted(per_kwh),
        ),
        Claim(
            place="4.2.4",
            claim="the efficient frontier consists of models that minimise pass@kWh",
            stated="minimise",
            tables="pass@kWh is to be maximised; the frontier minimises energy at a pass@1",
            agrees=False,
        ),
        Claim(
            place="4.2.3.3",
            claim="AWQ lowers the pass rate of 14B from 51 % to",
            stated="0.27 %",
            tables=f"{100 * awq.pass_at_1:.0f} %",
            agrees=awq.pass_at_1 == 0.0027,
        ),
        Claim(
            place="4.2.3.3",
            claim="AWQ lowers latency",
            stated="lower",
            tables="0.5B: {:.2f} to {:.2f} min".format(
                _find("qwen_0_5b").latency_min, small.latency_min
            ),
            agrees=small.latency_min < _find("qwen_0_5b").latency_min,
        ),
        Claim(
            place="4.2.3.4",
            claim="GPTQ-Int8 does not lower pass@1",
            stated="equal or slightly higher",
            tables=", ".join(
                f"{r.size} {r.pass_at_1_change:+.2f}"
                for r in reductions() if r.technique == "GPTQ-Int8"
            ),
            agrees=all(
                r.pass_at_1_change >= 0 for r in reductions() if r.technique == "GPTQ-Int8"
            ),
        ),
    ]  # fmt: skip


def _repeats() -> list[Claim]:
    """Cells that a later table prints differently, and where the text takes them up."""
    first = {row.configuration: row for row in published_configurations()}
    figures: Mapping[str, Callable[[PublishedResult], float]] = {
        "latency [min]": lambda row: row.latency_min,
        "throughput [tokens/s]": lambda row: row.throughput_tokens_per_s,
        "energy [kWh]": lambda row: row.energy_kwh,
        "pass@1": lambda row: row.pass_at_1,
    }
    found = [
        Claim(
            place=f"Table {row.table}",
            claim=f"{name} of {row.printed_model}",
            stated=f"{figure(row):.2f}",
            tables=f"{figure(first[row.configuration]):.2f} in table "
            f"{first[row.configuration].table}; the former is the base model's",
            agrees=False,
        )
        for row in published_rows()
        for name, figure in figures.items()
        if figure(row) != figure(first[row.configuration])
    ]
    seven, three = _find("qwen_7b"), _find("qwen_3b")
    quantized = _find("qwen_7b", "gptq8")
    tokens = 60 * seven.latency_min * seven.throughput_tokens_per_s
    return [
        *found,
        Claim(
            place="4.2.3.4",
            claim="GPTQ-Int8 lowers the latency of 7B-Instruct",
            stated="from 191.68 ms to 109.55 ms",
            tables=f"from {seven.latency_min:.2f} to {quantized.latency_min:.2f} min "
            "(5.29, 5.40), for the whole run",
            agrees=False,
        ),
        Claim(
            place="4.2.3.3",
            claim="AWQ raises the throughput of 3B-Instruct",
            stated="from 76.24 tokens/s",
            tables=f"from {three.throughput_tokens_per_s:.2f} tokens/s (5.29)",
            agrees=three.throughput_tokens_per_s == 76.24,
        ),
        Claim(
            place="Tables 5.18, 5.24, 5.29, 5.34, 5.40",
            claim="latency of a run",
            stated='"(m)", and ms in the text',
            tables=f"minutes: throughput x latency is then {tokens / TASKS:.0f} tokens per task",
            agrees=False,
        ),
    ]


def _statistics() -> list[Claim]:
    """Statements on tests whose figures only tables 5.4 to 5.28 have."""
    return [
        Claim(
            place="4.2.1",
            claim="coefficient of the solution's tokens",
            stated="0.0006 to 0.0008",
            tables="0.0006 to 0.0009 (tables 5.5 to 5.13)",
            agrees=False,
        ),
        Claim(
            place="4.2.1",
            claim="coefficient of Cryptography",
            stated="around 0.025 to 0.03",
            tables="0.0255 to 0.0554 (tables 5.5 to 5.13)",
            agrees=False,
        ),
        Claim(
            place="4.2.1",
            claim="F statistics of the regressions",
            stated="6955 to 9500",
            tables="6955 to 9578 (tables 5.5 to 5.13)",
            agrees=False,
        ),
        Claim(
            place="4.2.2.1",
            claim="Levene's test of table 5.4 finds equal variances for each model",
            stated="p well above 0.05",
            tables="p < 0.001 for DeepSeek at every batch size",
            agrees=False,
        ),
        Claim(
            place="4.2.3.2",
            claim="fine-tuning changes the energy of every size, by table 5.28",
            stated="p < 0.001",
            tables="0.01 for 3B",
            agrees=False,
        ),
    ]
