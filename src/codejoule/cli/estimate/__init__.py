"""``codejoule estimate``: size and speed of configurations on cards, before they run."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.config import ConfigError, default_store
from codejoule.config.credentials import refuse_credentials
from codejoule.config.schema import DETECTED_GPU, ExperimentConfig
from codejoule.domain import visible

if TYPE_CHECKING:
    from codejoule.cli.estimate.forecast import Calibration, Forecast

_EXAMPLE = "codejoule estimate model=qwen_0_5b,qwen_7b quant=none,gptq4 batch=b1,b8 gpu=l40s,h100"

_SUITE = "bigcodebench"
"""Suite of a table, where none is named."""
_NAMES_A_SUITE = ("suite=", "suite.name=", "suite.path=", "suite.hub_", "experiment=")
"""How an override begins that says which suite is meant."""
_GPU = "h200"
"""Card that is taken where none is named and none is here: the estimator is calibrated with it."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``codejoule estimate``."""
    parser = subparsers.add_parser(
        "estimate",
        help="predict memory, time and energy of configurations on cards, before they run",
        description="Predict, from the architecture alone, the parameters, the key-value cache, "
        "the memory that a card needs, a floor under the time per output token, and the time and "
        "energy of a batch. Lists (model=qwen_0_5b,qwen_7b gpu=l40s,h100) give one table of all "
        "combinations: memory, whether it fits, energy per token and per task, and the hours and "
        f"kWh of a benchmark ({_SUITE}, unless suite= names another). Nothing is loaded, no GPU is "
        "needed. A configuration is a job's: the same groups and keys as codejoule run takes, and "
        "gpu=, the card.",
        epilog=f"example: {_EXAMPLE}",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as a run or a sweep takes them"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--calibrate",
        metavar="EXPERIMENT",
        help="take the engine's speed and the card's power from the finished GPU runs of this "
        "MLflow experiment, instead of what is on file",
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="with --calibrate: sqlite:///... or http://...; default: "
        "mlruns/mlflow.db below CODEJOULE_HOME or the current folder",
    )
    parser.add_argument(
        "--thesis", action="store_true", help="by the thesis' own equations, 3.3 to 3.34"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="with --thesis: also write its estimator's tables, computed anew",
    )


def run(args: argparse.Namespace) -> int:
    """Print the prediction; 0 also where the model does not fit, which is a result."""
    from codejoule.config.compose import compose_sweep
    from codejoule.experiment.sweep import swept

    _check(args)
    named = any(own.lstrip("+").startswith(_NAMES_A_SUITE) for own in args.overrides)
    suite = [f"suite={_SUITE}"] if swept(args.overrides, None) and not named else []
    experiments, notes = _with_cards(compose_sweep([*suite, *args.overrides]))
    calibrations = _calibrations(args, experiments)
    if len(experiments) > 1:
        if args.thesis:
            raise ConfigError("--thesis: its equations are for one configuration; give no lists")
        return _table(args, experiments, calibrations, notes)
    return _one(args, experiments[0], calibrations, notes)


def _table(
    args: argparse.Namespace,
    experiments: Sequence[ExperimentConfig],
    calibrations: "Mapping[str, Calibration]",
    notes: Sequence[str],
) -> int:
    from codejoule.cli.estimate.table import as_json, as_table, predict
    from codejoule.estimate import MEASURED_WITH

    sources = dict.fromkeys(own.source for own in calibrations.values())
    source = ", ".join(sources) or MEASURED_WITH
    write = as_json if args.json else as_table
    print(visible(write(predict(experiments, calibrations), source, notes)))
    return 0


def _one(
    args: argparse.Namespace,
    experiment: ExperimentConfig,
    calibrations: "Mapping[str, Calibration]",
    notes: Sequence[str],
) -> int:
    from codejoule.cli.estimate.forecast import forecast, remedies
    from codejoule.cli.estimate.report import as_json, as_text

    found = forecast(experiment, calibration=calibrations.get(experiment.engine.name.value))
    if args.thesis:
        return _thesis(args, found)
    advice = () if found.fits else remedies(found)
    print(as_json(found, advice, notes) if args.json else visible(as_text(found, advice, notes)))
    return 0


def _with_cards(
    experiments: Sequence[ExperimentConfig],
) -> tuple[list[ExperimentConfig], tuple[str, ...]]:
    """The same, with a card on file for ``gpu=detected`` where none is here, and a word on it."""
    from codejoule.config.schema import GpuConfig
    from codejoule.config.typed import choices
    from codejoule.measurement import detect_hardware

    def is_missing(own: ExperimentConfig) -> bool:
        given = (own.gpu.memory_bytes, own.gpu.bandwidth_bytes_per_s)
        return own.gpu.name == DETECTED_GPU and given == (None, None)

    hardware = detect_hardware() if any(map(is_missing, experiments)) else None
    if hardware is None or hardware.gpus:
        return list(experiments), ()
    on_file = {card.name: card for card in choices("gpu", GpuConfig, without=DETECTED_GPU)}
    note = (
        f"gpu={DETECTED_GPU}: there is no card here ({hardware.gpu_problem}), so this is for "
        f"{_GPU}. Name another: gpu={', '.join(sorted(on_file))}."
    )
    return [replace(own, gpu=on_file[_GPU]) if is_missing(own) else own for own in experiments], (
        note,
    )


def _calibrations(
    args: argparse.Namespace, experiments: Sequence[ExperimentConfig]
) -> "dict[str, Calibration]":
    """By engine, from the runs that ``--calibrate`` names; empty without it."""
    from codejoule.cli.estimate.forecast import calibrate_with

    if not args.calibrate:
        return {}
    uri = args.tracking_uri or default_store()
    engines = {own.engine.name.value: own for own in experiments}
    return {name: calibrate_with(args.calibrate, uri, own) for name, own in engines.items()}


def _check(args: argparse.Namespace) -> None:
    if args.out and not args.thesis:
        raise ConfigError("--out writes the thesis' tables: it goes with --thesis")
    if args.calibrate and args.thesis:
        raise ConfigError("--calibrate: the thesis' equations have nothing to calibrate")
    if args.tracking_uri and not args.calibrate:
        raise ConfigError("--tracking-uri says where --calibrate EXPERIMENT is; give both")
    refuse_credentials([("--tracking-uri", args.tracking_uri)])


def _thesis(args: argparse.Namespace, found: "Forecast") -> int:
    from codejoule.thesis.command import write_estimates
    from codejoule.thesis.configured import thesis_figures_of, thesis_text

    work, card = found.workload, found.card
    model, quant = work.experiment.model.name, work.experiment.quant.name
    figures = thesis_figures_of(
        model=model,
        quant=quant,
        architecture=work.architecture,
        counted=found.parameters.total,
        card=card,
        batch=work.batch,
        prompt_tokens=work.prompt_tokens,
        new_tokens=work.new_tokens,
    )
    if args.json:
        keys = ("value", "unit", "source")
        named = {name: dict(zip(keys, f, strict=True)) for name, f in figures.items()}
        print(json.dumps(named, indent=2))
    else:
        title = (
            f"{model}, quant={quant}, on {card.name}: batch of {work.batch}, "
            f"{work.prompt_tokens:,} prompt and {work.new_tokens:,} new tokens"
        )
        print(thesis_text(figures, title))
    write_estimates(args.out, told=sys.stderr)
    return 0
