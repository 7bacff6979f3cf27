"""The ``codejoule`` command: everything that is not a Hydra job."""

import argparse
import os
import sys
from collections.abc import Sequence

from codejoule.domain import visible


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code. Wrong input is one message on stderr and exit
    code 2; ``HYDRA_FULL_ERROR=1`` brings the traceback back, as it does for jobs."""
    from codejoule.cli import analyze, doctor, estimate, evaluate, meter
    from codejoule.thesis import command as thesis

    parser = argparse.ArgumentParser(
        prog="codejoule",
        description="What a correct program costs in energy. Jobs run with python src/main.py.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands = {
        "evaluate": (evaluate.add_parser, evaluate.run),
        "estimate": (estimate.add_parser, estimate.run),
        "analyze": (analyze.add_parser, analyze.run),
        "thesis": (thesis.add_parser, thesis.run),
        "import-thesis": (thesis.add_import_parser, thesis.run),
        "doctor": (doctor.add_parser, doctor.run),
        "meter": (meter.add_parser, meter.run),
    }
    for add_parser, _ in commands.values():
        add_parser(subparsers)
    args, more = parser.parse_known_args(argv)
    if more:
        # argparse takes KEY=VALUE after a flag for strangers, although there may be any number.
        if not hasattr(args, "overrides") or any(text.startswith("-") for text in more):
            parser.error(f"unrecognized arguments: {' '.join(more)}")
        args.overrides += more
    try:
        return int(commands[args.command][1](args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone; the interpreter must not write to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from codejoule.config.explain import explain

        text = explain(error, args.overrides if hasattr(args, "overrides") else ())
        if text is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"error: {visible(text)}", file=sys.stderr)
        return 2
