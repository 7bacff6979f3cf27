"""Judging what was submitted, the canonical solutions, or one sample to look at."""

import argparse
import dataclasses
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from codejoule.cli.evaluate.report import Report, SuiteFacts, truth_text
from codejoule.cli.evaluate.shard import Shard
from codejoule.cli.evaluate.shards import SHARD, Part, merge_parts, samples_checksum
from codejoule.common.lazily import Lazily
from codejoule.common.packed import Packed
from codejoule.common.progress import doing, pause
from codejoule.config import ConfigError, UserError, write_whole
from codejoule.config.schema import EvaluatorConfig, EvaluatorIsolation, Split
from codejoule.domain import SCHEMA_VERSION, Status, Suite, Task, Verdict, visible
from codejoule.evaluation import (
    GroundTruth,
    Progress,
    RecordedVerdict,
    Sample,
    SampleRow,
    Submission,
    VerdictLog,
    cached_ground_truth,
    canonical_sample,
    check_ground_truth,
    compare_verdicts,
    each_sample_in,
    environment_facts,
    holds_samples,
    judge_one,
    judge_resuming,
    read_eval_results,
    subset_of,
    told_by_name,
    with_expected_outputs,
    with_python,
    write_eval_results,
    write_ground_truth,
    write_pass_at_k,
)
from codejoule.sandbox import SandboxFacts
from codejoule.suites import load_suite_named, sanitize

GROUND_TRUTH = "ground_truth.json"
VERDICTS = "verdicts.jsonl"
RESULTS = "eval_results.json"
PASS_AT_K = "pass_at_k.json"
SUMMARY = "summary.json"

_One = TypeVar("_One", SampleRow, RecordedVerdict)


def _asked(args: argparse.Namespace) -> tuple[Suite, EvaluatorConfig, float]:
    """The suite, how to judge it, and the time limit per sample [s]; makes ``--out``."""
    if args.out is not None:
        _make(args.out)
    suite = load_suite_named(args.suite)
    config = EvaluatorConfig(
        timeout_s=args.timeout_s,
        workers=args.workers,
        **({} if args.memory_mib is None else {"memory_bytes": args.memory_mib * 2**20}),
        python=args.python,
        isolation=EvaluatorIsolation(args.isolation),
    )
    return suite, with_python(config, suite.tasks), config.timeout_s or suite.timeout_s


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be made: {error.strerror}") from error


def check_canonical(args: argparse.Namespace) -> None:
    """Judge the canonical solutions, as far as the cache does not know them; print, and write
    where ``--out`` says."""
    suite, config, timeout_s = _asked(args)
    truth = _judge_canonical(args, suite, config, timeout_s)
    if args.json:
        print(_as_json({"suite": suite.name, "tasks": len(suite.tasks)} | _of_truth(truth)))
    if args.out is not None:
        solutions = [canonical_sample(task).solution for task in suite.tasks]
        write_eval_results(args.out / RESULTS, truth.verdicts, solutions)
        if not args.json:
            print(visible(f"Written to {args.out}: {GROUND_TRUTH}, {RESULTS}"))


