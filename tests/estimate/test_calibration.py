"""Calibrated with a few measured runs, the estimator predicts others."""

import csv
import statistics
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import yaml

from codejoule.domain import Architecture, Quantization
from codejoule.estimate import (
    ENGINE_SPEEDS,
    MEASURED_WITH,
    POWER,
    Card,
    EngineSpeed,
    MeasuredRun,
    PowerModel,
    calibrate_power,
    calibrate_speed,
    estimate_generation,
)
from codejoule.thesis.results import published_configurations

from .conftest import ROOT, fields_of

GOLDEN = ROOT / "tests" / "golden"
PRIOR = EngineSpeed(
    bandwidth_efficiency=0.7, compute_efficiency=0.5, kernel_s_per_layer=50e-6, sequence_s=50e-6,
    four_bit_s_per_layer=0.0, host_s_per_layer=0.0, expands_heads=False,
)  # fmt: skip
POWER_PRIOR = PowerModel(
    active_share=0.06, bandwidth_share=0.8, compute_share=5.0, four_bit_share=0.3
)
TASKS = 1140
QUANTIZATIONS = {
    "none": Quantization(),
    "gptq4": Quantization(method="gptq", bits=4, group_size=128),
    "fp8": Quantization(method="fp8", bits=8, group_size=-1),
}


def card(name: str) -> Card:
    fields = yaml.safe_load((ROOT / "conf" / "gpu" / f"{name}.yaml").read_text())
    numbers = {k: v for k, v in fields.items() if k not in ("defaults", "driver_names", "name")}
    return Card(name=name, **{k: None if v is None else float(v) for k, v in numbers.items()})  # type: ignore[arg-type]


