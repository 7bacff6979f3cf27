"""``codejoule evaluate --inspect TASK``: everything about one sample of one task."""

import argparse
from collections.abc import Iterator, Sequence

from codejoule.cli.evaluate.options import evaluator_config
from codejoule.cli.evaluate.programs import read_submission
from codejoule.config import ConfigError
from codejoule.config.schema import Split
from codejoule.domain import Status, Suite, Task, Verdict, visible
from codejoule.evaluation import Sample, canonical_sample, judge_one, with_expected_outputs
from codejoule.suites import load_suite_named


def inspect_task(args: argparse.Namespace) -> None:
    """Judge one sample, and print prompt, program, tests and what happened."""
    suite = load_suite_named(args.suite)
    config = evaluator_config(args, suite)
    task = _task(args, suite)
    sample, count = _sample(args, suite, task)
    timeout_s = config.timeout_s or suite.timeout_s
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


def _task(args: argparse.Namespace, suite: Suite) -> Task:
    for task in suite.tasks:
        if task.task_id == args.inspect:
            return task
    same = [t.task_id for t in suite.tasks if t.task_id.endswith(f"/{args.inspect}")]
    raise ConfigError(
        f"--inspect {args.inspect}: {suite.name} has no such task; "
        + (f"did you mean {same[0]}? " if same else "")
        + f"it has {len(suite.tasks)}, {suite.tasks[0].task_id} to {suite.tasks[-1].task_id}"
    )


def _sample(args: argparse.Namespace, suite: Suite, task: Task) -> tuple[Sample, int]:
    """The sample to look at, and of how many it is one."""
    if args.samples is None:
        return canonical_sample(task), 1
    submission = read_submission(args.samples, suite, sanitizing=args.sanitize)
    samples = [sample for sample in submission.samples if sample.task_id == task.task_id]
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