def _judge_canonical(
    args: argparse.Namespace, suite: Suite, config: EvaluatorConfig, timeout_s: float
) -> GroundTruth:
    """Judge what the cache does not know, print, and write ``ground_truth.json``."""
    progress = Progress(len(suite.tasks), verbose=args.verbose, what="canonical solutions")
    truth = check_ground_truth(
        suite.tasks,
        config=config,
        timeout_s=timeout_s,
        fresh=args.fresh,
        on_kept=progress.keep,
        on_verdict=progress.add,
    )
    pause()
    if not args.json:
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
    suite, config, timeout_s = _asked(args)
    submitted, others = _read_submission(args, suite)
    samples = submitted if args.shard is None else _part(args, submitted)
    if args.compare is not None:
        others = list(read_eval_results(args.compare))
    for option in (args.samples, args.compare):
        if option is not None and option.resolve() == (args.out / RESULTS).resolve():
            raise ConfigError(
                f"--out {args.out}: its {RESULTS} is an input and would be replaced; choose "
                "another folder"
            )
    if args.ground_truth:
        truth: GroundTruth | None = _judge_canonical(args, suite, config, timeout_s)
    else:
        truth = cached_ground_truth(suite.tasks, config=config, timeout_s=timeout_s)
    start_s = time.monotonic()
    facts: list[SandboxFacts] = []
    progress = Progress(len(samples), verbose=args.verbose)
    with VerdictLog(args.out / VERDICTS, fresh=args.fresh) as log:
        verdicts = judge_resuming(
            samples,
            log,
            config=config,
            timeout_s=timeout_s,
            on_kept=progress.keep,
            on_start=facts.append,
            on_verdict=progress.add,
        )
        wall_s = time.monotonic() - start_s
        doing("writing the results")
        solutions = Lazily(len(samples), lambda place: samples[place].solution)
        write_eval_results(args.out / RESULTS, verdicts, solutions)
        outcomes = Packed(Verdict, verdicts, without=("details", "tests"))
        # A part leaves all of them for those that merge it.
        whole = [] if args.shard is None else list(verdicts)
    # Of the judged tasks alone it is enough for their pass@k.
    ids = {outcome.task_id for outcome in outcomes}
    tasks = [task for task in suite.tasks if task.task_id in ids]
    report = Report(
        suite=SuiteFacts.of(suite),
        verdicts=outcomes,
        kept=progress.kept,
        wall_s=wall_s,
        timeout_s=timeout_s,
        config=config,
        environment=environment_facts(config),
        sandbox=facts[0] if facts else None,
        truth=truth or cached_ground_truth(tasks, config=config, timeout_s=timeout_s),
        agreement=compare_verdicts(outcomes, others) if others else None,
    )
    known = _known(args, suite)
    own = [VERDICTS, GROUND_TRUTH] if args.ground_truth else [VERDICTS]
    if args.shard is not None:
        part = Part(
            shard=args.shard,
            samples=len(submitted),
            checksum=samples_checksum(submitted),
            known=known,
            truth_asked=truth is not None,
            report=dataclasses.replace(report, verdicts=whole),
            solutions=[sample.solution for sample in samples],
        )
        part.write(args.out)
        own.append(SHARD)
    _tell(args, report, own, known=known, truth_asked=truth is not None)


def merge(args: argparse.Namespace) -> None:
    """Make one evaluation of its parts, in ``--out``; print."""
    part = merge_parts(args.merge)
    for folder in args.merge:
        if folder.resolve() == args.out.resolve():
            raise ConfigError(f"--out {args.out}: is one of the parts; choose another folder")
    _make(args.out)
    write_eval_results(args.out / RESULTS, part.report.verdicts, part.solutions)
    _tell(args, part.report, [], known=part.known, truth_asked=part.truth_asked)


def _part(args: argparse.Namespace, submitted: Sequence[Sample]) -> Sequence[Sample]:
    shard: Shard = args.shard
    if shard.count > len(submitted):
        raise ConfigError(
            f"--shard {shard}: {args.samples} has {len(submitted)} samples, and no part may be "
            f"empty; choose at most {len(submitted)} parts"
        )
    return shard.of(submitted)


def _tell(
    args: argparse.Namespace,
    report: Report,
    others: Sequence[str],
    *,
    known: Mapping[str, str],
    truth_asked: bool,
) -> None:
    """Write the files of results that sum up, and print; `others` are files that are there beside
    these and the results."""
    of_truth = _of_truth(report.truth) if truth_asked and report.truth is not None else {}
    write_pass_at_k(args.out / PASS_AT_K, report.verdicts, **known, **of_truth)
    summary = _as_json({**known, **report.to_json()})
    write_whole(args.out / SUMMARY, summary + "\n")
    pause()
    if args.json:
        print(summary)
        return
    if args.shard is not None:
        print(f"part      {args.shard}: every rate below is over the samples of this part")
    print(visible(report.text()))
    print(visible(f"Written to {args.out}: {', '.join([RESULTS, PASS_AT_K, SUMMARY, *others])}"))


def _as_json(report: dict[str, Any]) -> str:
    return json.dumps({"schema_version": SCHEMA_VERSION} | report, indent=2)


def _of_truth(truth: GroundTruth) -> dict[str, Any]:
    return {"gt_pass_rate": truth.pass_rate, "failed_tasks": truth.failed_tasks}


def _known(args: argparse.Namespace, suite: Suite) -> dict[str, str]:
    """What is known of the samples: by option, else by the file's name, else by the suite."""
    name = told_by_name(args.samples)
    known = {
        "model": args.model or name.get("model"),
        "split": args.split or name.get("split"),
        "subset": name.get("subset") or subset_of(suite.name),
    }
    return {key: value for key, value in known.items() if value is not None}


