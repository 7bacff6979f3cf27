"""``codejoule import-published``: figures that others printed, beside one's own."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.domain import visible
from codejoule.domain.text import number

if TYPE_CHECKING:
    from codejoule.published import Prediction, PublishedFigure

_ROWS = 12
"""Rows that are printed unless all are asked for."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "import-published",
        help="put figures that others printed beside your runs, with what is predicted of them",
        description="Read published figures from your copy of a file, record each as a run of its "
        "own kind (codejoule.published=true), and print what codejoule estimate predicts for the "
        "same model, card, engine and batch. Analysis shows them and never tests them against "
        "measured runs. A figure that is there already is left alone; its prediction is brought up "
        "to date. The file may be a CSV or JSON of the documented layout (reference: Published "
        "figures), a task file of the ML.ENERGY leaderboard, or energy-code-eval's batching "
        "results. The store is a job's: tracking.experiment=..., tracking.dir=..., "
        "tracking=server.",
        epilog="example: codejoule import-published figures.csv tracking.experiment=published",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="CSV or JSON")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="tracking.*, as codejoule run has it"
    )
    parser.add_argument(
        "--architecture",
        metavar="MODEL=FILE",
        action="append",
        default=[],
        help="config.json of a model that no preset describes, so that it can be predicted",
    )
    parser.add_argument("--full", action="store_true", help="print every row")


def run(args: argparse.Namespace) -> int:
    """Import, and print the figures beside their predictions; `UserError` for a file that cannot be
    read and a store that cannot be written."""
    from codejoule.cli.estimate.published import predict_figure
    from codejoule.common.progress import doing, pause
    from codejoule.config.compose import compose_experiment
    from codejoule.published import import_figures, read_figures
    from codejoule.tracking import prepare_store

    file_format, reading = read_figures(args.file)
    figures = _described(reading.figures, args.architecture)
    tracking = compose_experiment(args.overrides).tracking
    doing("predicting")
    found = [(figure, predict_figure(figure)) for figure in figures]
    doing("recording", f"{len(found)} figures")
    store = prepare_store(tracking)
    added, there = import_figures(store, found, command=f"import-published {args.file.name}")
    pause()
    lines = [
        f"{args.file.name}: {file_format.what}",
        *(f"Left out: {sentence}." for sentence in reading.left_out),
        "",
        *_table(found, None if args.full else _ROWS),
        "",
        *_errors(found),
        *_reasons(found),
        f"{added} published {'run' if added == 1 else 'runs'} added to experiment "
        f"{store.experiment!r} in {store.uri}; {there} were there.",
    ]
    print(visible("\n".join(lines)))
    return 0


def _described(
    figures: "Sequence[PublishedFigure]", given: Sequence[str]
) -> "list[PublishedFigure]":
    """The figures, with the architectures that were given."""
    of: dict[str, dict[str, Any]] = {}
    for text in given:
        model, _, place = text.partition("=")
        if not place:
            raise UserError(f"--architecture {text}: MODEL=FILE is expected")
        if model not in {figure.model for figure in figures}:
            known = ", ".join(sorted({figure.model for figure in figures}))
            raise UserError(f"--architecture {text}: the file has no such model; it has {known}")
        try:
            fields = json.loads(Path(place).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"--architecture {text}: cannot be read: {error}") from error
        if not isinstance(fields, dict):
            raise UserError(f"--architecture {text}: no config.json of a model")
        of[model] = fields
    return [
        replace(figure, architecture=of[figure.model]) if figure.model in of else figure
        for figure in figures
    ]


def _table(found: "Sequence[tuple[PublishedFigure, Prediction]]", most: int | None) -> list[str]:
    head = ("model", "quant", "batch", "card", "suite", "published J/token", "predicted", "error")
    rows = [head]
    for figure, prediction in found[:most]:
        predicted, error = prediction.energy_per_output_token_j, prediction.error(figure)
        rows.append(
            (
                figure.model.rpartition("/")[2],
                figure.quantization,
                str(figure.batch),
                figure.card if figure.cards == 1 else f"{figure.cards} x {figure.card}",
                figure.suite or "-",
                number(figure.energy_per_output_token_j),
                "-" if predicted is None else f"~{number(predicted)}",
                "-" if error is None else f"{error:+.0%}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = [2, 5, 6, 7]
    lines = [
        "  ".join(
            cell.rjust(width) if i in text else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rest = len(found) - len(rows) + 1
    return [*lines, *([f"({rest} more rows: --full)"] if rest else [])]


def _errors(found: "Sequence[tuple[PublishedFigure, Prediction]]") -> list[str]:
    from codejoule.published import mean_errors

    by_batch = mean_errors(found)
    if not by_batch:
        return ["Nothing of it can be predicted."]
    known = sum(count for _, _, count in by_batch.values())
    mean = sum(absolute * count for absolute, _, count in by_batch.values()) / known
    parts = (
        f"batch {batch}: {absolute:.0%} ({signed:+.0%} on average, {count})"
        for batch, (absolute, signed, count) in by_batch.items()
    )
    return [
        f"Mean absolute error of {known} predictions: {mean:.1%}. Nothing was fitted to these "
        "figures.",
        f"By batch: {'; '.join(parts)}.",
    ]


def _reasons(found: "Sequence[tuple[PublishedFigure, Prediction]]") -> list[str]:
    counts: dict[str, int] = {}
    for _, prediction in found:
        if prediction.energy_per_output_token_j is None:
            counts[prediction.words] = counts.get(prediction.words, 0) + 1
    return [
        f"Not predicted ({count} {'row' if count == 1 else 'rows'}): {reason}."
        for reason, count in sorted(counts.items(), key=lambda each: -each[1])
    ]
