"""Where quantization pays: energy against the unquantized model over the batch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codejoule.analysis.baseline import baselines
from codejoule.analysis.evidence import Evidence
from codejoule.analysis.families import heading, setting_text
from codejoule.analysis.table import Table
from codejoule.domain.text import number
from codejoule.statistics import Crossing, compare_runs, find_crossing

_SERIES = ("model", "quant", "engine", "kernel", "card", "settings")
_FIGURES = ("batch", "ratio", "ci_low", "ci_high", "verdict")
_ENDS = (
    "batches", "crosses_at_batch", "crosses_at_batch_ci_low", "crosses_at_batch_ci_high",
    "conclusion",
)  # fmt: skip
_KERNELS = "tags.codejoule.kernels"
_PER_TOKEN = "energy_per_output_token_j"


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioCurve:
    """Energy of a quantized model over that of the unquantized one, by batch."""

    names: Mapping[str, str]
    """``model``, ``quant``, ``engine``, ``kernel``, ``card`` and other ``settings``."""
    batches: tuple[int, ...]
    """Batches, two or more, ascending."""
    ratios: tuple[float, ...]
    """Ratio at each."""
    lows: tuple[float, ...]
    """Lower end of its interval; NaN where it is not known."""
    highs: tuple[float, ...]
    """Upper end."""

    @property
    def crossing(self) -> Crossing:
        """Where it crosses 1."""
        return find_crossing(self.batches, self.ratios, self.lows, self.highs)

    @property
    def label(self) -> str:
        """What tells it from others, in one line."""
        names = (self.names[name] for name in ("model", "quant", "engine", "settings"))
        return " ".join(name for name in names if name)

    @property
    def conclusion(self) -> str:
        """At which batches quantization pays, in words."""
        return _conclusion(self)


def ratio_curves(evidence: Evidence) -> tuple[RatioCurve, ...]:
    """A curve for each quantized model that was compared with the unquantized one at two or more
    batches, all other settings equal; none in a store of one batch.

    The ratio is that of the energy of runs on the same tasks, its interval that of the variance
    between runs. Where figures are published, it is that of energy per output token, without an
    interval.
    """
    table, settings = evidence.table, evidence.settings
    further = [name for name in settings if name not in ("model", "engine", "batch")]
    further = [name for name in further if name.partition(".")[0] != "quant"]
    further = [name for name in further if table[name].nunique(dropna=False) > 1]
    rows = table.to_dict("records")
    points: dict[tuple[str, ...], list[tuple[int, float, float, float]]] = {}
    for i, base in baselines(evidence).items():
        if base is None or rows[i]["batch"] is None:
            continue
        names = {
            "model": str(rows[i]["model"]),
            "quant": _quantization(rows[i], settings),
            "engine": str(rows[i]["engine"] or "unknown"),
            "kernel": _kernel(evidence, i),
            "card": _card(evidence),
            "settings": " ".join(setting_text(n, rows[i][n], further) for n in further),
        }
        ratio, low, high = _ratio(evidence, i, base)
        if not math.isnan(ratio):
            key = tuple(names[name] for name in _SERIES)
            points.setdefault(key, []).append((int(rows[i]["batch"]), ratio, low, high))
    curves = []
    for key, own in points.items():
        if len({point[0] for point in own}) == len(own) > 1:
            batches, ratios, lows, highs = zip(*sorted(own), strict=True)
            names = dict(zip(_SERIES, key, strict=True))
            curves.append(
                RatioCurve(names=names, batches=batches, ratios=ratios, lows=lows, highs=highs)
            )
    return tuple(curves)


def quantization_tables(evidence: Evidence) -> tuple[Table, ...]:
    """The crossing of each curve, and the curves; nothing where there are none."""
    curves = ratio_curves(evidence)
    if not curves:
        return ()
    printed = "published" in set(evidence.table["energy_source"])
    what = (
        "Ratio of published energy per output token, without an interval: nothing is shown by it."
        if printed
        else "Ratio of the energy of generation on the same tasks, with its 95 % interval between "
        "runs."
    )
    crossings = [
        {**curve.names, **_ends(curve), "conclusion": curve.conclusion} for curve in curves
    ]
    points = [
        {**curve.names, **dict(zip(_FIGURES, point, strict=True))}
        for curve in curves
        for point in _points(curve)
    ]
    return (
        Table.of(
            crossings,
            (*_SERIES, *_ENDS),
            name="quantization_pays",
            title="Where quantization pays: the batch at which its energy crosses the unquantized "
            "model's",
            notes=(
                what,
                "Between measured batches the logarithm of the ratio is taken to be linear in that "
                "of the batch. The crossing's interval holds the batches at which the ratio's "
                "contains 1.",
            ),
            labels={
                "crosses_at_batch": "crosses 1 at batch",
                "crosses_at_batch_ci_low": "ci low",
                "crosses_at_batch_ci_high": "ci high",
            },
        ),
        Table.of(
            points,
            (*_SERIES, *_FIGURES),
            name="quantization_by_batch",
            title="Energy over that of the unquantized model, by batch",
            notes=(what,),
        ),
    )


def _ends(curve: RatioCurve) -> dict[str, Any]:
    found = curve.crossing
    return {
        "batches": ", ".join(map(str, curve.batches)),
        "crosses_at_batch": found.at,
        "crosses_at_batch_ci_low": found.low,
        "crosses_at_batch_ci_high": found.high,
    }


def _points(curve: RatioCurve) -> list[tuple[int, float, float, float, str]]:
    points = zip(curve.batches, curve.ratios, curve.lows, curve.highs, strict=True)
    return [(*point, _verdict(point[2], point[3])) for point in points]


def _verdict(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return "unknown"
    return "pays" if high < 1 else "costs" if low > 1 else "not resolved"


def _ratio(evidence: Evidence, i: int, base: int) -> tuple[float, float, float]:
    """Ratio of energies with its interval; of energy per token where runs are not compared."""
    runs_j, variance = [evidence.run_energy_j[place] for place in (i, base)], None
    if evidence.same_tasks and all(own.size and (own > 0).all() for own in runs_j):
        variance = evidence.variance(i, base)
    if variance is not None:
        counter_rel = max(evidence.counter_rel[i], evidence.counter_rel[base])
        found = compare_runs(*runs_j, variance=variance, counter_rel=counter_rel)
        return found.ratio, found.low, found.high
    per_token = evidence.table[_PER_TOKEN].to_numpy(dtype=float)[[i, base]]
    if np.isnan(per_token).any() or not per_token[1]:
        return math.nan, math.nan, math.nan
    return float(per_token[0] / per_token[1]), math.nan, math.nan


def _quantization(row: Mapping[Any, Any], settings: Sequence[str]) -> str:
    """The choice, and what of it was changed."""
    own = [name for name in settings if name.startswith("quant.") and row[name] is not None]
    return " ".join([str(row["quant"]), *(f"{heading(n, own)}={row[n]}" for n in own)])


def _kernel(evidence: Evidence, i: int) -> str:
    runs = evidence.runs
    if _KERNELS not in runs:
        return ""
    own = runs.loc[runs["run_id"].isin(evidence.table["run_ids"].iloc[i]), _KERNELS]
    return ", ".join(dict.fromkeys(str(text) for text in own.dropna()))


def _card(evidence: Evidence) -> str:
    cards = evidence.runs["tags.codejoule.gpu"].dropna()
    return ", ".join(dict.fromkeys(map(str, cards))) or "cpu"


def _conclusion(curve: RatioCurve) -> str:
    found, all_known = curve.crossing, not any(map(math.isnan, curve.lows))
    span = f"{curve.batches[0]} to {curve.batches[-1]}"
    if not all_known and not (found.below or found.above):
        lower = [b for b, ratio in zip(curve.batches, curve.ratios, strict=True) if ratio < 1]
        said = f"takes less at {_listed(lower)}" if lower else "takes less at no batch"
        return f"not known, for want of intervals: by its figures it {said} of {span}"
    if not found.below and not found.above:
        return f"not known: no difference is resolved at batches {span}"
    rest = f"; not resolved at {_listed(found.unresolved)}" if found.unresolved else ""
    if not found.above:
        where = f"every batch measured, {span}" if not rest else _listed(found.below)
        return f"pays at {where}{rest}"
    if not found.below:
        return (
            f"never at the batches measured, {span}"
            if not rest
            else f"costs energy at {_listed(found.above)}{rest}"
        )
    if found.changes > 1:
        return f"pays at {_listed(found.below)}, costs at {_listed(found.above)}{rest}"
    ends = f" [{number(found.low)}, {number(found.high)}]"
    if max(found.below) < min(found.above):
        words = f"pays up to batch {max(found.below)}, costs from {min(found.above)} on"
    else:
        words = f"costs up to batch {max(found.above)}, pays from {min(found.below)} on"
    return f"{words}: crosses at about {number(found.at)}{ends}{rest}"


def _listed(batches: Sequence[int]) -> str:
    return f"batch {', '.join(map(str, batches))}"
