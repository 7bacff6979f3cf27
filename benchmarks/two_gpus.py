"""Whether two jobs at once, each on a GPU of its own, take the energy that each takes alone.

    python benchmarks/two_gpus.py --out DIR [--engine graph] [--rounds 2] [--within 0.02]

Needs a machine with two GPUs of one model, and no network: Qwen2.5-7B with random weights. Each of
two jobs (repeats of one configuration, so that they take equally long) runs alone on each GPU, and
then, ``--rounds`` times, both at once by ``hydra/launcher=joblib``, on the GPUs that they find
free. A job's energy at once is compared with its energy alone on the same card. Prints a table,
leaves ``two_gpus.json`` in DIR, and ends with 1 where an energy differs by more than ``--within``,
where both jobs had one card, or where they did not work at the same time. With --smoke the bundled
model runs on any machine, to see that the script works: nothing is then checked but that all jobs
finished.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from codejoule.measurement import detect_gpus

ROOT = Path(__file__).parents[1]
JOBS = ("1", "2")
MODEL = (
    "model=qwen_7b", "model.weights=random", "suite=starter_large", "suite.limit=64", "batch=b8",
    "generation.max_new_tokens=256",
)  # fmt: skip
SMOKE = ("model=starter", "suite.limit=4", "batch=b4", "meter=cpu_estimate")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engine", default="graph")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--within", type=float, default=0.02)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    options.out = options.out.absolute()
    cards = [gpu.uuid for gpu in detect_gpus()[0]]
    if not options.smoke and len(cards) != 2:
        parser.error(f"{len(cards)} GPUs are visible; name two (CUDA_VISIBLE_DEVICES), or --smoke")
    alone: dict[tuple[str, str], dict[str, Any]] = {}
    for card in cards if not options.smoke else [""]:
        for found in sweep(options, f"alone-{card}", [], CUDA_VISIBLE_DEVICES=card):
            alone[found["card"], found["job"]] = found
    at_once: list[list[dict[str, Any]]] = []
    for number in range(options.rounds):
        own = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
        at_once.append(sweep(options, f"at-once-{number}", own))
    rows = [
        {"round": number, **found, "alone_j": before["energy_j"],
         "change": found["energy_j"] / before["energy_j"] - 1}
        for number, pair in enumerate(at_once)
        for found in pair
        for before in [alone[found["card"], found["job"]]]
    ]  # fmt: skip
    (options.out / "two_gpus.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"{'round':>5} {'job':>3} {'card':>42} {'alone J':>9} {'at once J':>9} {'change':>8}")
    for row in rows:
        print(
            f"{row['round']:>5} {row['job']:>3} {row['card']:>42} {row['alone_j']:>9.1f} "
            f"{row['energy_j']:>9.1f} {row['change']:>+8.2%}"
        )
    if options.smoke:
        return 0
    faults = [
        text
        for found, text in (
            (any(len({job["card"] for job in pair}) < 2 for pair in at_once), "one card for both"),
            (not all(row["beside_others"] for row in rows), "jobs that worked one after the other"),
            (any(row["beside_others"] for row in alone.values()), "a job that was not alone"),
            (any(abs(row["change"]) > options.within for row in rows), "energy that differs"),
        )
        if found
    ]
    print("FAILED: " + ", ".join(faults) if faults else f"all within {options.within:.1%} of alone")
    return 1 if faults else 0


def sweep(
    options: argparse.Namespace, experiment: str, own: Sequence[str], **env: str
) -> list[dict[str, Any]]:
    """Run both jobs, and read what was recorded of them."""
    store = options.out / "mlruns"
    command = [
        sys.executable, str(ROOT / "src" / "main.py"), "-m", f"repeat={','.join(JOBS)}",
        *(SMOKE if options.smoke else (*MODEL, f"engine={options.engine}")), *own,
        "evaluator=none", f"tracking.dir={store}", f"tracking.experiment={experiment}",
        f"hydra.sweep.dir={options.out}/multirun/{experiment}",
    ]  # fmt: skip
    subprocess.run(command, env=os.environ | env, check=True)
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    (found,) = client.search_experiments(filter_string=f"name = '{experiment}'")
    runs = [
        run
        for run in client.search_runs([found.experiment_id])
        if "energy_generation_j" in run.data.metrics
    ]
    assert len(runs) == len(JOBS), "a job of the sweep has not finished"
    return [
        {
            "job": run.data.params["repeat"],
            "card": run.data.tags.get("codejoule.gpu_uuid", ""),
            "energy_j": run.data.metrics["energy_generation_j"],
            "latency_s": run.data.metrics["latency_s"],
            "beside_others": "codejoule.concurrent" in run.data.tags,
        }
        for run in runs
    ]


if __name__ == "__main__":
    sys.exit(main())
