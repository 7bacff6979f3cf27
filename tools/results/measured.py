"""Configurations of the grid, and how their energies compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from codejoule.analysis import RatioCurve
from codejoule.statistics import (
    RunRatio,
    RunVariance,
    compare_runs,
    moderated_variance,
    pooled_run_variance,
    reference_variance,
)
from codejoule.thesis.results import SIZES

QUANTS = ("gptq8", "gptq4", "awq", "fp8")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How was decoded."""

    engine: str
    batch: int

    @property
    def words(self) -> str:
        """In a sentence."""
        return f"`{self.engine}` at batch {self.batch}"


HOST = Setting(engine="generate", batch=1)
"""As the thesis decoded."""
SERVED = tuple(Setting(engine="vllm", batch=batch) for batch in (1, 8, 32, 128))
SETTINGS = (HOST, *SERVED)


def instruct(size: str) -> str:
    """The model of ``0_5b``, as `SIZES` names sizes."""
    return f"qwen_{size}"


def spoken(size: str) -> str:
    """``0.5B``."""
    return size.removeprefix("qwen_").removesuffix("_base").replace("_", ".").upper()


@dataclass(frozen=True)
class Grid:
    """The finished runs of one part of the grid."""

    rows: pd.DataFrame

    @classmethod
    def of(cls, cells: pd.DataFrame, part: str = "grid") -> "Grid":
        """Those of a part."""
        return cls(cells[(cells["part"] == part) & (cells["status"] == "finished")])

    @cached_property
    def _by_configuration(self) -> dict[tuple[object, ...], pd.DataFrame]:
        return dict(iter(self.rows.groupby(["model", "quant", "engine", "batch"])))

    def runs(self, model: str, quant: str, setting: Setting) -> pd.DataFrame:
        """Of one configuration."""
        key = (model, quant, setting.engine, setting.batch)
        return self._by_configuration.get(key, self.rows.iloc[:0])

    def per_token_j(
        self, model: str, quant: str, setting: Setting, energy: str = "energy_generation_j"
    ) -> NDArray[np.float64]:
        """Of each repeat; what was not measured is left out."""
        runs = self.runs(model, quant, setting)
        return (runs[energy] / runs["output_tokens"]).dropna().to_numpy(dtype=float)

    def ratio(
        self,
        one: tuple[str, str, Setting],
        other: tuple[str, str, Setting],
        energy: str = "energy_generation_j",
    ) -> RunRatio | None:
        """Energy of a token of one configuration (model, quantization, setting) over another's;
        None where either was not measured, or is not above 0 net."""
        a, b = (self.per_token_j(*each, energy=energy) for each in (one, other))
        if not a.size or not b.size or (a <= 0).any() or (b <= 0).any():
            return None
        engines = (one[2].engine, other[2].engine)
        variance = max((self.variances[e, energy] for e in engines), key=lambda v: v.sd_log)
        return compare_runs(a, b, variance=variance)

    @cached_property
    def variances(self) -> dict[tuple[str, str], RunVariance]:
        """Between runs, by engine and energy."""
        return {
            (engine, energy): self._variance(engine, energy)
            for engine in self.rows["engine"].unique()
            for energy in ("energy_generation_j", "energy_gpu_net_j")
        }

    def _variance(self, engine: str, energy: str) -> RunVariance:
        """Of the repeats here, moderated by what was measured before."""
        rows = self.rows[self.rows["engine"] == engine]
        rows = rows.assign(own=rows[energy] / rows["output_tokens"]).dropna(subset=["own"])
        rows = rows[rows["own"] > 0]
        groups = [g["own"].to_numpy(float) for _, g in rows.groupby(["model", "quant", "batch"])]
        found = pooled_run_variance(groups)
        sources = self.rows["energy_source"].unique()
        reference = reference_variance(engine, str(sources[0]) if len(sources) else "nvml")
        return reference if found is None else moderated_variance(found, reference)

    def saved(
        self, model: str, quant: str, setting: Setting, energy: str = "energy_generation_j"
    ) -> RunRatio | None:
        """A quantization against none."""
        return self.ratio((model, quant, setting), (model, "none", setting), energy)

    @cached_property
    def curves(self) -> tuple[RatioCurve, ...]:
        """Energy over that of the unquantized model, over the batch."""
        found = []
        for size in SIZES:
            for quant in QUANTS:
                for engine in ("vllm", "generate"):
                    found += self._curve(instruct(size), quant, engine)
        return tuple(found)

    def _curve(self, model: str, quant: str, engine: str) -> list[RatioCurve]:
        settings = [setting for setting in SETTINGS if setting.engine == engine]
        points = [(s.batch, self.saved(model, quant, s)) for s in settings]
        known = [(batch, ratio) for batch, ratio in points if ratio is not None]
        if not known:
            return []
        names = {"model": model, "quant": quant, "engine": engine, "settings": ""}
        return [
            RatioCurve(
                names=names,
                batches=tuple(batch for batch, _ in known),
                ratios=tuple(ratio.ratio for _, ratio in known),
                lows=tuple(ratio.low for _, ratio in known),
                highs=tuple(ratio.high for _, ratio in known),
            )
        ]

    def sizes(self, setting: Setting, quant: str = "none") -> Sequence[str]:
        """Instruct models that were measured, from small to large."""
        return [s for s in SIZES if self.per_token_j(instruct(s), quant, setting).size]

    def kernels(self, quant: str, engine: str) -> str:
        """What multiplied by quantized weights, as found in the loaded models."""
        rows = self.rows[(self.rows["quant"] == quant) & (self.rows["engine"] == engine)]
        names = {
            name.strip().rpartition("/")[2]
            for cell in rows["kernels"].dropna()
            for name in str(cell).split(",")
        }
        return " and ".join(f"`{name}`" for name in sorted(names - {"Linear"}))
