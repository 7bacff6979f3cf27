"""The ``codejoule`` command: everything that is not a Hydra job."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from codejoule.domain import visible

USAGE = 2
"""Exit code for wrong input, unless a command has results with that code."""


class _Parser(argparse.ArgumentParser):
    """Wrong arguments have the exit code of their command."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.get_default("error_code") or USAGE, f"{self.prog}: error: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets ``run``, what takes its arguments."""
    from codejoule.cli import analyze, doctor, estimate, evaluate, gate, meter, plan
    from codejoule.thesis import command as thesis

    parser: argparse.ArgumentParser = _Parser(
        prog="codejoule",
        description="What a correct program costs in energy. Jobs run with python src/main.py.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add_parser, run in (
        (evaluate.add_parser, evaluate.run),
        (estimate.add_parser, estimate.run),
        (plan.add_parser, plan.run),
        (gate.add_parser, gate.run),
        (analyze.add_parser, analyze.run),
        (thesis.add_parser, thesis.run),
        (thesis.add_import_parser, thesis.run),
        (doctor.add_parser, doctor.run),
        (meter.add_parser, meter.run),
    ):
        before = set(subparsers.choices)
        add_parser(subparsers)
        for name in set(subparsers.choices) - before:
            subparsers.choices[name].set_defaults(run=run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code. Wrong input is one message on stderr and exit
    code 2 (3 for ``gate``, whose 1 and 2 are verdicts); ``HYDRA_FULL_ERROR=1`` brings the traceback
    back, as it does for jobs."""
    parser = build_parser()
    args, more = parser.parse_known_args(argv)
    error_code = getattr(args, "error_code", USAGE)
    if more:
        # argparse takes KEY=VALUE after a flag for strangers, although there may be any number.
        if not hasattr(args, "overrides") or any(text.startswith("-") for text in more):
            parser.exit(
                error_code, f"{parser.prog}: error: unrecognized arguments: {' '.join(more)}\n"
            )
        args.overrides += more
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone; the interpreter must not write to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if error_code == USAGE else int(error_code)
    except Exception as error:
        from codejoule.config.explain import explain

        text = explain(error, args.overrides if hasattr(args, "overrides") else ())
        if text is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            if error_code == USAGE:
                raise
            traceback.print_exc()
        else:
            print(f"error: {visible(text)}", file=sys.stderr)
        return int(error_code)
