"""``codejoule cascade``: which model answers which task, so that energy and accuracy balance."""

import argparse
import json

from codejoule.common.progress import doing, pause
from codejoule.config import ConfigError, UserError, default_store
from codejoule.config.credentials import refuse_credentials
from codejoule.domain import visible

_EPILOG = """\
examples:
  codejoule cascade --where "params.suite.name = 'bigcodebench'"
  codejoule cascade --sweep 2026-11-23_10-15-00 --min-pass-at-1 0.6
  codejoule cascade --min-pass-at-1 0.6 --hold-out 0.5 --run
  codejoule cascade --policy "qwen_0_5b none b8 then qwen_7b none b8" --run
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "cascade",
        help="policies such as a small model first and a large one where it fails, from runs",
        description="Find policies from the figures of tasks of runs that exist: one model, a "
        "cascade (the next model answers where a program fails the shown tests), or a model for "
        "each domain or length of prompt. The verdict is by the hidden tests. Programs that have "
        "no verdict by the shown and the hidden tests apart are judged in the sandbox first.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--experiment", metavar="NAME", default="codejoule", help="default: %(default)s"
    )
    parser.add_argument(
        "--where", metavar="FILTER",
        help="only some runs, in MLflow's search syntax, e.g. \"params.model.name = 'starter'\"",
    )  # fmt: skip
    parser.add_argument("--sweep", metavar="SWEEP", help="only the jobs of this sweep: name or id")
    parser.add_argument(
        "--mix", metavar="FACT,...", default="",
        help="combine runs although they differ in this, as of codejoule analyze",
    )  # fmt: skip
    parser.add_argument(
        "--shown", metavar="N", type=int,
        help="tests of each task, the first ones, that a cascade may look at; default: the runs' "
        "suite.shown_tests, else 1",
    )  # fmt: skip
    parser.add_argument(
        "--min-pass-at-1", metavar="P", type=float,
        help="choose the policy with least energy that reaches pass@1 P; default: least energy per "
        "correct program",
    )  # fmt: skip
    parser.add_argument(
        "--max-j-per-task", metavar="J", type=float,
        help="choose the policy with the best pass@1 that takes at most J per task",
    )  # fmt: skip
    parser.add_argument(
        "--hold-out", metavar="SHARE", type=float, default=0.0,
        help="share of the tasks whose figures are not looked at; --run is then on these",
    )  # fmt: skip
    parser.add_argument(
        "--run", action="store_true",
        help="carry the chosen policy out, as ordinary runs below one parent, and compare with the "
        "prediction",
    )  # fmt: skip
    parser.add_argument(
        "--policy",
        metavar="NAME",
        help="predict and run this policy instead, as the table calls it",
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0,
        help="of folds, resamples and held-out tasks; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--tracking-uri", metavar="URI",
        help="sqlite:///... or http://...; default: mlruns/mlflow.db below CODEJOULE_HOME or the "
        "current folder",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Find, print, and carry out where that is asked for. Raises `UserError` for runs that no
    policy can be made of."""
    from codejoule.analysis import COMPARABLE, load_runs
    from codejoule.cli.cascade import report
    from codejoule.cli.cascade.found import find
    from codejoule.cli.cascade.real import carry_out
    from codejoule.cli.cascade.study import study
    from codejoule.cli.evaluate.stored import tracking_at
    from codejoule.experiment import stopping
    from codejoule.statistics.policies import Wanted

    if not 0 <= args.hold_out < 1:
        raise ConfigError(f"--hold-out {args.hold_out:g}: a share from 0 to below 1, e.g. 0.5")
    if args.shown is not None and args.shown < 1:
        raise ConfigError(f"--shown {args.shown}: at least 1 test is shown")
    mix = [name.strip() for name in args.mix.split(",") if name.strip()]
    if unknown := [name for name in mix if name not in COMPARABLE]:
        raise UserError(
            f"--mix {', '.join(unknown)}: no such fact; choose among {', '.join(COMPARABLE)}"
        )
    try:
        wanted = Wanted(min_pass_at_1=args.min_pass_at_1, max_j=args.max_j_per_task)
    except ValueError as error:
        raise ConfigError(f"no such goal: {error}") from error
    refuse_credentials([("--tracking-uri", args.tracking_uri)])
    uri = args.tracking_uri or default_store()
    tracking = tracking_at(uri, args.experiment)
    outcome = None
    with stopping.listening():
        doing("reading the runs")
        loaded = load_runs(uri, args.experiment, where=args.where, sweep=args.sweep)
        members = study(loaded, tracking, shown=args.shown, mix=mix)
        doing("choosing among policies")
        found = find(members, wanted, hold_out=args.hold_out, named=args.policy, seed=args.seed)
        if not args.json:
            pause()
            print(visible(report.text(found)))
        if args.run:
            outcome = carry_out(found, tracking, describe=report.note)
    pause()
    if args.json:
        print(json.dumps(report.as_json(found, outcome), indent=2))
    elif outcome is not None:
        print(visible(f"\n{report.outcome_text(found, outcome)}"))
        print(f"Recorded in {uri}, below run {outcome.run_id}")
    return 0
