"""``codejoule estimate``: size and speed of a configuration on a card, before it runs."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.config import ConfigError, default_store
from codejoule.config.credentials import refuse_credentials
from codejoule.domain import visible

if TYPE_CHECKING:
    from codejoule.cli.estimate.forecast import Forecast

_EXAMPLE = "codejoule estimate model=qwen_7b quant=gptq4 gpu=l40s batch=b8 suite.prompt_tokens=660"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``codejoule estimate``."""
    parser = subparsers.add_parser(
        "estimate",
        help="predict parameters, cache, memory, time and energy of a configuration",
        description="Predict, from the architecture alone, the parameters, the key-value cache, "
        "the memory that a card needs, a floor under the time per output token, and the time and "
        "energy of a batch. Nothing is loaded, no GPU is needed. The configuration is a job's: the "
        "same groups and keys as codejoule run takes, and gpu=, the card.",
        epilog=f"example: {_EXAMPLE}",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as codejoule run takes them"
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
    from codejoule.cli.estimate.forecast import calibrate_with, forecast, remedies
    from codejoule.cli.estimate.report import as_json, as_text
    from codejoule.config.compose import compose_experiment

    _check(args)
    experiment = compose_experiment(args.overrides)
    calibration = None
    if args.calibrate:
        uri = args.tracking_uri or default_store()
        calibration = calibrate_with(args.calibrate, uri, experiment)
    found = forecast(experiment, calibration=calibration)
    if args.thesis:
        return _thesis(args, found)
    advice = () if found.fits else remedies(found)
    print(as_json(found, advice) if args.json else visible(as_text(found, advice)))
    return 0


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
