"""``codejoule thesis``: what Buis (2024) computed, measured and said, and what follows from it."""

import argparse
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from codejoule.config import project_root

_IMPORT = (
    "Record the 34 configurations that Buis (2024) measured as runs of their own kind "
    "(codejoule.energy_source=published): analysis shows them beside your runs and never puts both "
    "into one table. A configuration that is there already is left alone. The store is a job's: "
    "tracking.experiment=..., tracking.dir=..., tracking=server."
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register ``codejoule thesis tables|claims|import``."""
    parser = subparsers.add_parser(
        "thesis",
        help="the thesis' tables, claims and published results",
        description="Compute the tables of Buis (2024) anew, hold its claims against "
        "its own tables, or put its published results into MLflow (docs/thesis.md).",
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    tables = parts.add_parser(
        "tables", help="the estimator's tables, by the thesis' equations 3.3 to 3.34"
    )
    tables.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="also write them, and what its text says of its figures",
    )
    claims = parts.add_parser("claims", help="where the thesis' text and tables disagree")
    _add_out(claims)
    _add_import(parts, "import")


def add_import_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register ``codejoule import-thesis``, another name of ``codejoule thesis import``."""
    _add_import(subparsers, "import-thesis")


def _add_import(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str
) -> None:
    """One parser for both names of the import."""
    parser = subparsers.add_parser(
        name,
        help="put the thesis' 34 published configurations into MLflow",
        description=_IMPORT,
        epilog=f"example: codejoule {'thesis ' * (name == 'import')}{name} "
        "tracking.experiment=thesis",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="tracking.*, as python src/main.py has it"
    )
    _add_out(parser)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="also write what the published figures give: pass@kWh and front, reductions, and "
        "where the thesis' text and tables disagree",
    )


def run(args: argparse.Namespace) -> int:
    """Print one part and write it where that is asked for.

    Raises `UserError` for a store or a folder that cannot be written.
    """
    return {"tables": _tables, "claims": _claims, "import": run_import}[args.part](args)


def run_import(args: argparse.Namespace) -> int:
    """Import, and say what was added; 0 also where all was there."""
    from codejoule.config.compose import compose_experiment
    from codejoule.thesis.importing import import_results
    from codejoule.tracking import prepare_store

    tracking = compose_experiment(args.overrides).tracking
    store = prepare_store(tracking, project_root=project_root())
    added, there = import_results(store)
    print(
        f"{added} published {'run' if added == 1 else 'runs'} added to experiment "
        f"{store.experiment!r} in {store.uri}; {there} were there."
    )
    print(_summary())
    _tell(args.out, _write_claims(args.out) if args.out else [])
    return 0


def _tables(args: argparse.Namespace) -> int:
    from codejoule.thesis.estimator import thesis_tables
    from codejoule.thesis.writing import write_estimates

    _print_records(thesis_tables())
    _tell(args.out, write_estimates(args.out) if args.out else [])
    return 0


def _claims(args: argparse.Namespace) -> int:
    from codejoule.thesis import claims

    for claim in (claim for claim in claims() if not claim.agrees):
        print(f"{claim.place}: {claim.claim}: {claim.stated}\n    {claim.tables}")
    print(f"\n{_summary()}")
    _tell(args.out, _write_claims(args.out) if args.out else [])
    return 0


def _print_records(records: Sequence[Any]) -> None:
    rows = [[field.name for field in fields(records[0])]]
    rows += [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in astuple(r)] for r in records]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _summary() -> str:
    from codejoule.thesis import disagreements, ratios, reductions

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
            f"Its text and tables disagree in {len(disagreements())} places: docs/thesis.md.",
        )
    )


def _write_claims(folder: Path) -> list[Path]:
    from codejoule.thesis import claims, ratios, reductions
    from codejoule.thesis.writing import write_tables

    return write_tables(
        folder,
        {
            "pass_at_kwh.csv": ratios(),
            "reductions.csv": reductions(),
            "claims.csv": claims(),
        },
    )


def _tell(folder: Path | None, written: Sequence[Path]) -> None:
    if written:
        print(f"Written to {folder}: {', '.join(path.name for path in written)}")
