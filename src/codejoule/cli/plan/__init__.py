"""``codejoule plan``: what a sweep takes and what it will resolve, before it runs."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from codejoule.common.progress import say
from codejoule.config.schema import DETECTED_GPU, ExperimentConfig, GpuConfig
from codejoule.domain import visible

if TYPE_CHECKING:
    from codejoule.cli.plan.report import SweepPlan

_EXAMPLE = "codejoule plan model=qwen_0_5b,qwen_7b quant=none,gptq4 gpu=h200"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``codejoule plan``."""
    parser = subparsers.add_parser(
        "plan",
        help="what a sweep will take and which differences it will resolve, before it runs",
        description="Compose every job of a sweep and say what each and all will take (time, "
        "energy, memory: predictions), the smallest differences in energy and in pass@1 that the "
        "sweep will resolve, and what to change for smaller ones. Nothing is run, loaded or "
        "downloaded; no GPU is needed with gpu=.",
        epilog=f"example: {_EXAMPLE}",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as codejoule run -m takes them"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    from codejoule.cli.plan.report import as_json, as_text
    from codejoule.config.compose import compose_sweep

    plan = plan_sweep(compose_sweep(args.overrides))
    print(as_json(plan) if args.json else visible(as_text(plan)))
    return 0


def plan_sweep(experiments: Sequence[ExperimentConfig]) -> "SweepPlan":
    """The plan of a sweep with these jobs. Raises `ConfigError` for a card or a suite that is not
    there."""
    from codejoule.cli.plan.history import read_history, store_of
    from codejoule.cli.plan.jobs import plan_jobs, target_of
    from codejoule.cli.plan.report import SweepPlan
    from codejoule.cli.plan.resolution import outlook_of
    from codejoule.measurement import detect_hardware

    first = experiments[0]
    target = target_of(first, detect_hardware())
    history = read_history(store_of(first.tracking), first.tracking.experiment, target.runs_there)
    jobs = plan_jobs(experiments, target, history)
    return SweepPlan(
        target=target,
        jobs=tuple(jobs),
        outlook=outlook_of(jobs, target, history),
        store=history.uri,
        earlier_runs=0 if history.frame is None else len(history.frame),
    )


def announce(experiments: Sequence[ExperimentConfig]) -> list[float | None]:
    """Tell two lines of the plan at the start of a sweep, which runs on what is there, whatever
    ``gpu=`` says; what each job is predicted to take [s], None where nothing tells it. A sweep does
    not depend on the plan: what goes wrong is one line instead."""
    from codejoule.cli.plan.report import two_lines

    here = [replace(own, gpu=GpuConfig(name=DETECTED_GPU)) for own in experiments]
    try:
        plan = plan_sweep(here)
        say(two_lines(plan))
    except Exception as error:
        say(f"There is no plan of this sweep: {error}")
        return [None] * len(experiments)
    return [
        None if job.generation_s is None else job.generation_s + (job.other_s or 0.0)
        for job in plan.jobs
    ]
