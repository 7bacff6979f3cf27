"""What the thesis measured (tables 5.18, 5.24, 5.29, 5.34 and 5.40), and what follows from it."""

import csv
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from codejoule.statistics import pareto_front

CITATION = (
    'M. Buis, "Walking the tightrope: balancing energy efficiency and accuracy in LLM-driven code '
    'generation", MSc thesis, Utrecht University, 2024'
)
TASKS = 1140
"""Tasks of a run: all of BigCodeBench."""
GPU = "NVIDIA L40S"
"""The card that all runs had."""

_MODELS = {
    "Qwen-Coder2.5-7B-Instruct": "qwen_coder_7b",
    "Meta Llama3.1-8B-Instruct": "llama_8b",
    "DeepSeekCoder-V2-Lite-16B": "deepseek_coder_16b",
}
_QUANTS = {"": "none", "AWQ": "awq", "GPTQ-Int8": "gptq8", "GPTQ-Int4": "gptq4"}
_QWEN = re.compile(r"Qwen2\.5-([0-9.]+)B(-Instruct)?(?:-(AWQ|GPTQ-Int8|GPTQ-Int4))?")

_HALF = 0.005
"""Half a unit of the last digit that the tables print of kWh and pass@1."""
SIZES = ("0_5b", "1_5b", "3b", "7b", "14b")
"""Sizes of Qwen2.5, as ``conf/model`` names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedResult:
    """One row of a table, as printed."""

    table: str
    """Number of the table."""
    printed_model: str
    """The model's name there."""
    model: str
    """The same model in ``conf/model``."""
    quant: str
    """Its quantization in ``conf/quant``."""
    batch_size: int
    """Samples of ONE task decoded together; with one greedy sample it does nothing."""
    energy_kwh: float
    """Energy of a run [kWh]: the GPU's, by sections 3.1 and 3.2 without idle power and with
    evaluation."""
    latency_min: float
    """Time of the whole run [min]."""
    throughput_tokens_per_s: float
    """Output tokens per second."""
    pass_at_1: float
    """Share of the tasks solved."""
    pass_at_1_per_kwh: float | None
    """pass@1 over energy, as printed; None in table 5.18, which has no such column."""

    @property
    def configuration(self) -> tuple[str, str, int]:
        """Model, quantization and batch size."""
        return self.model, self.quant, self.batch_size


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


@lru_cache(maxsize=1)
def published_rows() -> tuple[PublishedResult, ...]:
    """Read all 49 rows in the order of the tables; 15 of them print a configuration again."""
    text = (files("codejoule.thesis") / "data" / "results.csv").read_text("utf-8")
    return tuple(map(_row, csv.DictReader(text.splitlines())))


def published_configurations() -> tuple[PublishedResult, ...]:
    """Each of the 34 configurations once, from the first table that prints it.

    5.18 (three models, three batch sizes), 5.24 (base models), 5.29 (Instruct), 5.34 (AWQ), 5.40
    (GPTQ). Tables 5.34 and 5.40 print the base model's time beside the Instruct models; 5.29 has
    their own.
    """
    first: dict[tuple[str, str, int], PublishedResult] = {}
    for row in published_rows():
        first.setdefault(row.configuration, row)
    return tuple(first.values())


def qwen_configurations() -> tuple[PublishedResult, ...]:
    """The 25 of Qwen2.5, which figure 4.12 compares: without the batch-size experiment."""
    return tuple(row for row in published_configurations() if row.table != "5.18")


def ratios() -> tuple[Ratio, ...]:
    """Recompute pass@kWh and the front of the 25 configurations of Qwen2.5, in their order."""
    rows = qwen_configurations()
    front = pareto_front([r.energy_kwh for r in rows], [r.pass_at_1 for r in rows])
    found = []
    for row, on in zip(rows, front, strict=True):
        assert row.pass_at_1_per_kwh is not None
        value = row.pass_at_1 / row.energy_kwh
        found.append(
            Ratio(
                model=row.printed_model,
                table=row.table,
                energy_kwh=row.energy_kwh,
                pass_at_1=row.pass_at_1,
                printed=row.pass_at_1_per_kwh,
                recomputed=value,
                low=max(0.0, row.pass_at_1 - _HALF) / (row.energy_kwh + _HALF),
                high=(row.pass_at_1 + _HALF) / (row.energy_kwh - _HALF),
                agrees=abs(value - row.pass_at_1_per_kwh) <= _HALF + 1e-9,
                on_front=bool(on),
            )
        )
    return tuple(found)


def reductions() -> tuple[Reduction, ...]:
    """Recompute what fine-tuning and the quantizations save: four techniques, five sizes."""
    rows = {(r.model, r.quant): r for r in qwen_configurations()}
    techniques = {
        "fine-tuning": ("qwen_{}_base", "none"),
        "AWQ": ("qwen_{}", "awq"),
        "GPTQ-Int8": ("qwen_{}", "gptq8"),
        "GPTQ-Int4": ("qwen_{}", "gptq4"),
    }
    found = []
    for technique, (before, quant) in techniques.items():
        for size in SIZES:
            plain, treated = rows[before.format(size), "none"], rows[f"qwen_{size}", quant]
            a, b = plain.energy_kwh, treated.energy_kwh
            found.append(
                Reduction(
                    technique=technique,
                    size=size.replace("_", ".").upper(),
                    before_kwh=a,
                    after_kwh=b,
                    percent=100 * (1 - b / a),
                    low=100 * (1 - (b + _HALF) / (a - _HALF)),
                    high=100 * (1 - (b - _HALF) / (a + _HALF)),
                    pass_at_1_change=round(treated.pass_at_1 - plain.pass_at_1, 2),
                )
            )
    return tuple(found)


def _row(cells: dict[str, str]) -> PublishedResult:
    printed = cells["model"]
    model, quant = _MODELS.get(printed), "none"
    if model is None:
        match = _QWEN.fullmatch(printed)
        assert match is not None, printed
        size, instruct, method = match.groups()
        model = f"qwen_{size.replace('.', '_')}b{'' if instruct else '_base'}"
        quant = _QUANTS[method or ""]
    ratio = cells["pass_at_1_per_kwh"]
    return PublishedResult(
        table=cells["table"],
        printed_model=printed,
        model=model,
        quant=quant,
        batch_size=int(cells["batch_size"]),
        energy_kwh=float(cells["energy_kwh"]),
        latency_min=float(cells["latency_min"]),
        throughput_tokens_per_s=float(cells["throughput_tokens_per_s"]),
        pass_at_1=float(cells["pass_at_1"]),
        pass_at_1_per_kwh=float(ratio) if ratio else None,
    )
