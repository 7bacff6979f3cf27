"""``codejoule estimate``: size and speed of a configuration on a card, before it runs."""

import argparse

__all__ = ["add_parser", "run"]

_EXAMPLE = "codejoule estimate model=qwen_7b quant=gptq4 gpu=l40s batch=b8 suite.prompt_tokens=660"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``codejoule estimate``."""
    parser = subparsers.add_parser(
        "estimate",
        help="predict parameters, cache, memory and the fastest decoding of a configuration",
        description="Predict, from the architecture alone, the parameters, the key-value cache, "
        "the memory that a card needs, and a floor under the time per output token. Nothing is "
        "loaded, no GPU is needed. The configuration is a job's: the same groups and keys as "
        "python src/main.py takes, and gpu=, the card.",
        epilog=f"example: {_EXAMPLE}",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as python src/main.py takes them"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(args: argparse.Namespace) -> int:
    """Print the prediction; 0 also where the model does not fit, which is a result."""
    from codejoule.cli.estimate.composed import compose_experiment
    from codejoule.cli.estimate.prediction import predict
    from codejoule.cli.estimate.remedies import remedies
    from codejoule.cli.estimate.report import as_json, as_text

    prediction = predict(compose_experiment(args.overrides))
    advice = () if prediction.fits else remedies(prediction)
    print(as_json(prediction, advice) if args.json else as_text(prediction, advice))
    return 0
