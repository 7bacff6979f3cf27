"""How much memory the process that judges needs, by the number of samples.

    python benchmarks/judging_memory.py [--samples 10000 50000 100000] [--judged N] [--out FOLDER]

Samples are the bundled suite's canonical solutions, again and again, each with a comment of its
own; every third one fails. `codejoule evaluate` judges them in its sandbox. Its resident memory
(that of the process itself, and not of the sandbox's workers) is read four times a second: when the
first verdict is there, when the last is, and at its most. With `--judged` only the last N samples
are judged; of the others an earlier evaluation has left verdicts, which are written in advance:
those on two samples of each task, under the key of each sample.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Verdict
from codejoule.evaluation import Sample, VerdictLog, canonical_sample, judge_one, with_python
from codejoule.evaluation.resume import sample_identity, setting_identity
from codejoule.suites import load_suite_named


def write_samples(path: Path, count: int) -> None:
    tasks = load_suite_named("starter").tasks
    solutions = [canonical_sample(task).solution for task in tasks]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            place = number % len(tasks)
            fails = "raise ValueError(1)\n" if number % 3 == 0 else ""
            program = f"{solutions[place]}\n# {number}\n{fails}"
            file.write(json.dumps({"task_id": tasks[place].task_id, "solution": program}) + "\n")


def write_verdicts(path: Path, samples: Path, count: int) -> None:
    """What an earlier evaluation of the first `count` samples would have left."""
    suite = load_suite_named("starter")
    tasks = {task.task_id: task for task in suite.tasks}
    config, timeout_s = with_python(EvaluatorConfig(), suite.tasks), suite.timeout_s
    setting = setting_identity(config, timeout_s=timeout_s)
    path.parent.mkdir(parents=True)
    known: dict[tuple[str, bool], Verdict] = {}
    numbers: Counter[str] = Counter()
    with VerdictLog(path) as log, samples.open(encoding="utf-8") as lines:
        for _, line in zip(range(count), lines, strict=False):
            row = json.loads(line)
            task_id, solution = row["task_id"], row["solution"]
            number = numbers[task_id]
            numbers[task_id] += 1
            sample = Sample.of(tasks[task_id], solution, sample=number)
            kind = task_id, "raise ValueError(1)" in solution
            if kind not in known:
                known[kind], _ = judge_one(sample, config=config, timeout_s=timeout_s)
            verdict = dataclasses.replace(known[kind], sample=number)
            log.add(sample_identity(setting, sample), verdict)


def memory_kib(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def judge(samples: Path, count: int, judged: int, out: Path) -> str:
    """A line of the table."""
    command = [
        sys.executable, "-m", "codejoule", "evaluate", "--suite", "starter",
        "--samples", str(samples), "--out", str(out), "--json",
    ]  # fmt: skip
    verdicts = out / "verdicts.jsonl"
    before = verdicts.stat().st_size if verdicts.exists() else 0
    began_s = time.monotonic()
    first = last = most = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as job:
        while job.poll() is None:
            now = memory_kib(job.pid, "VmRSS")
            most = max(most, memory_kib(job.pid, "VmHWM"))
            if verdicts.exists() and verdicts.stat().st_size > before:
                first = first or now
                if not (out / "eval_results.json").exists():
                    last = now or last
            time.sleep(0.25)
    if job.returncode:
        raise SystemExit(job.returncode)
    took_s = time.monotonic() - began_s
    growth = 1024 * (last - first) / judged
    return (
        f"| {count:,} | {judged:,} | {first / 1024:.0f} | {last / 1024:.0f} | {most / 1024:.0f} | "
        f"{growth:.0f} | {took_s:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, nargs="*", default=[10_000, 50_000, 100_000])
    parser.add_argument("--judged", type=int)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    print(
        "| samples | judged now | RSS, first verdict [MiB] | last | most | growth per sample "
        "judged [B] | wall [s] |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.out or Path(scratch)
        for count in args.samples:
            samples = folder / f"samples-{count}.jsonl"
            folder.mkdir(parents=True, exist_ok=True)
            write_samples(samples, count)
            out, judged = folder / f"out-{count}", args.judged or count
            if judged < count:
                write_verdicts(out / "verdicts.jsonl", samples, count - judged)
            print(judge(samples, count, judged, out), flush=True)


if __name__ == "__main__":
    main()
