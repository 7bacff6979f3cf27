"""The evaluator beside BigCodeBench's own checker, on the same cores in one run.

    python benchmarks/evaluator.py --data DIR --python EVAL --upstream UP

DIR holds ``tasks.jsonl.gz`` in BigCodeBench's public schema. EVAL is the Python of ``make
eval-env``. UP is a Python with the same libraries and, besides, bigcodebench 0.2.5: for instance
a virtual environment of its own with EVAL's site-packages in a ``.pth`` file. Three comparisons:

1. a trivial task that imports pandas and matplotlib, 40 times over;
2. all tasks that import both, canonical solutions;
3. all canonical solutions.

Upstream's side is its own function ``untrusted_check`` in its own pool of processes, with its own
limits, on the programs that its ``evaluate`` would make. CPU time is that of everything: driver,
pool, managers, workers, sandbox, start-up included. Neither side runs while the other does; the
order is upstream, codejoule, and for the short comparisons upstream and codejoule once more.
Needs no GPU and no network; all of BigCodeBench takes an hour on two cores.
"""

import argparse
import gzip
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_COPIES = 40
_TIMEOUT_S = 240.0
_TRIVIAL = {
    "task_id": "Trivial/0",
    "code_prompt": (
        "import pandas as pd\nimport matplotlib.pyplot as plt\ndef task_func(values):\n"
    ),
    "solution": (
        "import pandas as pd\nimport matplotlib.pyplot as plt\n\n"
        "def task_func(values):\n    return pd.Series(values).sum()\n"
    ),
    "test": (
        "import unittest\n\nclass TestCases(unittest.TestCase):\n"
        "    def test_sum(self):\n        self.assertEqual(task_func([1, 2, 3]), 6)\n"
        "    def test_axes(self):\n        self.assertTrue(hasattr(plt, 'Axes'))\n"
    ),
    "entry_point": "task_func",
}

_UPSTREAM = """\
import json, resource, sys, time
from concurrent.futures import ProcessPoolExecutor, as_completed
from bigcodebench.eval import untrusted_check

def check(task):
    begin = time.time()
    program = task["code_prompt"] + "\\n    pass\\n" + task["solution"]
    status, _ = untrusted_check(
        program, task["test"], task["entry_point"], 30 * 1024, 30 * 1024, 10, 1, float(sys.argv[4])
    )
    return status, time.time() - begin

if __name__ == "__main__":
    tasks = json.load(open(sys.argv[1]))
    out = [None] * len(tasks)
    with ProcessPoolExecutor(max_workers=int(sys.argv[2])) as pool:
        futures = {pool.submit(check, task): number for number, task in enumerate(tasks)}
        for future in as_completed(futures):
            out[futures[future]] = future.result()
    json.dump(out, open(sys.argv[3], "w"))
"""

