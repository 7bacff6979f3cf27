"""``codejoule analyze``: tables and figures from the runs in MLflow."""

import argparse
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.common.mlflow_client import is_server
from codejoule.common.progress import doing, pause
from codejoule.config import UserError, default_store, home
from codejoule.config.credentials import refuse_credentials
from codejoule.domain import visible

if TYPE_CHECKING:
    from codejoule.analysis import Options


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "analyze",
        help="compare the runs in MLflow: one answer, tables, statistics, one HTML page",
        description="Compare the finished runs of an experiment. Energy from different sources, "
        "devices or machines, and answers to different tasks, are put into one table only where "
        "--mix says so. Exit code 1 if there is nothing to analyse.",
    )
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
        "--mix",
        metavar="FACT,...",
        default="",
        help="compare runs although they differ in this: suite, split, tasks, energy source, "
        "energy scope, evaluation energy source, weights, length, GPU, machine, "
        "concurrent jobs, published, source",
    )
    parser.add_argument(
        "--min-pass-at-1",
        metavar="P",
        type=float,
        help="take the configuration with least energy among those that reach pass@1 P with "
        "95 %% confidence; default: least energy per correct program",
    )
    parser.add_argument(
        "--max-kwh",
        metavar="E",
        type=float,
        help="take the configuration with the best pass@1 that takes at most E kWh for a run",
    )
    parser.add_argument(
        "--margin",
        metavar="D",
        type=float,
        default=0.02,
        help='loss of pass@1 up to which "no loss" is said (non-inferiority); default: %(default)s',
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="print every finding, not the answer and its table alone",
    )
    parser.add_argument(
        "--json", action="store_true", help="print analysis.json instead of the answer"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("outputs/analysis"),
        help="folder to write to; default: %(default)s",
    )
    parser.add_argument(
        "--no-log",
        dest="log",
        action="store_false",
        help="do not log the page in MLflow (for a store that may only be read)",
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="sqlite:///... or http://...; default: mlruns/mlflow.db below CODEJOULE_HOME "
        "or the current folder",
    )


def run(args: argparse.Namespace) -> int:
    """Analyse and return the exit code: 1 where there are no finished runs. Raises `UserError` for
    a store, an experiment or a filter that is not there or not valid."""
    from codejoule.analysis import MAKE_RUNS, analyse, load_runs
    from codejoule.report import (
        LINES,
        log_report,
        render_answers,
        render_group,
        write_comparison,
        write_report,
        write_tables,
    )

    options = _options(args)
    refuse_credentials([("--tracking-uri", args.tracking_uri)])
    uri = args.tracking_uri or default_store()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        print(
            visible(f"There are no runs yet: {uri} does not exist. {MAKE_RUNS}."), file=sys.stderr
        )
        return 1
    doing("reading the runs")
    loaded = load_runs(uri, args.experiment, where=args.where, sweep=args.sweep)
    pause()
    if loaded.frame.empty:
        where = f" with --where {args.where!r}" if args.where else ""
        left_out = f" (left out: {'; '.join(loaded.left_out)})" if loaded.left_out else ""
        said = f"Experiment {loaded.experiment!r} in {loaded.uri} has no finished runs"
        print(visible(f"{said}{where}{left_out}. {MAKE_RUNS}."), file=sys.stderr)
        return 1
    doing("comparing the runs", f"{len(loaded.frame)} of them")
    analysis = analyse(loaded, options)
    doing("writing tables, figures and the report")
    written = [
        *write_tables(analysis, args.out),
        *write_comparison(analysis, args.out),
        write_report(analysis, loaded, args.out),
    ]
    notes = [f"Left out: {'; '.join(loaded.left_out)}."] if loaded.left_out else []
    notes += analysis.notes
    tail = [
        f"Runs of experiment {loaded.experiment} in {loaded.uri}",
        f"Written to {args.out}: {', '.join(path.name for path in written)}",
    ]
    if (told := _waiting(uri)) is not None:
        tail.append(f"{told}.")
    if args.log:
        run_id = log_report(loaded, written[-1])
        tail.append(f"In MLflow: report/index.html of run {run_id}")
    tail.append(f"Open {written[-1].resolve().as_uri()}")
    pause()
    if args.json:
        # As in analysis.json, where what is not a number is null.
        print((args.out / "analysis.json").read_text(encoding="utf-8").rstrip())
        return 0
    if args.full:
        for group in analysis.groups:
            print(visible(f"\n{render_group(group)}"))
        print(visible("".join(f"\n{note}\n" for note in notes)))
    else:
        notes = [textwrap.shorten(note, 120, placeholder=" ... (--full)") for note in notes]
        room = LINES - len(notes) - len(tail) - bool(notes)
        print(visible(render_answers(analysis.groups, lines=room)))
        print(visible("".join(f"\n{note}" for note in notes)))
    print("\n".join(tail))
    return 0


def _waiting(uri: str) -> str | None:
    """A sentence on runs that wait here for the server at `uri`; None where there are none."""
    from codejoule.tracking import Outbox

    return Outbox(home() / "mlruns", uri).told() if is_server(uri) else None


def _options(args: argparse.Namespace) -> "Options":
    """What the arguments ask for; `UserError` where that is not possible."""
    from codejoule.analysis import COMPARABLE, Goal, Options

    mix = [name.strip() for name in args.mix.split(",") if name.strip()]
    unknown = [name for name in mix if name not in COMPARABLE]
    if unknown:
        raise UserError(
            f"--mix {', '.join(unknown)}: no such fact; choose among {', '.join(COMPARABLE)}"
        )
    if not 0 < args.margin < 1:
        raise UserError(f"--margin {args.margin:g} must lie between 0 and 1, e.g. 0.02")
    try:
        goal = Goal(min_pass_at_1=args.min_pass_at_1, max_kwh=args.max_kwh)
    except ValueError as error:
        raise UserError(f"no such goal: {error}") from error
    return Options(margin=args.margin, goal=goal, mix=tuple(mix))
