"""``codejoule evaluate``: judge samples that exist already."""

import argparse
from pathlib import Path

from codejoule.cli.evaluate.shard import Shard
from codejoule.config import ConfigError
from codejoule.config.schema import EvaluatorIsolation, Split

_EPILOG = """\
examples:
  codejoule evaluate --suite bigcodebench --samples samples.jsonl --out results
  codejoule evaluate --suite bigcodebench --ground-truth
  codejoule evaluate --suite bigcodebench --samples samples.jsonl --inspect BigCodeBench/13
  codejoule evaluate --suite bigcodebench --samples samples.jsonl --shard 3/8 --out part3
  codejoule evaluate --merge part1 part2 part3 part4 part5 part6 part7 part8 --out results
  codejoule evaluate --run 0a1b2c3d4e5f60718293a4b5c6d7e8f9

Killed? Start the same command again: verdicts lie in DIR/verdicts.jsonl as they come, and only
what is missing, or has changed since, is judged.
"""


_OF_SAMPLES = ("sanitize", "split", "model", "compare", "sample")
_OF_FILES = ("memory_mib", "fresh", "json", "verbose")
"""Options of judging files that a run's configuration or its page in MLflow stands for."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="judge samples that exist already, in the sandbox",
        description="Judge samples in BigCodeBench's formats, for which no model and no MLflow is "
        "needed, or those of a run (--run). Writes eval_results.json and pass_at_k.json. Failing "
        "samples are a result, exit code 0; input that cannot be judged is exit code 2.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--suite", metavar="S",
        help="name of a suite, or a file of tasks; with --run only a file, where the run's lies "
        "elsewhere here",
    )  # fmt: skip
    _add_what(parser)
    _add_parts(parser)
    _add_how(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to judge")
    what.add_argument(
        "--samples", metavar="FILE", type=Path,
        help="JSONL (.gz too) with task_id and solution, or completion, per line; a folder of "
        "programs; or an eval_results.json, whose programs are judged again and compared",
    )  # fmt: skip
    what.add_argument("--out", metavar="DIR", type=Path, help="folder to write to")
    what.add_argument(
        "--ground-truth", action="store_true",
        help="judge the canonical solutions, too or alone: which tasks are valid here? Kept in "
        "the user's cache",
    )  # fmt: skip
    what.add_argument(
        "--inspect", metavar="TASK",
        help="show prompt, program, tests and output of one task; without --samples those of "
        "its canonical solution",
    )  # fmt: skip
    what.add_argument(
        "--sample", metavar="N", type=int, default=0,
        help="with --inspect: which of the task's samples, from 0; default: 0",
    )  # fmt: skip
    what.add_argument(
        "--sanitize", action="store_true",
        help="sanitize raw_solution (else solution, else prompt and completion) first",
    )  # fmt: skip
    what.add_argument(
        "--split", choices=[split.value for split in Split],
        help="which prompt the samples answer, for the record; default: as the file's name says",
    )  # fmt: skip
    what.add_argument(
        "--model", metavar="NAME", help="model, for the record; default: as the file's name says"
    )
    what.add_argument(
        "--compare", metavar="FILE", type=Path,
        help="an eval_results.json of the same samples: say where its verdicts differ",
    )  # fmt: skip


def _add_parts(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_argument_group("on several machines")
    parts.add_argument(
        "--shard", metavar="I/N", type=Shard.parse,
        help="judge only the samples I, I+N, I+2N ... of the file (counted from 1)",
    )  # fmt: skip
    parts.add_argument(
        "--merge", metavar="DIR", type=Path, nargs="+",
        help="make one evaluation of the folders of all its parts, into --out; judges nothing",
    )  # fmt: skip
    parts.add_argument(
        "--run", metavar="ID",
        help="judge the samples of this run of MLflow's that have no verdict, and record the "
        "verdicts in it",
    )  # fmt: skip
    parts.add_argument(
        "--tracking-uri", metavar="URI",
        help="with --run: the store that has it; default: mlruns/mlflow.db below CODEJOULE_HOME or "
        "here",
    )  # fmt: skip
    parts.add_argument(
        "--again", action="store_true", help="with --run: judge the samples that have one, too"
    )
    parts.add_argument(
        "--ray", metavar="ADDRESS",
        help="with --run: judge on the nodes of a Ray cluster, HOST:6379 or auto",
    )  # fmt: skip


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how to judge")
    how.add_argument(
        "--timeout-s", metavar="N", type=float, help="time limit per sample; default: the suite's"
    )
    how.add_argument(
        "--workers",
        metavar="N",
        type=int,
        help="samples judged at once; default: one per core, and more while samples sleep",
    )
    how.add_argument(
        "--memory-mib", metavar="N", type=int,
        help="memory limit per sample [MiB], beyond which it fails; default: 30720, as in "
        "BigCodeBench, or four fifths of the machine's memory if that is less. Where a control "
        "group (a batch job's, a container's) has less, a sample that needs it is not judged",
    )  # fmt: skip
    how.add_argument(
        "--python", metavar="PATH",
        help="Python that runs the samples; default: that of `codejoule env bigcodebench` where "
        "the tasks use more than the standard library, else this one",
    )  # fmt: skip
    how.add_argument(
        "--isolation", choices=[isolation.value for isolation in EvaluatorIsolation],
        default=EvaluatorIsolation.sandbox.value,
        help="process: for kernels without namespaces; it protects much less, "
        "since samples then share this machine's file system, processes and users",
    )  # fmt: skip
    how.add_argument(
        "--fresh", action="store_true", help="judge everything, whatever was judged before"
    )
    how.add_argument(
        "--json", action="store_true", help="print summary.json (or the ground truth) instead"
    )
    how.add_argument("--verbose", action="store_true", help="one line on each failure")


def run(args: argparse.Namespace) -> int:
    """Judge, write, print; raises ConfigError or UserError for unusable input."""
    _check(args)
    if args.run is not None:
        # It announces itself while it judges.
        from codejoule.cli.evaluate.stored import judge_stored

        judge_stored(args)
        return 0
    from codejoule.cli.evaluate.judging import check_canonical, inspect_task, judge_samples, merge
    from codejoule.measurement import Work, at_work

    if args.merge is not None:
        merge(args)
        return 0
    with at_work("codejoule evaluate", Work.evaluation):
        if args.inspect is not None:
            inspect_task(args)
        elif args.samples is not None:
            judge_samples(args)
        else:
            check_canonical(args)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raise ConfigError for options that do not go together."""
    if (args.run or args.merge) and args.isolation != EvaluatorIsolation.sandbox.value:
        raise ConfigError("--isolation: it says how --samples are judged")
    if args.run is not None:
        for option in ("samples", "out", "inspect", "merge", "shard", *_OF_SAMPLES, *_OF_FILES):
            _refuse(args, option, "--run judges what the run has, as it was configured")
        return
    for option in ("tracking_uri", "again", "ray"):
        _refuse(args, option, "it says something of a run; give --run ID")
    if args.merge is not None:
        for option in ("suite", "samples", "inspect", "shard", "ground_truth", *_OF_SAMPLES,
                       "memory_mib", "fresh", "timeout_s", "workers", "python"):  # fmt: skip
            _refuse(args, option, "--merge judges nothing")
        if args.out is None:
            raise ConfigError("--merge: where to? Give --out DIR")
        return
    if args.suite is None:
        raise ConfigError("which tasks? Give --suite, a name or a file (or --run ID)")
    if args.shard is not None and (args.samples is None or args.inspect is not None):
        raise ConfigError(f"--shard {args.shard}: it is a part of samples; give --samples FILE")
    if args.samples is None and args.inspect is None and not args.ground_truth:
        raise ConfigError(
            "nothing to judge: give --samples FILE with --out DIR, or --ground-truth, or "
            "--inspect TASK"
        )
    if args.inspect is not None:
        for option in ("out", "ground_truth", "compare", "fresh", "json"):
            _refuse(args, option, "--inspect prints one task and writes nothing")
    elif args.samples is not None and args.out is None:
        raise ConfigError(f"--samples {args.samples}: where to? Give --out DIR")
    if args.samples is None:
        for option in _OF_SAMPLES:
            _refuse(args, option, "it says something of samples; give --samples FILE")
    if args.inspect is None:
        _refuse(args, "sample", "it says which sample to look at; give --inspect TASK")
    if args.sample < 0:
        raise ConfigError(f"--sample {args.sample}: samples are counted from 0")


def _refuse(args: argparse.Namespace, option: str, why: str) -> None:
    if getattr(args, option):
        raise ConfigError(f"--{option.replace('_', '-')}: {why}")
