"""``codejoule thesis``: what Buis (2024) computed, measured and said, and what follows from it."""

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

from codejoule.config import write_whole
from codejoule.thesis import claims, disagreements, ratios, reductions
from codejoule.thesis.estimates import figure_checks, thesis_tables

_IMPORT = (
    "Record the 34 configurations that Buis (2024) measured as runs of their own kind "
    "(codejoule.energy_source=published): analysis shows them beside your runs and never puts both "
    "into one table. A configuration that is there already is left alone. The store is a job's: "
    "tracking.experiment=..., tracking.dir=..., tracking=server."
)
_CLAIMS_OUT = (
    "also write where text and tables disagree, and what the published figures give: pass@kWh, "
    "front and reductions"
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register ``codejoule thesis tables|claims|import``."""
    parser = subparsers.add_parser(
        "thesis",
        help="the thesis' tables, claims and published results",
        description="Compute the tables of Buis (2024) anew, hold its claims against its own "
        "tables, or put its published results into MLflow.",
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for name, what, written in (
        (
            "tables",
            "the estimator's tables, by the thesis' equations 3.4 to 3.34",
            "also write them, and what its text says of its figures",
        ),
        (
            "claims",
            "where the thesis' text and tables disagree",
            _CLAIMS_OUT,
        ),
    ):
        part = parts.add_parser(name, help=what)
        part.add_argument("--out", metavar="DIR", type=Path, help=written)
    add_import_parser(parts, "import")


def add_import_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str = "import-thesis"
) -> None:
    """Register ``codejoule import-thesis``, the older name of ``codejoule thesis import``."""
    parser = subparsers.add_parser(
        name,
        help="put the thesis' 34 published configurations into MLflow",
        description=_IMPORT,
        epilog="example: codejoule thesis import tracking.experiment=thesis",
    )
    parser.set_defaults(part="import")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="tracking.*, as codejoule run has it"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help=_CLAIMS_OUT)


def run(args: argparse.Namespace) -> int:
    """Print one part and write it where that is asked for.

    Raises `UserError` for a store or a folder that cannot be written.
    """
    {"tables": _tables, "claims": _claims, "import": _import}[args.part](args)
    return 0


def _import(args: argparse.Namespace) -> None:
    """Import, and say what was added."""
    from codejoule.config.compose import compose_experiment
    from codejoule.thesis.importing import import_results
    from codejoule.tracking import prepare_store

    tracking = compose_experiment(args.overrides).tracking
    store = prepare_store(tracking)
    added, there = import_results(store)
    print(
        f"{added} published {'run' if added == 1 else 'runs'} added to experiment "
        f"{store.experiment!r} in {store.uri}; {there} were there."
    )
    print(_summary())
    _write_claims(args.out)


def _tables(args: argparse.Namespace) -> None:
    records = thesis_tables()
    rows = [[field.name for field in fields(records[0])]]
    rows += [[f"{v:.4g}" if isinstance(v, float) else v for v in astuple(r)] for r in records]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    write_estimates(args.out)


def _claims(args: argparse.Namespace) -> None:
    for claim in disagreements():
        print(f"{claim.place}: {claim.claim}: {claim.stated}\n    {claim.tables}")
    print(f"\n{_summary()}")
    _write_claims(args.out)


def _summary() -> str:
    front = [ratio for ratio in ratios() if ratio.on_front]
    best = max(ratios(), key=lambda ratio: ratio.recomputed)
    largest = {r.technique: r for r in sorted(reductions(), key=lambda r: r.percent)}
    names = ", ".join(ratio.model.removeprefix("Qwen2.5-") for ratio in front)
    saved = ", ".join(f"{name} {r.percent:.1f} % ({r.size})" for name, r in largest.items())
    return "\n".join(
        (
            f"Front of the 25 Qwen2.5 configurations ({len(front)}): {names}.",
            f"Most pass@1 per kWh: {best.model}, {best.recomputed:.3f}.",
            f"Largest savings: {saved}.",
            f"Its text and tables disagree in {len(disagreements())} places "
            "(codejoule's documentation, page The thesis, recomputed).",
        )
    )


def _write_claims(folder: Path | None) -> None:
    tables = {"pass_at_kwh.csv": ratios(), "reductions.csv": reductions(), "claims.csv": claims()}
    _write(folder, tables)


def write_estimates(folder: Path | None, *, told: TextIO | None = None) -> None:
    """The estimator's tables and the checks of its figures as CSV in `folder`, where one is given;
    said on `told`, or on stdout."""
    _write(folder, {"tables.csv": thesis_tables(), "figure_checks.csv": figure_checks()}, told=told)


def _write(
    folder: Path | None, tables: Mapping[str, Sequence[Any]], *, told: TextIO | None = None
) -> None:
    """Each table in a CSV file of its name in `folder`, where one is given."""
    if folder is not None:
        for name, records in tables.items():
            write_csv(folder / name, records)
        print(f"Written to {folder}: {', '.join(tables)}", file=told)


def write_csv(path: Path, records: Sequence[Any]) -> None:
    """One row per dataclass of one kind, under its fields' names; `UserError` where the file cannot
    be written."""
    content = StringIO(newline="")
    writer = csv.writer(content)
    writer.writerow(field.name for field in fields(records[0]))
    writer.writerows(map(astuple, records))
    write_whole(path, content.getvalue())
