"""``codejoule evaluate --samples`` and ``--ground-truth``: judge, or what is left to judge."""

import argparse
import json
import time
from typing import Any

from codejoule.cli.evaluate.options import evaluator_config, make_folder
from codejoule.cli.evaluate.programs import Submission, read_submission
from codejoule.cli.evaluate.report import Report, truth_text
from codejoule.config import ConfigError, write_whole
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Suite, visible
from codejoule.evaluation import (
    GroundTruth,
    Progress,
    VerdictLog,
    cached_ground_truth,
    canonical_sample,
    check_ground_truth,
    compare_verdicts,
    judge_resuming,
    read_eval_results,
    subset_of,
    told_by_name,
    write_eval_results,
    write_ground_truth,
    write_pass_at_k,
)
from codejoule.sandbox import SandboxFacts
from codejoule.suites import load_suite_named

GROUND_TRUTH = "ground_truth.json"
VERDICTS = "verdicts.jsonl"
RESULTS = "eval_results.json"


def check_canonical(args: argparse.Namespace) -> None:
    """Judge the canonical solutions, as far as the cache does not know them; print, and write
    where ``--out`` says."""
    suite = load_suite_named(args.suite)
    config = evaluator_config(args, suite)
    if args.out is not None:
        make_folder(args.out)
    truth = _judge_canonical(args, config, suite)
    if args.out is not None:
        solutions = [canonical_sample(task).solution for task in suite.tasks]
        write_eval_results(args.out / RESULTS, truth.verdicts, solutions)
        print(visible(f"Written to {args.out}: {GROUND_TRUTH}, {RESULTS}"))


def _judge_canonical(
    args: argparse.Namespace, config: EvaluatorConfig, suite: Suite
) -> GroundTruth:
    """Judge what the cache does not know, print, and write ``ground_truth.json``."""
    progress = Progress(len(suite.tasks), verbose=args.verbose, what="canonical solutions")
    timeout_s = config.timeout_s or suite.timeout_s
    truth = check_ground_truth(
        suite.tasks,
        config=config,
        timeout_s=timeout_s,
        fresh=args.fresh,
        on_kept=progress.keep,
        on_verdict=progress.add,
    )
    print(visible(truth_text(truth, suite=suite)))
    if args.out is not None:
        write_ground_truth(
            args.out / GROUND_TRUTH,
            truth,
            suite=suite.name,
            checksum=suite.checksum,
            config=config,
            timeout_s=timeout_s,
        )
    return truth


def judge_samples(args: argparse.Namespace) -> None:
    """Judge, write into ``--out``, print."""
    suite = load_suite_named(args.suite)
    config = evaluator_config(args, suite)
    timeout_s = config.timeout_s or suite.timeout_s
    submission = read_submission(args.samples, suite, sanitizing=args.sanitize)
    others = submission.recorded
    if args.compare is not None:
        others = tuple(read_eval_results(args.compare))
    _keep_input(args)
    make_folder(args.out)
    if args.ground_truth:
        truth: GroundTruth | None = _judge_canonical(args, config, suite)
    else:
        truth = cached_ground_truth(suite.tasks, config=config, timeout_s=timeout_s)
    start_s = time.monotonic()
    facts: list[SandboxFacts] = []
    progress = Progress(len(submission.samples), verbose=args.verbose)
    with VerdictLog(args.out / VERDICTS, fresh=args.fresh) as log:
        verdicts = judge_resuming(
            submission.samples,
            log,
            config=config,
            timeout_s=timeout_s,
            on_kept=progress.keep,
            on_start=facts.append,
            on_verdict=progress.add,
        )
    wall_s = time.monotonic() - start_s
    # Of the judged tasks alone it is enough for their pass@k.
    ids = {verdict.task_id for verdict in verdicts}
    tasks = [task for task in suite.tasks if task.task_id in ids]
    report = Report(
        suite=suite,
        verdicts=verdicts,
        kept=progress.kept,
        wall_s=wall_s,
        timeout_s=timeout_s,
        config=config,
        sandbox=facts[0] if facts else None,
        truth=truth or cached_ground_truth(tasks, config=config, timeout_s=timeout_s),
        agreement=compare_verdicts(verdicts, others) if others else None,
    )
    files = _write(args, report, submission, truth)
    print(visible(report.text()))
    print(visible(f"Written to {args.out}: {', '.join(files)}"))


def _keep_input(args: argparse.Namespace) -> None:
    """Raise ConfigError where writing the results would replace what they are compared with."""
    for option in (args.samples, args.compare):
        if option is not None and option.resolve() == (args.out / RESULTS).resolve():
            raise ConfigError(
                f"--out {args.out}: its {RESULTS} is an input and would be replaced; choose "
                "another folder"
            )


def _write(
    args: argparse.Namespace, report: Report, submission: Submission, truth: GroundTruth | None
) -> list[str]:
    """Write the files of results; returns their names."""
    solutions = [sample.solution for sample in submission.samples]
    write_eval_results(args.out / RESULTS, report.verdicts, solutions)
    # By option, else by the file's name, else by the suite.
    name = told_by_name(args.samples)
    known = {
        "model": args.model or name.get("model"),
        "split": args.split or name.get("split"),
        "subset": name.get("subset") or subset_of(report.suite.name),
    }
    of_truth: dict[str, Any] = {}
    if truth is not None:
        of_truth = {"gt_pass_rate": truth.pass_rate, "failed_tasks": truth.failed_tasks}
    write_pass_at_k(args.out / "pass_at_k.json", report.verdicts, **known, **of_truth)
    summary = {key: value for key, value in known.items() if value is not None} | report.to_json()
    write_whole(args.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    written = [RESULTS, "pass_at_k.json", "summary.json", VERDICTS]
    return [*written, GROUND_TRUTH] if args.ground_truth else written
