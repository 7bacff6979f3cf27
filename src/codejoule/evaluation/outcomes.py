"""Verdicts without their details, in a few bytes each."""

import math
from collections.abc import Iterable

import numpy as np

from codejoule.common.lazily import Lazily
from codejoule.domain import Status, Verdict

_KINDS: tuple[Status | None, ...] = (None, *Status)
_FIELDS = np.dtype(
    [
        ("task", np.uint32), ("sample", np.uint32), ("reason", np.uint32), ("status", np.uint8),
        ("base", np.uint8), ("wall_s", np.float64), ("cpu_s", np.float64), ("peak", np.float64),
    ]
)  # fmt: skip
_CHUNK = 4096


class Outcomes(Lazily[Verdict]):
    """What counts of verdicts: all but ``details`` and ``tests``, which are empty. 38 bytes each,
    where a verdict by itself takes some 800."""

    def __init__(self, verdicts: Iterable[Verdict]) -> None:
        self._texts: dict[str, int] = {}
        chunks, rows = [], []
        for verdict in verdicts:
            rows.append(self._row(verdict))
            if len(rows) == _CHUNK:
                chunks.append(np.array(rows, dtype=_FIELDS))
                rows = []
        self._rows = np.concatenate([*chunks, np.array(rows, dtype=_FIELDS)])
        self._names = list(self._texts)
        super().__init__(len(self._rows), self._verdict)

    def _row(self, verdict: Verdict) -> tuple[float, ...]:
        peak = verdict.memory_peak_bytes
        return (
            self._number(verdict.task_id), verdict.sample, self._number(verdict.reason),
            _KINDS.index(verdict.status), _KINDS.index(verdict.base), verdict.evaluation_s,
            verdict.evaluation_cpu_s, math.nan if peak is None else peak,
        )  # fmt: skip

    def _number(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _verdict(self, place: int) -> Verdict:
        task, sample, reason, status, base, wall_s, cpu_s, peak = self._rows[place].tolist()
        known = _KINDS[status]
        assert known is not None
        return Verdict(
            task_id=self._names[task],
            sample=sample,
            status=known,
            reason=self._names[reason],
            evaluation_s=wall_s,
            evaluation_cpu_s=cpu_s,
            memory_peak_bytes=None if math.isnan(peak) else int(peak),
            base=_KINDS[base],
        )