def _read_submission(
    args: argparse.Namespace, suite: Suite
) -> tuple[Sequence[Sample], list[RecordedVerdict]]:
    """The samples at ``--samples`` as programs for the tasks of `suite`, in the file's order, and
    the verdicts that the file itself holds. Raises ConfigError, naming file and line, for what
    cannot be read or joined."""
    path: Path = args.samples
    find, counts = _task_finder(suite), Counter[str]()

    def joined(one: _One, where: str) -> tuple[Task, _One]:
        task = find(one.task_id, where)
        number = counts[task.task_id]
        counts[task.task_id] += 1
        return task, dataclasses.replace(one, task_id=task.task_id, sample=number)

    def of_samples() -> Iterator[tuple[str, int, str]]:
        for task, row in (joined(one, one.where) for one in each_sample_in(path)):
            if args.sanitize:
                raw = row.unsanitized_after(task.complete_prompt)
                program = sanitize(raw, task.entry_point, task.tested_names)
            else:
                program = row.program_after(task.complete_prompt)
            yield task.task_id, row.sample, program

    tasks = {task.task_id: task for task in suite.tasks}
    folder = args.out or Path(tempfile.gettempdir())
    if path.name.endswith((".json", ".json.gz")) and not holds_samples(path):
        if args.sanitize:
            raise ConfigError(f"--sanitize: the programs of {path} have been judged as they are")
        judged = [joined(one, str(path)) for one in read_eval_results(path)]
        programs = (
            (task.task_id, one.sample, one.uncalibrated(task.code_prompt)) for task, one in judged
        )
        return Submission(tasks, programs, folder), [one for _, one in judged]
    return Submission(tasks, of_samples(), folder), []


def _task_finder(suite: Suite) -> Callable[[str, str], Task]:
    """Finds the task that people may call by its whole name, ``Mbpp/11``, or ``11``; ConfigError,
    which begins with where it is called so, for none or several."""
    by_name = {task.task_id: [task] for task in suite.tasks}
    by_number: dict[str, list[Task]] = {}
    for task in suite.tasks:
        by_number.setdefault(task.task_id.rpartition("/")[2], []).append(task)

    def find(task_id: str, where: str) -> Task:
        found = by_name.get(task_id) or by_number.get(task_id, [])
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(task.task_id for task in found[:5])
            raise ConfigError(f"{where}: task_id {task_id} may be any of {names}; write it in full")
        raise ConfigError(
            f"{where}: task_id {task_id} is not in suite {suite.name}, which has "
            f"{len(suite.tasks)} tasks, {suite.tasks[0].task_id} to {suite.tasks[-1].task_id}; is "
            "--suite the right one?"
        )

    return find


def inspect_task(args: argparse.Namespace) -> None:
    """Judge one sample, and print prompt, program, tests and what happened."""
    suite, config, timeout_s = _asked(args)
    task = _task_finder(suite)(args.inspect, "--inspect")
    sample, count = _inspected_sample(args, suite, task)
    (sample,) = with_expected_outputs([sample], config=config, timeout_s=timeout_s)
    verdict, output = judge_one(sample, config=config, timeout_s=timeout_s)
    what = "canonical solution" if args.samples is None else f"sample {args.sample} of {count}"
    instruct = args.split == Split.instruct.value
    prompt = task.instruct_prompt if instruct else task.complete_prompt
    print(f"{visible(task.task_id)}, {what}: {verdict.reason}")
    for title, text in (
        (f"prompt ({'instruct' if instruct else 'complete'})", prompt),
        ("program (what the task gives, then the solution)", sample.program),
        ("tests", task.test),
        ("output (standard output and error, the last 4 KiB at most)", output),
        ("results", "\n".join(_results(verdict, sample.test_names, timeout_s))),
    ):
        print(f"\n== {title} ==\n{visible(text).strip(chr(10)) or '(none)'}")


def _inspected_sample(args: argparse.Namespace, suite: Suite, task: Task) -> tuple[Sample, int]:
    """The sample to look at, and of how many it is one."""
    if args.samples is None:
        return canonical_sample(task), 1
    samples = [s for s in _read_submission(args, suite)[0] if s.task_id == task.task_id]
    if args.sample >= len(samples):
        raise ConfigError(
            f"--sample {args.sample}: {args.samples} has {len(samples)} of {task.task_id}"
            + (f", 0 to {len(samples) - 1}" if samples else "")
        )
    return samples[args.sample], len(samples)


def _results(verdict: Verdict, tests: Sequence[str], timeout_s: float) -> Iterator[str]:
    yield f"verdict   {verdict.status.value}, {verdict.reason}"
    for name in tests:
        yield f"{verdict.tests.get(name, 'did not run'):<11} {name}"
    for name, text in verdict.details.items():
        yield f"-- {name}"
        yield text.rstrip()
    if verdict.status is not Status.passed and not verdict.details:
        yield "(nothing more is known)"
    memory = verdict.memory_peak_bytes
    yield (
        f"time      {verdict.evaluation_s:.3f} s wall of {timeout_s:g}, "
        f"{verdict.evaluation_cpu_s:.3f} s CPU"
    )
    yield f"memory    {'not known' if memory is None else f'{memory / 2**20:.1f} MiB at most'}"
