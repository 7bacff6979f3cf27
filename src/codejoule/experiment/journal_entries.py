"""The typed form of what a run's journal holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codejoule.domain import (
    Completion,
    EnergyReading,
    EnergyScope,
    EnergySource,
    FinishReason,
    Pace,
    Verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEntry:
    """Sequences decoded together: what was generated and what it cost."""

    batch: int
    """Number of the planned batch, from 0."""
    first: int = 0
    """Where in the planned batch they begin: above 0 for a later part of one that memory was too
    small for."""
    completions: tuple[Completion, ...]
    """One per request, in order."""
    reading: EnergyReading
    """The window around its generation."""
    positions: int | None = None
    """Token positions that the model computed for them; None where the engine does not tell."""
    memory_peak_bytes: int | None
    """Largest memory so far in the process that ran it [bytes]; None where not known."""

    def to_json(self) -> dict[str, Any]:
        """As a journal payload."""
        return {
            "batch": self.batch,
            "first": self.first,
            "completions": [
                asdict(c) | {"finish_reason": c.finish_reason.value} for c in self.completions
            ],
            "reading": reading_to_json(self.reading),
            "positions": self.positions,
            "memory_peak_bytes": self.memory_peak_bytes,
        }

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> "BatchEntry":
        """From a journal payload."""
        return cls(
            batch=payload["batch"],
            first=payload.get("first", 0),
            completions=tuple(map(_completion_from_json, payload["completions"])),
            reading=reading_from_json(payload["reading"]),
            positions=payload.get("positions"),
            memory_peak_bytes=payload["memory_peak_bytes"],
        )


def _completion_from_json(row: Mapping[str, Any]) -> Completion:
    pace = row.get("pace")
    typed = {
        "finish_reason": FinishReason(row["finish_reason"]),
        "pace": None if pace is None else Pace(**pace),
    }
    return Completion(**{**row, **typed})


def reading_to_json(reading: EnergyReading) -> dict[str, Any]:
    """An energy reading as plain values; an energy of NaN (nothing measured) becomes None."""
    plain = asdict(reading) | {"source": reading.source.value, "scope": reading.scope.value}
    plain["energy_j"] = _none_for_nan(reading.energy_j)
    plain["energy_by_device_j"] = {
        device: _none_for_nan(energy_j) for device, energy_j in reading.energy_by_device_j.items()
    }
    return plain


def reading_from_json(payload: Mapping[str, Any]) -> EnergyReading:
    """The inverse of `reading_to_json`."""
    typed = {
        "source": EnergySource(payload["source"]),
        "scope": EnergyScope(payload["scope"]),
        "energy_j": _nan_for_none(payload["energy_j"]),
        "energy_by_device_j": {
            device: _nan_for_none(energy_j)
            for device, energy_j in payload["energy_by_device_j"].items()
        },
        "concurrent": tuple(payload.get("concurrent", ())),
    }
    return EnergyReading(**{**payload, **typed})


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan_for_none(value: float | None) -> float:
    return math.nan if value is None else value


def verdict_to_json(verdict: Verdict, energy_j: float | None) -> dict[str, Any]:
    """A verdict and the energy of judging it (None: not measured) as plain values."""
    return verdict.to_json() | {"energy_j": energy_j}


def verdicts_from_json(
    entries: Sequence[Mapping[str, Any]],
) -> list[tuple[Verdict, float | None]]:
    """Verdicts with their evaluation energy [J], from journal entries of kind ``verdicts``."""
    pairs = []
    for entry in entries:
        for row in entry["verdicts"]:
            verdict = Verdict.from_json({k: v for k, v in row.items() if k != "energy_j"})
            pairs.append((verdict, row["energy_j"]))
    return pairs
