"""``codejoule import-thesis``: the thesis' published results in MLflow, beside one's own."""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.cli.records import write_csv
from codejoule.config import project_root

if TYPE_CHECKING:
    from codejoule.estimate.thesis.published import PublishedResult
    from codejoule.tracking import Store

_DERIVED = (
    "energy_generation_j", "energy_gpu_net_j", "energy_per_output_token_j", "energy_per_task_j",
    "energy_per_solved_task_j", "latency_s", "mean_power_w", "output_tokens", "pass_at_1_ci_low",
    "pass_at_1_ci_high",
)  # fmt: skip
"""Metrics worked out from the printed ones."""
_ENERGY_NOTE = (
    "GPU, idle power subtracted, generation with evaluation (thesis, sections 3.1 and 3.2); the "
    "thesis does not separate the two, and evaluation uses no GPU"
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "import-thesis",
        help="put the thesis' 34 published configurations into MLflow",
        description="Record the 34 configurations that Buis (2024) measured as runs of their own "
        "kind (codejoule.energy_source=published): analysis shows them beside your runs and never "
        "puts both into one table. A configuration that is there already is left alone. The store "
        "is a job's: tracking.experiment=..., tracking.dir=..., tracking=server.",
        epilog="example: codejoule import-thesis tracking.experiment=thesis",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="tracking.*, as python src/main.py has it"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="also write what the published figures give: pass@kWh and front, reductions, and "
        "where the thesis' text and tables disagree",
    )


def run(args: argparse.Namespace) -> int:
    """Import, and say what was added; 0 also where all was there.

    Raises `UserError` for a store or a folder that cannot be written.
    """
    from codejoule.cli.estimate.composed import compose_experiment
    from codejoule.tracking import prepare_store

    tracking = compose_experiment(args.overrides).tracking
    store = prepare_store(tracking, project_root=project_root())
    added, there = import_results(store)
    print(
        f"{added} published {'run' if added == 1 else 'runs'} added to experiment "
        f"{store.experiment!r} in {store.uri}; {there} were there."
    )
    print(_summary())
    if args.out:
        names = ", ".join(path.name for path in _write(args.out))
        print(f"Written to {args.out}: {names}")
    return 0


def import_results(store: "Store") -> tuple[int, int]:
    """Add what the store does not have; how many were added, and how many were there."""
    from codejoule.estimate.thesis.published import CITATION, published_configurations

    store.close_stale()
    rows = published_configurations()
    missing = [row for row in rows if store.find_finished(_fingerprint(row)) is None]
    if not missing:
        return 0, len(rows)
    tags = {"codejoule.published": "true", "codejoule.source": CITATION}
    parent = store.start_sweep("thesis", ["import-thesis"], tags)
    for row in missing:
        _record(store, row, parent)
    store.end_sweep(parent, "FINISHED")
    return len(missing), len(rows) - len(missing)


def _record(store: "Store", row: "PublishedResult", parent: str) -> None:
    tracked = store.start_run(
        name=f"thesis-{row.model}-{row.quant}-b{row.batch_size}",
        parent_run_id=parent,
        tags=_tags(row),
        params={
            "model.name": row.model,
            "quant.name": row.quant,
            "batch.size": row.batch_size,
            "generation.name": "greedy",
            "suite.name": "bigcodebench",
            "repeat": 1,
        },
    )
    # The run was not made where its import is: the process that a RUNNING run needs is gone now.
    elsewhere = {"codejoule.host": "published"}
    tracked.log(metrics=published_metrics(row), tags=elsewhere)
    tracked.finish("FINISHED")


def published_metrics(row: "PublishedResult") -> dict[str, float]:
    """The row's figures under the names that runs have them, and what follows from them."""
    from codejoule.domain.accuracy import wilson_interval
    from codejoule.domain.metrics import J_PER_KWH
    from codejoule.estimate.thesis.published import TASKS

    energy_j, latency_s = row.energy_kwh * J_PER_KWH, 60 * row.latency_min
    tokens = row.throughput_tokens_per_s * latency_s
    low, high = wilson_interval(round(row.pass_at_1 * TASKS), TASKS)
    return {
        "tasks": TASKS,
        "energy_total_kwh": row.energy_kwh,
        "energy_generation_j": energy_j,
        "energy_gpu_net_j": energy_j,
        "latency_s": latency_s,
        "throughput_tokens_per_s": row.throughput_tokens_per_s,
        "output_tokens": tokens,
        "mean_power_w": energy_j / latency_s,
        "energy_per_output_token_j": energy_j / tokens,
        "energy_per_task_j": energy_j / TASKS,
        "energy_per_solved_task_j": energy_j / (row.pass_at_1 * TASKS),
        "pass_at_1": row.pass_at_1,
        "pass_at_1_ci_low": low,
        "pass_at_1_ci_high": high,
        "pass_at_1_per_kwh": row.pass_at_1_per_kwh or row.pass_at_1 / row.energy_kwh,
    }


def _tags(row: "PublishedResult") -> dict[str, str]:
    from codejoule.estimate.thesis.published import CITATION, GPU

    derived = [*_DERIVED, *([] if row.pass_at_1_per_kwh else ["pass_at_1_per_kwh"])]
    batch = "" if row.table != "5.18" else " Its batch is of samples of one task."
    return {
        "codejoule.fingerprint": _fingerprint(row),
        "codejoule.published": "true",
        "codejoule.source": CITATION,
        "codejoule.source_table": row.table,
        "codejoule.source_model": row.printed_model,
        "codejoule.derived": ", ".join(derived),
        "codejoule.energy_source": "published",
        "codejoule.energy_source_evaluation": "published",
        "codejoule.energy_scope": "gpu",
        "codejoule.energy_note": _ENERGY_NOTE,
        "codejoule.weights": "hub",
        "codejoule.length": "free",
        "codejoule.gpu": GPU,
        "mlflow.note.content": f"Published, not measured here: {row.printed_model} in table "
        f"{row.table} of {CITATION}.{batch}",
    }


def _fingerprint(row: "PublishedResult") -> str:
    return hashlib.sha256(f"thesis {astuple(row)}".encode()).hexdigest()


def _summary() -> str:
    from codejoule.analysis.published import disagreements, ratios, reductions

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


def _write(folder: Path) -> list[Path]:
    from codejoule.analysis.published import claims, ratios, reductions

    tables: dict[str, Sequence[Any]] = {
        "pass_at_kwh.csv": ratios(),
        "reductions.csv": reductions(),
        "claims.csv": claims(),
    }
    for name, rows in tables.items():
        write_csv(folder / name, rows)
    return [folder / name for name in tables]
