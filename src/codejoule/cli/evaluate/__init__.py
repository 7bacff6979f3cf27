"""``codejoule evaluate``: judge samples that exist already."""

import argparse

from codejoule.cli.evaluate.options import add_parser, check

__all__ = ["add_parser", "run"]


def run(args: argparse.Namespace) -> int:
    """Judge, write, print; raises ConfigError or UserError for unusable input."""
    from codejoule.cli.evaluate.inspection import inspect_task
    from codejoule.cli.evaluate.judging import check_canonical, judge_samples
    from codejoule.measurement import Work, at_work

    check(args)
    with at_work("codejoule evaluate", Work.evaluation):
        if args.inspect is not None:
            inspect_task(args)
        elif args.samples is not None:
            judge_samples(args)
        else:
            check_canonical(args)
    return 0
