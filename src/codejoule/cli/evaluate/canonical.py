"""``codejoule evaluate --ground-truth``: which tasks can be solved in this environment."""

import argparse

from codejoule.cli.evaluate.options import evaluator_config, make_folder
from codejoule.cli.evaluate.report import truth_text
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Suite, visible
from codejoule.evaluation import (
    GroundTruth,
    Progress,
    canonical_sample,
    check_ground_truth,
    write_eval_results,
    write_ground_truth,
)
from codejoule.suites import load_suite_named

GROUND_TRUTH = "ground_truth.json"


def check_canonical(args: argparse.Namespace) -> None:
    """Judge the canonical solutions, as far as the cache does not know them; print, and write
    where ``--out`` says."""
    suite = load_suite_named(args.suite)
    config = evaluator_config(args, suite)
    if args.out is not None:
        make_folder(args.out)
    truth = judged_truth(args, config, suite)
    print(visible(truth_text(truth, suite=suite)))
    if args.out is None:
        return
    record_truth(args, truth, config, suite)
    solutions = [canonical_sample(task).solution for task in suite.tasks]
    write_eval_results(args.out / "eval_results.json", truth.verdicts, solutions)
    print(visible(f"Written to {args.out}: {GROUND_TRUTH}, eval_results.json"))


def judged_truth(args: argparse.Namespace, config: EvaluatorConfig, suite: Suite) -> GroundTruth:
    """The suite's canonical solutions, judged or from the cache."""
    progress = Progress(len(suite.tasks), verbose=args.verbose, what="canonical solutions")
    return check_ground_truth(
        suite.tasks,
        config=config,
        timeout_s=config.timeout_s or suite.timeout_s,
        fresh=args.fresh,
        on_kept=progress.keep,
        on_verdict=progress.add,
    )


def record_truth(
    args: argparse.Namespace, truth: GroundTruth, config: EvaluatorConfig, suite: Suite
) -> None:
    """Write ``ground_truth.json``."""
    write_ground_truth(
        args.out / GROUND_TRUTH,
        truth,
        suite=suite.name,
        checksum=suite.checksum,
        config=config,
        timeout_s=config.timeout_s or suite.timeout_s,
    )