_OURS = """\
import json, sys
from codejoule.config.schema import EvaluatorConfig
from codejoule.evaluation import Sample, judge

tasks = json.load(open(sys.argv[1]))
counts = {}
samples = []
for task in tasks:
    number = counts[task["task_id"]] = counts.get(task["task_id"], -1) + 1
    names = ("task_id", "solution", "code_prompt", "test", "entry_point")
    samples.append(Sample(sample=number, **{name: task[name] for name in names}))
config = EvaluatorConfig(workers=int(sys.argv[2]), python=sys.argv[4])
verdicts = judge(samples, config=config, timeout_s=float(sys.argv[5]))
out = [
    [v.status.value, v.evaluation_s, v.evaluation_cpu_s, v.evaluation_cpu_source] for v in verdicts
]
json.dump(out, open(sys.argv[3], "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--every", type=int, default=1, help="comparison 3: every Nth task alone")
    parser.add_argument("--only", type=int, nargs="+", default=[1, 2, 3], help="comparisons")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="file for all figures, as JSON")
    args = parser.parse_args()
    tasks = _tasks(args.data / "tasks.jsonl.gz")
    both = [task for task in tasks if _imports_both(task)]
    sets: list[tuple[str, Sequence[dict[str, Any]], int]] = [
        (
            f"a trivial task that imports pandas and matplotlib, {_COPIES} times",
            [_TRIVIAL] * _COPIES,
            2,
        ),
        (f"{len(both)} tasks that import pandas and matplotlib", both, 2),
        (f"{len(tasks[:: args.every])} canonical solutions", tasks[:: args.every], 1),
    ]
    load = os.getloadavg()[0]
    print(
        f"{args.workers} workers, load {load:.0f}, "
        f"cores {sorted(os.sched_getaffinity(0))}, Linux {os.uname().release}"
    )
    figures = []
    for title, chosen, rounds in (sets[number - 1] for number in args.only):
        print(f"\n{title}")
        for _ in range(rounds):
            theirs = _measure("upstream", chosen, args)
            ours = _measure("codejoule", chosen, args)
            figures.append({"what": title, "upstream": theirs, "codejoule": ours})
            _print(theirs, ours, len(chosen))
    if args.out is not None:
        args.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _tasks(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        tasks = [json.loads(line) for line in stream]
    for task in tasks:
        task["solution"] = f"{task['complete_prompt']}\n{task['canonical_solution']}"
    return tasks


def _imports_both(task: dict[str, Any]) -> bool:
    head = task["code_prompt"]
    return all(
        re.search(rf"^(import|from) {name}\b", head, re.M) for name in ("pandas", "matplotlib")
    )


def _measure(
    side: str, tasks: Sequence[dict[str, Any]], args: argparse.Namespace
) -> dict[str, Any]:
    """Wall and CPU time of one side over `tasks`, and its verdicts."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        source, result = folder / "tasks.json", folder / "result.json"
        source.write_text(json.dumps(list(tasks)), encoding="utf-8")
        script = folder / "run.py"
        script.write_text(_UPSTREAM if side == "upstream" else _OURS, encoding="utf-8")
        python = args.upstream if side == "upstream" else sys.executable
        command = [python, str(script), str(source), str(args.workers), str(result)]
        command += [str(_TIMEOUT_S)] if side == "upstream" else [args.python, str(_TIMEOUT_S)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start_s = time.monotonic()
        with (folder / "words").open("w+") as words:
            done = subprocess.run(command, stdout=words, stderr=words, check=False, cwd=folder)
            wall_s = time.monotonic() - start_s
            if done.returncode != 0:
                words.seek(0)
                sys.exit(f"{side} failed:\n{words.read()[-3000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = json.loads(result.read_text(encoding="utf-8"))
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures: dict[str, Any] = {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "verdicts": [row[0] for row in rows],
    }
    if side == "codejoule":
        figures["sample_cpu_s"] = [row[2] for row in rows]
        figures["cpu_source"] = rows[0][3]
        # What a control group counted cannot have been less.
        figures["cpu_s"] = max(cpu_s, sum(figures["sample_cpu_s"]))
    return figures


def _print(theirs: dict[str, Any], ours: dict[str, Any], count: int) -> None:
    for name, one in (("upstream", theirs), ("codejoule", ours)):
        passed = sum(verdict == "pass" for verdict in one["verdicts"])
        print(
            f"  {name:<10} {one['wall_s']:8.1f} s wall  {one['cpu_s']:8.1f} s CPU  "
            f"{one['cpu_s'] / count * 1000:7.1f} CPU-ms per sample, start-up included  "
            f"{passed} of {count} pass"
        )
    each_ms = [1000 * value for value in ours["sample_cpu_s"]]
    print(
        f"  codejoule per sample, start-up apart: median {statistics.median(each_ms):.1f} CPU-ms, "
        f"mean {statistics.fmean(each_ms):.1f} (counted by {ours['cpu_source']})"
    )
    print(
        f"  codejoule is {theirs['wall_s'] / ours['wall_s']:.1f} times as fast, with "
        f"{theirs['cpu_s'] / ours['cpu_s']:.1f} times less CPU time"
    )


if __name__ == "__main__":
    main()
