"""What a run logs of the estimator beside its measurement."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.config.schema import Weights
from codejoule.domain import (
    Architecture,
    Completion,
    EnergyReading,
    EnergyScope,
    EnergySource,
    FinishReason,
    Quantization,
    Workload,
)
from codejoule.estimate import ENGINE_SPEEDS, POWER, estimate_generation
from codejoule.experiment.devices import known_card
from codejoule.experiment.results import predicted_metrics
from codejoule.tracking.entries import Batch

STARTER = Path(__file__).parents[2] / "src/codejoule/models/starter/none"
READING = EnergyReading(
    name="batch", source=EnergySource.nvml, scope=EnergyScope.gpu, start_s=0, latency_s=1,
    energy_j=1,
)  # fmt: skip


def batch(number: int, *lengths: tuple[int, int]) -> Batch:
    completions = tuple(
        Completion(
            task_id=f"T/{i}", sample=0, text="", prompt_tokens=prompt, output_tokens=output,
            finish_reason=FinishReason.length,
        )
        for i, (prompt, output) in enumerate(lengths)
    )  # fmt: skip
    return Batch(batch=number, completions=completions, reading=READING, memory_peak_bytes=None)


BATCHES = (batch(0, (100, 20), (150, 60)), batch(1, (80, 1)))


ARCHITECTURE = Architecture.from_config(json.loads((STARTER / "config.json").read_text()))


def plan(**changes: Any) -> Any:
    base = {
        "gpus": (0,),
        "gpu_name": "NVIDIA H200",
        "memory": SimpleNamespace(
            workload=Workload(
                architecture=ARCHITECTURE,
                quantization=Quantization(),
                dtype="float16",
                batch=2,
                prompt_tokens=200,
                new_tokens=160,
            )
        ),
        "experiment": SimpleNamespace(
            engine=SimpleNamespace(
                name=SimpleNamespace(value="generate"), facts=SimpleNamespace(refills=False)
            ),
            batch=SimpleNamespace(size=2, arrival_rate_per_s=None),
            model=SimpleNamespace(weights=Weights.hub),
        ),
    }
    return SimpleNamespace(**(base | changes))


def test_a_run_on_a_known_card_has_a_prediction_of_what_it_really_generated() -> None:
    found = predicted_metrics(plan(), BATCHES)
    card = known_card("NVIDIA H200")
    assert card is not None
    shapes = (
        {"batch": 2, "prompt_tokens": 150, "new_tokens": 60},
        {"batch": 1, "prompt_tokens": 80, "new_tokens": 1},
    )
    estimates = [
        estimate_generation(
            Workload(
                architecture=ARCHITECTURE, quantization=Quantization(), dtype="float16", **shape
            ),
            card=card,
            engine=ENGINE_SPEEDS["generate"],
            power=POWER,
        )
        for shape in shapes
    ]
    known = [e for e in estimates if e is not None]
    assert len(known) == 2
    latency_s = sum(e.latency_s for e in known)
    assert found["predicted_latency_s"] == pytest.approx(latency_s)
    assert found["predicted_throughput_tokens_per_s"] == pytest.approx(81 / latency_s)
    assert found["predicted_tpot_s"] == known[0].tpot_s
    assert found["predicted_energy_gpu_j"] == pytest.approx(sum(e.energy_j or 0 for e in known))
    assert found["predicted_mean_power_w"] < 700


@pytest.mark.parametrize(
    "change",
    [{"gpus": ()}, {"gpus": (0, 1)}, {"gpu_name": "NVIDIA B200"}, {"memory": None}],
    ids=["cpu", "two GPUs", "a card that is not on file", "an unknown family"],
)
def test_where_the_estimator_knows_nothing_nothing_is_logged(change: dict[str, Any]) -> None:
    assert predicted_metrics(plan(**change), BATCHES) == {}


def test_an_engine_that_is_not_known_logs_nothing() -> None:
    other = plan()
    other.experiment.engine.name.value = "server"
    assert predicted_metrics(other, BATCHES) == {}


@pytest.mark.parametrize(("weights", "refilled"), [(Weights.random, False), (Weights.hub, True)])
def test_slots_that_are_refilled_are_predicted_as_full_batches_of_mean_sequences(
    weights: Weights, refilled: bool
) -> None:
    run = plan()
    run.experiment.engine.name.value = "vllm"
    run.experiment.engine.facts.refills = True
    run.experiment.batch.size = 2
    run.experiment.model.weights = weights
    found = predicted_metrics(run, BATCHES)
    card = known_card("NVIDIA H200")
    assert card is not None
    done = [c for batch in BATCHES for c in batch.completions]
    assert len(done) == 3
    full = replace(
        run.memory.workload,
        batch=2,
        prompt_tokens=round(sum(c.prompt_tokens for c in done) / 3),
        new_tokens=round(sum(c.output_tokens for c in done) / 3),
        refilled=refilled,
    )
    ours = estimate_generation(full, card=card, engine=ENGINE_SPEEDS["vllm"], power=POWER)
    assert ours is not None
    assert found["predicted_latency_s"] == pytest.approx(1.5 * ours.latency_s)
    assert found["predicted_energy_gpu_j"] == pytest.approx(1.5 * (ours.energy_j or 0))
    assert found["predicted_mean_power_w"] == pytest.approx(ours.mean_power_w)
    assert "predicted_ttft_s" not in found
    run.experiment.batch.arrival_rate_per_s = 1.0
    assert predicted_metrics(run, BATCHES) == {}


def test_a_card_of_unknown_power_has_times_and_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    card = known_card("NVIDIA H200")
    assert card is not None
    where = "codejoule.experiment.results.known_card"
    monkeypatch.setattr(where, lambda _: replace(card, power_limit_w=None))
    found = predicted_metrics(plan(), BATCHES)
    assert "predicted_latency_s" in found
    assert "predicted_energy_gpu_j" not in found
    monkeypatch.setattr(where, lambda _: replace(card, peak_float16_flop_per_s=None))
    assert predicted_metrics(plan(), BATCHES) == {}
