"""``codejoule export``: one's figures for others, in the layout that ``import-published`` reads."""

import argparse
from pathlib import Path

from codejoule.config import default_store
from codejoule.config.credentials import refuse_credentials
from codejoule.domain import visible


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="write the figures of runs for others: CSV, JSON, or an energy card in Markdown",
        description="Write one row per configuration, means over its runs, in the layout that "
        "codejoule import-published reads (reference: Published figures). A name that ends in .md "
        "gives an energy card: one page to put beside a model, with figures, method, device, "
        "validity and versions.",
        epilog="example: codejoule export figures.csv --experiment codejoule",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="ending in .csv, .json or .md")
    parser.add_argument(
        "--experiment", metavar="NAME", default="codejoule", help="default: %(default)s"
    )
    parser.add_argument(
        "--where",
        metavar="FILTER",
        help="only some runs, in MLflow's search syntax, e.g. \"params.model.name = 'starter'\"",
    )
    parser.add_argument("--sweep", metavar="SWEEP", help="only the jobs of this sweep: name or id")
    parser.add_argument(
        "--published",
        action="store_true",
        help="write the figures that were imported, as they were, instead of your own",
    )
    parser.add_argument(
        "--source",
        metavar="TEXT",
        default="measured with codejoule",
        help="where your figures are published, e.g. an address; default: %(default)s",
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="sqlite:///... or http://...; default: mlruns/mlflow.db below CODEJOULE_HOME "
        "or the current folder",
    )


def run(args: argparse.Namespace) -> int:
    """Write the file; `UserError` for a store that is not there, runs without figures, and a file
    that cannot be written."""
    from codejoule.analysis import load_runs
    from codejoule.published import export_measured, export_published, write_figures

    refuse_credentials([("--tracking-uri", args.tracking_uri)])
    uri = args.tracking_uri or default_store()
    loaded = load_runs(uri, args.experiment, where=args.where, sweep=args.sweep)
    found = (
        export_published(loaded) if args.published else export_measured(loaded, source=args.source)
    )
    write_figures(args.file, found.figures)
    lines = [f"Left out: {sentence}." for sentence in (*loaded.left_out, *found.left_out)]
    count = len(found.figures)
    lines.append(f"{count} {'figure' if count == 1 else 'figures'} written to {args.file}")
    print(visible("\n".join(lines)))
    return 0