def rows(name: str) -> list[dict[str, str]]:
    with (GOLDEN / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class H200Run(NamedTuple):
    engine: str
    model: str
    quant: str
    run: MeasuredRun


def h200_runs() -> list[H200Run]:
    """What one benchmark measured, and then older runs of `generate` and `static`."""
    return runs_in(rows("h200_engines.csv") + rows("h200_speed.csv"))


def runs_in(measured: list[dict[str, str]]) -> list[H200Run]:
    found = []
    for row in measured:
        if row["engine"] not in ENGINE_SPEEDS or row.get("part") in ("many", "job"):
            continue
        batch, new = int(row["batch"]), int(row.get("new_tokens", 128))
        tokens = batch * new
        latency_s = row.get("latency_s") or tokens / float(row["tokens_per_s"])
        energy_j = row.get("energy_j") or tokens * float(row["j_per_token"] or 0)
        quant = row.get("quant", "none")
        run = MeasuredRun(
            architecture=Architecture.from_config(fields_of(row["model"])),
            quantization=Quantization()
            if quant == "none"
            else Quantization(method="gptq", bits=4, group_size=128),
            dtype=row.get("dtype", "bfloat16"),
            card=card("h200"),
            batch=batch,
            prompt_tokens=200,
            new_tokens=new,
            latency_s=float(latency_s),
            energy_j=float(energy_j) or None,
        )
        found.append(H200Run(row["engine"], row["model"], quant, run))
    return found


def unquantized() -> list[H200Run]:
    return [each for each in h200_runs() if each.quant == "none"]


def first(engine: str, model: str, batch: int) -> MeasuredRun:
    """The newest of those runs."""
    return next(
        each.run
        for each in unquantized()
        if (each.engine, each.model, each.run.batch) == (engine, model, batch)
    )


def thesis_runs() -> dict[str, MeasuredRun]:
    """The thesis' 25 configurations: per task, one sequence of the mean length."""
    methods = {
        "": ("none", None), "AWQ": ("awq", 4), "GPTQ-Int8": ("gptq", 8), "GPTQ-Int4": ("gptq", 4),
    }  # fmt: skip
    found = {}
    for row in rows("thesis_results.csv"):
        size, _, rest = row["model"].removeprefix("Qwen2.5-").partition("-")
        method, bits = methods[rest.removeprefix("Instruct").removeprefix("-")]
        model = f"qwen_{size[:-1].replace('.', '_')}b"
        # 0.5B's width of 896 and 4864 divides by 128; the published checkpoints use it.
        quantization = Quantization(
            method=method, bits=bits, group_size=None if bits is None else 128
        )
        latency_s = 60 * float(row["latency_min"])
        tokens = float(row["throughput_tokens_per_s"]) * latency_s
        found[row["model"]] = MeasuredRun(
            architecture=Architecture.from_config(fields_of(model)),
            quantization=quantization,
            dtype="float16",
            card=card("l40s"),
            batch=1,
            prompt_tokens=200,
            new_tokens=round(tokens / TASKS),
            latency_s=latency_s / TASKS,
            energy_j=3.6e6 * float(row["energy_kwh"]) / TASKS,
        )
    return found


def off(run: MeasuredRun, engine: EngineSpeed, power: PowerModel) -> tuple[float, float]:
    """Relative error of time and of energy."""
    ours = estimate_generation(run, card=run.card, engine=engine, power=power)
    assert ours is not None
    assert ours.energy_j is not None
    energy = ours.energy_j / run.energy_j - 1 if run.energy_j else 0.0
    return ours.latency_s / run.latency_s - 1, energy


def test_what_is_on_file_says_how_many_runs_it_was_fitted_to() -> None:
    plain = len(unquantized()) + len(vllm_runs("none"))
    known = plain + len(vllm_runs("gptq4"))
    assert f"{known} runs on H200s, {plain} of them unquantized" == MEASURED_WITH


def vllm_runs(*quants: str) -> list[MeasuredRun]:
    """7B through vLLM at every batch that was measured."""
    known = next(each.run for each in unquantized() if each.model == "qwen_7b")
    return [
        replace(
            known,
            quantization=QUANTIZATIONS[row["quant"]],
            batch=int(row["case"]),
            new_tokens=256,
            latency_s=int(row["case"]) * 256 / float(row["tokens_per_s"]),
            energy_j=int(row["case"]) * 256 * float(row["j_per_token"]),
        )
        for row in rows("h200_vllm.csv")
        if row["quant"] in quants and row["case"].isdigit()
    ]


def test_what_is_on_file_of_vllm_is_what_its_runs_give() -> None:
    runs = vllm_runs("none", "gptq4")
    assert len(runs) == 16
    fitted = calibrate_speed(runs, prior=replace(PRIOR, four_bit_s_per_layer=50e-6))
    for field in EngineSpeed.__dataclass_fields__:
        if field != "absorbs_latents":
            assert getattr(fitted, field) == pytest.approx(
                getattr(ENGINE_SPEEDS["vllm"], field), rel=0.01
            )
    for run in runs:
        time, energy = off(run, ENGINE_SPEEDS["vllm"], POWER)
        assert abs(time) < 0.08, run.batch
        assert abs(energy) < 0.08, run.batch


def test_what_is_on_file_of_vllm_predicts_models_and_formats_it_was_not_fitted_to() -> None:
    errors: dict[str, list[float]] = {}
    for row in rows("h200_new_models.csv"):
        tokens = int(row["batch"]) * 256
        run = MeasuredRun(
            architecture=Architecture.from_config(fields_of(row["model"])),
            quantization=QUANTIZATIONS[row["quant"]],
            dtype="bfloat16",
            card=card("h200"),
            batch=int(row["batch"]),
            prompt_tokens=200,
            new_tokens=256,
            latency_s=tokens / float(row["tokens_per_s"]),
            energy_j=tokens * float(row["j_per_token"]),
        )
        _, energy = off(run, ENGINE_SPEEDS["vllm"], POWER)
        errors.setdefault(f"{row['model']} {row['quant']}", []).append(abs(energy))
    assert {name: max(each) for name, each in errors.items()} == pytest.approx(
        {
            "qwen3_8b none": 0.06,
            "qwen3_8b fp8": 0.15,
            "qwen3_8b gptq4": 0.06,
            # A mixture of experts in batches of 128: the kernels' own cost is not known.
            "qwen3_coder_30b none": 0.20,
            "qwen3_coder_30b fp8": 0.22,
        },
        abs=0.015,
    )
    assert statistics.mean(each for some in errors.values() for each in some) < 0.08


def test_what_is_on_file_of_the_engines_is_what_the_h200_s_runs_give() -> None:
    runs = unquantized()
    by_engine = {name: [each.run for each in runs if each.engine == name] for name in ENGINE_SPEEDS}
    graph = calibrate_speed(by_engine["graph"], prior=PRIOR)
    static = calibrate_speed(by_engine["static"], prior=replace(graph, expands_heads=True))
    for fitted, name in ((graph, "graph"), (static, "static")):
        for field in EngineSpeed.__dataclass_fields__:
            assert getattr(fitted, field) == pytest.approx(
                getattr(ENGINE_SPEEDS[name], field), rel=0.01
            )
    hosts_s = [r.latency_s / r.new_tokens / r.architecture.layers for r in by_engine["generate"]]
    assert statistics.geometric_mean(hosts_s) == pytest.approx(
        ENGINE_SPEEDS["generate"].host_s_per_layer, rel=0.01
    )
    metered = [(each.run, ENGINE_SPEEDS[each.engine]) for each in runs]
    metered += [(run, ENGINE_SPEEDS["vllm"]) for run in vllm_runs("none", "gptq4")]
    power = calibrate_power(metered, prior=POWER_PRIOR)
    for field in PowerModel.__dataclass_fields__:
        assert getattr(power, field) == pytest.approx(getattr(POWER, field), rel=0.02)


def test_what_is_on_file_gives_every_figure_of_the_h200_within_a_fifth() -> None:
    """`generate` calibrated with the runs of each of its two machines, whose hosts set its pace;
    what is on file lies between them."""
    runs = unquantized()
    assert len(runs) == 20
    by_machine = {
        new: [r.run for r in runs if (r.engine, r.run.new_tokens) == ("generate", new)]
        for new in (48, 128)
    }
    fitted = {
        new: calibrate_speed(those, prior=ENGINE_SPEEDS["generate"])
        for new, those in by_machine.items()
    }
    newer_s, older_s = (engine.host_s_per_layer for engine in fitted.values())
    assert newer_s < ENGINE_SPEEDS["generate"].host_s_per_layer < older_s
    for each in runs:
        engine = ENGINE_SPEEDS[each.engine]
        if each.engine == "generate":
            engine = fitted[each.run.new_tokens]
        time, energy = off(each.run, engine, POWER)
        assert abs(time) < 0.13, each
        assert abs(energy) < 0.20, each


def test_what_is_on_file_predicts_a_call_it_was_not_fitted_to() -> None:
    runs = [r for r in runs_in(rows("h200_engines_held_out.csv")) if r.quant == "none"]
    assert [each.engine for each in runs].count("graph") == 11
    assert len(runs) == 15
    for each in runs:
        time, energy = off(each.run, ENGINE_SPEEDS[each.engine], POWER)
        # The host, which sets the pace of `generate`, was slower.
        assert abs(time) < (0.20 if each.engine == "generate" else 0.13), each
        assert abs(energy) < 0.20, each


def test_marlin_s_kernels_are_slower_than_their_bytes() -> None:
    """A known weakness: with 4 bits and several sequences the estimate is twice too fast."""
    errors = {
        each.run.batch: off(each.run, ENGINE_SPEEDS["graph"], POWER)
        for each in h200_runs()
        if (each.engine, each.quant) == ("graph", "gptq4")
    }
    assert list(errors) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert -0.25 < errors.pop(1)[0] < -0.1
    assert all(-0.7 < time < -0.45 and -0.5 < energy < -0.35 for time, energy in errors.values())


def test_calibrated_with_a_few_of_the_h200_s_runs_it_predicts_others() -> None:
    known = first("graph", "qwen_7b", 1)
    large = first("graph", "qwen_7b", 128)
    graph = calibrate_speed([known, large, first("graph", "qwen_0_5b", 1)], prior=PRIOR)
    static = calibrate_speed(
        [first("static", "qwen_7b", 1), first("static", "qwen_0_5b", 1)],
        prior=replace(graph, expands_heads=True),
    )
    generate = calibrate_speed(
        [first("generate", "qwen_7b", 1)], prior=replace(static, host_s_per_layer=1e-3)
    )
    power = calibrate_power(
        [(known, graph), (large, graph), (first("generate", "qwen_7b", 1), generate)],
        prior=POWER_PRIOR,
    )
    unseen = {
        # A single row has kernels of its own, from which little is to be learned about two.
        ("graph", "qwen_7b", 2): (graph, 0.20, 0.10),
        ("graph", "qwen_7b", 8): (graph, 0.20, 0.15),
        ("graph", "qwen_7b", 32): (graph, 0.10, 0.10),
        ("static", "qwen_7b", 32): (static, 0.15, 0.20),
        ("generate", "qwen_0_5b", 1): (generate, 0.10, 0.20),
        # Another machine: the host took 0.062 s a step there and 0.051 s here.
        ("generate", "qwen_7b", 64): (generate, 0.20, 0.20),
    }
    for key, (engine, most_time, most_energy) in unseen.items():
        time, energy = off(first(*key), engine, power)
        assert abs(time) < most_time, (key, time)
        assert abs(energy) < most_energy, (key, energy)


def test_three_of_the_thesis_runs_predict_the_other_22() -> None:
    """Another card, another engine and quantized models. The small ones with 4 bits, where the
    overhead of kernels is everything, are the estimator's known weakness.
    """
    runs = thesis_runs()
    known = [
        "Qwen2.5-0.5B", "Qwen2.5-7B-Instruct", "Qwen2.5-7B-Instruct-GPTQ-Int4",
    ]  # fmt: skip
    engine = calibrate_speed([runs[name] for name in known], prior=ENGINE_SPEEDS["graph"])
    power = calibrate_power([(runs[name], engine) for name in known], prior=POWER)
    errors = {name: off(run, engine, power) for name, run in runs.items() if name not in known}
    assert len(errors) == 22
    times, energies = zip(*((abs(t), abs(e)) for t, e in errors.values()), strict=True)
    assert statistics.median(times) < 0.05
    assert statistics.median(energies) < 0.05
    large = [e for name, e in errors.items() if "0.5B" not in name and "1.5B" not in name]
    assert len(large) == 13
    assert max(abs(time) for time, _ in large) < 0.10
    assert max(abs(energy) for _, energy in large) < 0.20


def test_other_families_are_predicted_too_and_experts_come_out_too_fast() -> None:
    runs = thesis_runs()
    known = [runs[n] for n in ("Qwen2.5-0.5B", "Qwen2.5-7B-Instruct")]
    engine = calibrate_speed(known, prior=ENGINE_SPEEDS["graph"])
    power = calibrate_power([(run, engine) for run in known], prior=POWER)
    errors = {}
    for row in published_configurations():
        if row.table == "5.18" and row.batch_size == 1:
            latency_s = 60 * row.latency_min
            tokens = row.throughput_tokens_per_s * latency_s
            run = replace(
                known[0],
                architecture=Architecture.from_config(fields_of(row.model)),
                new_tokens=round(tokens / TASKS),
                latency_s=latency_s / TASKS,
                energy_j=3.6e6 * row.energy_kwh / TASKS,
            )
            errors[row.model] = off(run, engine, power)
    for model in ("qwen_coder_7b", "llama_8b"):
        assert max(map(abs, errors[model])) < 0.12
    assert -0.4 < errors["deepseek_coder_16b"][0] < -0.2


def test_runs_that_say_nothing_of_a_parameter_leave_it_at_its_prior() -> None:
    run = first("generate", "qwen_7b", 1)
    prior = replace(PRIOR, host_s_per_layer=1e-3)
    fitted = calibrate_speed([run], prior=prior)
    assert fitted.host_s_per_layer == pytest.approx(1.82e-3, rel=0.02)
    assert fitted.kernel_s_per_layer == pytest.approx(prior.kernel_s_per_layer, rel=0.02)
    assert calibrate_speed([run], prior=PRIOR).host_s_per_layer == 0


def test_calibration_says_what_it_lacks() -> None:
    runs: Any = [each.run for each in h200_runs()]
    with pytest.raises(ValueError, match="at least one measured run"):
        calibrate_speed([], prior=PRIOR)
    with pytest.raises(ValueError, match="whose energy was measured"):
        calibrate_power([(replace(runs[0], energy_j=None), PRIOR)], prior=POWER_PRIOR)
    no_peak = replace(runs[0], card=replace(card("h200"), peak_bfloat16_flop_per_s=None))
    with pytest.raises(ValueError, match="peak rate of h200 in bfloat16 is not known"):
        calibrate_speed([no_peak], prior=PRIOR)
    no_limit = replace(runs[0], card=replace(card("h200"), power_limit_w=None))
    with pytest.raises(ValueError, match="power limit of h200 is not known"):
        calibrate_power([(no_limit, ENGINE_SPEEDS["generate"])], prior=POWER_PRIOR)
