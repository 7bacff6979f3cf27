"""pass@kWh, front and reductions of the thesis' configurations, from its printed figures."""

from dataclasses import dataclass

from codejoule.statistics import pareto_front
from codejoule.thesis.results import PublishedResult, qwen_configurations

_HALF = 0.005
"""Half a unit of the last digit that the tables print of kWh and pass@1."""
SIZES = ("0_5b", "1_5b", "3b", "7b", "14b")
"""Sizes of Qwen2.5, as ``conf/model`` names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """pass@kWh of one configuration."""

    model: str
    """As printed."""
    table: str
    """Where its figures stand."""
    energy_kwh: float
    """As printed [kWh]."""
    pass_at_1: float
    """As printed."""
    printed: float
    """pass@kWh as printed."""
    recomputed: float
    """pass@1 over kWh, of the printed figures."""
    low: float
    """The least that figures which round to the printed ones allow."""
    high: float
    """The most."""
    agrees: bool
    """Whether the recomputed figure, rounded, is the printed one."""
    on_front: bool
    """Whether no other configuration takes at most its energy and solves at least as much, one
    of them strictly better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """Energy that a technique saves on one size of Qwen2.5."""

    technique: str
    """``fine-tuning``, ``AWQ``, ``GPTQ-Int8`` or ``GPTQ-Int4``."""
    size: str
    """Size of the model."""
    before_kwh: float
    """Energy without it [kWh]: the base model's for fine-tuning, else the Instruct model's."""
    after_kwh: float
    """Energy with it [kWh]."""
    percent: float
    """Reduction [%]."""
    low: float
    """The least that the rounding of the printed figures allows [%]."""
    high: float
    """The most [%]."""
    pass_at_1_change: float
    """pass@1 with it, less that without."""


def ratios() -> tuple[Ratio, ...]:
    """Recompute pass@kWh and the front of the 25 configurations of Qwen2.5.

    In the order of the tables.
    """
    rows = qwen_configurations()
    front = pareto_front([r.energy_kwh for r in rows], [r.pass_at_1 for r in rows])
    return tuple(_ratio(row, bool(on)) for row, on in zip(rows, front, strict=True))


def reductions() -> tuple[Reduction, ...]:
    """Recompute what fine-tuning and the quantizations save.

    20: four techniques, five sizes.
    """
    found = {(r.model, r.quant): r for r in qwen_configurations()}
    pairs = {
        "fine-tuning": ("qwen_{}_base", "none", "none"),
        "AWQ": ("qwen_{}", "none", "awq"),
        "GPTQ-Int8": ("qwen_{}", "none", "gptq8"),
        "GPTQ-Int4": ("qwen_{}", "none", "gptq4"),
    }
    return tuple(
        _reduction(technique, size, found[before.format(size), quant], found[f"qwen_{size}", after])
        for technique, (before, quant, after) in pairs.items()
        for size in SIZES
    )


def _ratio(row: PublishedResult, on_front: bool) -> Ratio:
    assert row.pass_at_1_per_kwh is not None
    value = row.pass_at_1 / row.energy_kwh
    return Ratio(
        model=row.printed_model,
        table=row.table,
        energy_kwh=row.energy_kwh,
        pass_at_1=row.pass_at_1,
        printed=row.pass_at_1_per_kwh,
        recomputed=value,
        low=max(0.0, row.pass_at_1 - _HALF) / (row.energy_kwh + _HALF),
        high=(row.pass_at_1 + _HALF) / (row.energy_kwh - _HALF),
        agrees=abs(value - row.pass_at_1_per_kwh) <= _HALF + 1e-9,
        on_front=on_front,
    )


def _reduction(
    technique: str, size: str, before: PublishedResult, after: PublishedResult
) -> Reduction:
    a, b = before.energy_kwh, after.energy_kwh
    return Reduction(
        technique=technique,
        size=size.replace("_", ".").upper(),
        before_kwh=a,
        after_kwh=b,
        percent=100 * (1 - b / a),
        low=100 * (1 - (b + _HALF) / (a - _HALF)),
        high=100 * (1 - (b - _HALF) / (a + _HALF)),
        pass_at_1_change=round(after.pass_at_1 - before.pass_at_1, 2),
    )
