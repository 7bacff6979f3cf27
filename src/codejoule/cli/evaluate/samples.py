"""``codejoule evaluate --samples``: judge a file of samples, or what is left of it."""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from codejoule.cli.evaluate.canonical import GROUND_TRUTH, judged_truth, record_truth
from codejoule.cli.evaluate.options import evaluator_config, make_folder
from codejoule.cli.evaluate.programs import Submission, read_submission
from codejoule.cli.evaluate.report import Report, truth_text
from codejoule.config import ConfigError, write_whole
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Suite, Verdict, visible
from codejoule.evaluation import (
    GroundTruth,
    Judged,
    Progress,
    SamplesName,
    VerdictLog,
    cached_ground_truth,
    compare_verdicts,
    judge_resuming,
    read_eval_results,
    subset_of,
    write_eval_results,
    write_pass_at_k,
)
from codejoule.sandbox import SandboxFacts
from codejoule.suites import load_suite_named

VERDICTS = "verdicts.jsonl"
RESULTS = "eval_results.json"


def judge_samples(args: argparse.Namespace) -> None:
    """Judge, write into ``--out``, print."""
    suite = load_suite_named(args.suite)
    config = evaluator_config(args, suite)
    submission = read_submission(args.samples, suite, sanitizing=args.sanitize)
    others = submission.recorded
    if args.compare is not None:
        others = tuple(read_eval_results(args.compare))
    _keep_input(args)
    make_folder(args.out)
    truth = _whole_truth(args, config, suite)
    start_s = time.monotonic()
    facts: list[SandboxFacts] = []
    judged = _judge(args, config, suite, submission, facts)
    wall_s = time.monotonic() - start_s
    report = Report(
        suite=suite,
        verdicts=judged.verdicts,
        kept=judged.kept,
        wall_s=wall_s,
        timeout_s=config.timeout_s or suite.timeout_s,
        config=config,
        sandbox=facts[0] if facts else None,
        truth=truth or _known_truth(config, suite, judged.verdicts),
        agreement=compare_verdicts(judged.verdicts, others) if others else None,
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


def _whole_truth(
    args: argparse.Namespace, config: EvaluatorConfig, suite: Suite
) -> GroundTruth | None:
    """Of the whole suite: judged where that is asked for, else as the cache knows it."""
    if not args.ground_truth:
        timeout_s = config.timeout_s or suite.timeout_s
        return cached_ground_truth(suite.tasks, config=config, timeout_s=timeout_s)
    truth = judged_truth(args, config, suite)
    print(visible(truth_text(truth, suite=suite)))
    record_truth(args, truth, config, suite)
    return truth


def _known_truth(
    config: EvaluatorConfig, suite: Suite, verdicts: Sequence[Verdict]
) -> GroundTruth | None:
    """Of the judged tasks alone, which is enough for their pass@k."""
    judged = {verdict.task_id for verdict in verdicts}
    tasks = [task for task in suite.tasks if task.task_id in judged]
    timeout_s = config.timeout_s or suite.timeout_s
    return cached_ground_truth(tasks, config=config, timeout_s=timeout_s)


def _judge(
    args: argparse.Namespace,
    config: EvaluatorConfig,
    suite: Suite,
    submission: Submission,
    facts: list[SandboxFacts],
) -> Judged:
    """The verdicts; `facts` gets what isolated the new ones."""
    progress = Progress(len(submission.samples), verbose=args.verbose)
    with VerdictLog(args.out / VERDICTS, fresh=args.fresh) as log:
        return judge_resuming(
            submission.samples,
            log,
            config=config,
            timeout_s=config.timeout_s or suite.timeout_s,
            on_kept=progress.keep,
            on_start=facts.append,
            on_verdict=progress.add,
        )


def _write(
    args: argparse.Namespace,
    report: Report,
    submission: Submission,
    truth: GroundTruth | None,
) -> list[str]:
    """Write the files of results; returns their names."""
    solutions = [sample.solution for sample in submission.samples]
    write_eval_results(args.out / RESULTS, report.verdicts, solutions)
    known = _known(args, report.suite)
    of_truth: dict[str, Any] = {}
    if truth is not None:
        of_truth = {"gt_pass_rate": truth.pass_rate, "failed_tasks": truth.failed_tasks}
    write_pass_at_k(args.out / "pass_at_k.json", report.verdicts, **known, **of_truth)
    summary = {key: value for key, value in known.items() if value is not None} | report.to_json()
    text = json.dumps(summary, indent=2) + "\n"
    write_whole(args.out / "summary.json", text)
    written = [RESULTS, "pass_at_k.json", "summary.json", VERDICTS]
    return [*written, GROUND_TRUTH] if args.ground_truth else written


def _known(args: argparse.Namespace, suite: Suite) -> dict[str, str | None]:
    """What BigCodeBench's ``pass_at_k.json`` says of the samples: by option, else by the
    file's name, else by the suite."""
    name = SamplesName.of(args.samples)
    return {
        "model": args.model or name.model,
        "split": args.split or name.split,
        "subset": name.subset or subset_of(suite.name),
    }
