"""The ``codejoule`` command."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from codejoule import __version__
from codejoule.common.display import displayed
from codejoule.common.progress import messages_told
from codejoule.config.schema import ProgressMode
from codejoule.domain import visible

QUIET = "--quiet"
"""A flag of every command. ``codejoule run --quiet`` means ``progress=none``."""
USAGE = 2
"""Exit code for wrong input, unless a command has results with that code."""


class _Parser(argparse.ArgumentParser):
    """Wrong arguments have the exit code of their command."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.get_default("error_code") or USAGE, f"{self.prog}: error: {message}\n")


def _more_choices(folder: str) -> str:
    """What Hydra's own --config-dir does, as an override."""
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{folder}: no such folder")
    return f'hydra.searchpath=["file://{path}"]'


def build_parser() -> tuple[
    argparse.ArgumentParser, Mapping[str, Callable[[argparse.Namespace], int]]
]:
    """The parser of all commands, and by a command's name what takes its arguments."""
    from codejoule.cli import (
        analyze,
        cascade,
        doctor,
        env,
        estimate,
        evaluate,
        export,
        gate,
        meter,
        new,
        plan,
        published,
        server,
        sync,
        ui,
    )
    from codejoule.thesis import command as thesis

    parser: argparse.ArgumentParser = _Parser(
        prog="codejoule",
        description="What a correct program costs in energy.",
    )
    parser.add_argument("--version", action="version", version=f"codejoule {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subparsers.add_parser("run", add_help=False, help="measure one job, or with -m a sweep")
    commands = {
        "evaluate": (evaluate.add_parser, evaluate.run),
        "estimate": (estimate.add_parser, estimate.run),
        "plan": (plan.add_parser, plan.run),
        "gate": (gate.add_parser, gate.run),
        "analyze": (analyze.add_parser, analyze.run),
        "cascade": (cascade.add_parser, cascade.run),
        "thesis": (thesis.add_parser, thesis.run),
        "import-thesis": (thesis.add_import_parser, thesis.run),
        "export": (export.add_parser, export.run),
        "import-published": (published.add_parser, published.run),
        "new": (new.add_parser, new.run),
        "ui": (ui.add_parser, ui.run),
        "server": (server.add_parser, server.run),
        "sync": (sync.add_parser, sync.run),
        "doctor": (doctor.add_parser, doctor.run),
        "env": (env.add_parser, env.run),
        "meter": (meter.add_parser, meter.run),
    }
    for add_parser, _ in commands.values():
        add_parser(subparsers)
    for name in ("estimate", "plan"):
        subparsers.choices[name].add_argument(
            "--config-dir",
            metavar="DIR",
            type=_more_choices,
            help="folder with choices of your own, such as DIR/model/mine.yaml; those of the "
            "working directory's conf/ are there without it",
        )
    for each in subparsers.choices.values():
        each.add_argument(QUIET, action="store_true", help="print only the answer and errors")
    return parser, {name: run for name, (_, run) in commands.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code. Wrong input is one message on stderr and exit
    code 2 (3 for ``gate``, whose 1 and 2 are verdicts); ``HYDRA_FULL_ERROR=1`` brings the traceback
    back, as it does for jobs. What follows ``run`` is Hydra's to read, its flags included."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"]:
        from codejoule.cli.launch import launch

        return launch(arguments[1:])
    if arguments[:1] == ["-sc"]:
        return _complete(arguments)
    parser, commands = build_parser()
    args, more = parser.parse_known_args(arguments)
    error_code = getattr(args, "error_code", USAGE)
    if more:
        # argparse takes KEY=VALUE after a flag for strangers, although there may be any number.
        if not hasattr(args, "overrides") or any(text.startswith("-") for text in more):
            parser.exit(
                error_code, f"{parser.prog}: error: unrecognized arguments: {' '.join(more)}\n"
            )
        args.overrides += more
    if getattr(args, "config_dir", None):
        args.overrides.append(args.config_dir)
    try:
        with displayed(ProgressMode.none if args.quiet else ProgressMode.auto), messages_told():
            return int(commands[args.command](args))
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


def _complete(arguments: Sequence[str]) -> int:
    """Answer a shell that completes ``codejoule run ...``: what Hydra's completion, installed with
    ``eval "$(codejoule run -sc install=bash)"``, calls the program with."""
    from codejoule.cli.launch import launch

    program, run, rest = os.environ.get("COMP_LINE", "").partition(" run ")
    if not run:
        return 0
    os.environ["COMP_LINE"] = f"{program} {rest}"
    return launch(arguments)
