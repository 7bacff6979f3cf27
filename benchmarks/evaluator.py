"""The evaluator beside BigCodeBench's own checker, on the same cores in one run.

    python benchmarks/evaluator.py --data DIR --python EVAL --upstream UP

DIR holds ``tasks.jsonl.gz`` in BigCodeBench's public schema. EVAL is the Python of ``make
eval-env``. UP is a Python with the same libraries and, besides, bigcodebench 0.2.5: for instance
a virtual environment of its own with EVAL's site-packages in a ``.pth`` file. Three comparisons:

1. a trivial task that imports pandas and matplotlib, 40 times and 240 times over: the difference
   is what 200 samples cost, the rest of the 40 what it costs to start;
2. all tasks that import both, canonical solutions;
3. all canonical solutions.

Upstream's side is its own function ``untrusted_check`` in its own pool of processes, with its own
limits, on the programs that its ``evaluate`` would make, in one process per core (its own default
is half as many). codejoule's side has its defaults: a worker per core, and stand-ins while samples
sleep; `--workers` sets both. CPU time is that of everything: driver, pool, managers, workers,
sandbox, start-up included; whoever is orphaned is reaped here. Neither side runs while the other
does; the order is upstream, codejoule, and for the short comparisons upstream and codejoule once
more. Needs no GPU and no network; all of BigCodeBench takes an hour on two cores.
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

from codejoule.sandbox._inside.kernel import adopt_orphans
from codejoule.sandbox._inside.processes import kill_descendants

_FEW, _MANY = 40, 240
_TIMEOUT_S = 240.0
_ORPHANS_S = 5.0
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
    names = ("task_id", "solution", "code_prompt", "test")
    samples.append(Sample(sample=number, **{name: task[name] for name in names}))
config = EvaluatorConfig(workers=int(sys.argv[2]) or None, python=sys.argv[4])
verdicts = judge(samples, config=config, timeout_s=float(sys.argv[5]))
out = [[v.status.value, v.evaluation_s, v.evaluation_cpu_s] for v in verdicts]
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
    parser.add_argument("--workers", type=int, help="processes of each side that judge")
    parser.add_argument("--out", type=Path, help="file for all figures, as JSON")
    args = parser.parse_args()
    # Whoever loses its parent is ours to wait for, and so its CPU time is counted.
    adopt_orphans()
    tasks = _tasks(args.data / "tasks.jsonl.gz")
    both = [task for task in tasks if _imports_both(task)]
    load = os.getloadavg()[0]
    print(f"load {load:.0f}, cores {sorted(os.sched_getaffinity(0))}, Linux {os.uname().release}")
    figures: list[dict[str, Any]] = []
    if 1 in args.only:
        _compare_trivial(args, figures)
    if 2 in args.only:
        what = f"{len(both)} tasks that import pandas and matplotlib"
        for _ in range(2):
            _compare(what, both, args, figures)
    if 3 in args.only:
        chosen = tasks[:: args.every]
        _compare(f"{len(chosen)} canonical solutions", chosen, args, figures)
    if args.out is not None:
        args.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _compare_trivial(args: argparse.Namespace, figures: list[dict[str, Any]]) -> None:
    what = "a trivial task that imports pandas and matplotlib"
    for _ in range(2):
        few, many = (
            _compare(f"{what}, {count} times", [_TRIVIAL] * count, args, figures)
            for count in (_FEW, _MANY)
        )
        for side in ("upstream", "codejoule"):
            each_s = (many[side]["cpu_s"] - few[side]["cpu_s"]) / (_MANY - _FEW)
            start_s = few[side]["cpu_s"] - _FEW * each_s
            print(
                f"  {side:<10} {1000 * each_s:7.1f} CPU-ms for each further sample, "
                f"{start_s:.1f} CPU-s to start"
            )
            figures.append({"side": side, "further_sample_cpu_s": each_s, "start_cpu_s": start_s})


def _compare(
    what: str, tasks: Sequence[dict[str, Any]], args: argparse.Namespace,
    figures: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Both sides over `tasks`, printed and appended to `figures`."""
    print(f"\n{what}", flush=True)
    both = {side: _measure(side, tasks, args) for side in ("upstream", "codejoule")}
    figures.append({"what": what, **both})
    _print(both["upstream"], both["codejoule"], len(tasks))
    return both


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
        if side == "upstream":
            workers = args.workers or len(os.sched_getaffinity(0))
            command = [args.upstream, str(script), str(source), str(workers), str(result)]
        else:
            command = [sys.executable, str(script), str(source), str(args.workers or 0)]
            command += [str(result), args.python]
        command.append(str(_TIMEOUT_S))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start_s = time.monotonic()
        with (folder / "words").open("w+") as words:
            # What upstream's tasks leave behind goes with the folder.
            done = subprocess.run(
                command, stdout=words, stderr=words, check=False, cwd=folder,
                env={**os.environ, "TMPDIR": name},
            )  # fmt: skip
            wall_s = time.monotonic() - start_s
            _reap_orphans()
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
    return figures


def _reap_orphans() -> None:
    """Wait for those who are ending; upstream leaves some that never do, who are ended then."""
    until_s = time.monotonic() + _ORPHANS_S
    while time.monotonic() < until_s:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)
        except ChildProcessError:
            return
    kill_descendants(longest_s=_ORPHANS_S)


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
        f"mean {statistics.fmean(each_ms):.1f}"
    )
    print(
        f"  codejoule is {theirs['wall_s'] / ours['wall_s']:.1f} times as fast, with "
        f"{theirs['cpu_s'] / ours['cpu_s']:.1f} times less CPU time"
    )


if __name__ == "__main__":
    main()
