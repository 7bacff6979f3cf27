"""What is said of a run's energy while it goes on and once it has ended."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.common.progress import told_to
from codejoule.domain import EnergySource
from codejoule.experiment.generation_stage import _Decoding
from codejoule.experiment.results import headline
from tests.common.watcher import Notes


@pytest.mark.parametrize(
    ("source", "line", "last"),
    [
        ("nvml", "300 W, 60.0 J so far", "2.00 J per task"),
        ("replay", "300 W (replay), 60.0 J so far (replay)", "2.00 J per task (replay)"),
        ("estimate", "~300 W, ~60.0 J so far", "~2.00 J per task (estimate)"),
    ],
)
def test_energy_that_was_not_measured_here_is_labelled(source: str, line: str, last: str) -> None:
    assert headline({"energy_per_task_j": 2.0}, EnergySource(source)) == (last,)
    plan = SimpleNamespace(
        round=1,
        requests=63,
        experiment=SimpleNamespace(generation=SimpleNamespace(n_samples=1)),
    )
    parts: Any = dict.fromkeys(("journal", "engine", "limit", "peak_bytes"))
    parts |= {"plan": plan, "meter": SimpleNamespace(source=EnergySource(source))}
    decoding = _Decoding(
        **parts, done=0, tokens=100, energy_j=60.0, power_w="300 W", began_s=time.monotonic()
    )
    with told_to(notes := Notes()):
        decoding._tell()
    assert notes.done[0].startswith("generating: 0/63 tasks, ")
    assert notes.done[0].endswith(f" tokens/s, {line}")
