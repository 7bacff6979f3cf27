"""Idle power within a sweep: measured once for its cards, as long as it stays."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.domain import IdleSource
from codejoule.experiment.idle import measure_idle


@dataclass
class StandIn:
    """A meter whose first second reads `now_w`."""

    now_w: float
    idle_source: IdleSource | None = None

    def measure_idle(self, earlier_w: float | None) -> float:
        taken = earlier_w is not None and abs(self.now_w - earlier_w) <= 0.02 * earlier_w
        self.idle_source = IdleSource.taken_over if taken else IdleSource.measured
        return earlier_w if taken and earlier_w is not None else self.now_w

    def temperature_c(self) -> float:
        return 30.0


@pytest.fixture
def idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any]]:
    monkeypatch.setenv("CODEJOULE_SWEEP_FILE", str(tmp_path / "sweep-1.json"))
    cards = [SimpleNamespace(uuid=f"GPU-{number}") for number in range(2)]

    def of_job(now_w: float, gpus: tuple[int, ...] = (0,)) -> tuple[Any, Any]:
        plan: Any = SimpleNamespace(hardware=SimpleNamespace(gpus=cards), gpus=gpus)
        meter: Any = StandIn(now_w)
        entry = measure_idle(plan, meter)
        assert json.loads(json.dumps(entry.payload()))["source"] == entry.source.value
        return entry.power_w, entry.source

    return of_job


def test_a_later_job_takes_it_over_until_it_drifts(idle: Callable[..., tuple[Any, Any]]) -> None:
    assert idle(80.0) == (80.0, IdleSource.measured)
    assert idle(81.0) == (80.0, IdleSource.taken_over)
    assert idle(90.0) == (90.0, IdleSource.measured)
    assert idle(90.5) == (90.0, IdleSource.taken_over)


def test_other_cards_have_their_own(idle: Callable[..., tuple[Any, Any]]) -> None:
    idle(80.0)
    assert idle(80.5, (1,)) == (80.5, IdleSource.measured)
    assert idle(160.0, (0, 1)) == (160.0, IdleSource.measured)


def test_a_job_by_itself_takes_none_over(
    idle: Callable[..., tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle(80.0)
    monkeypatch.delenv("CODEJOULE_SWEEP_FILE")
    assert idle(80.5) == (80.5, IdleSource.measured)
