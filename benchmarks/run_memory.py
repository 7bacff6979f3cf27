"""How much memory a run needs for its journal and its results, by the number of samples.

    python benchmarks/run_memory.py [--samples 10000 50000 100000]

A run of the bundled suite in batches of 8, whose journal is written in advance: each task's
canonical solution as what the model answered, in windows of energy, and its verdict. What follows
is the code of a run: opening the journal, finding what is left to generate and to judge, reading
the results, making records and metrics, and writing all artifacts. The memory is that of the
process, at its most, after each.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from codejoule.config.compose import compose_experiment
from codejoule.domain import (
    Completion,
    EnergyReading,
    EnergyScope,
    EnergySource,
    FinishReason,
    JudgedSample,
    Status,
)
from codejoule.experiment.artifacts import write_artifacts
from codejoule.experiment.evaluation_stage import evaluate
from codejoule.experiment.generation_stage import _left
from codejoule.experiment.kept_journal import pack_journal
from codejoule.experiment.plan import Plan, make_plan
from codejoule.experiment.records import read_results, records_of, task_records
from codejoule.experiment.results import metrics_of
from codejoule.experiment.rounds import asked_in
from codejoule.tracking import Journal
from codejoule.tracking.entries import Batch, EngineSetUp, Judged, Loaded, MeterFacts

BATCH = 8
METER = MeterFacts(source=EnergySource.estimate, scope=EnergyScope.cpu, devices=("cpu",))


def memory_mib(name: str = "VmRSS") -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def reading(number: int) -> EnergyReading:
    return EnergyReading(
        name="batch",
        source=EnergySource.estimate, scope=EnergyScope.cpu, start_s=float(number), latency_s=1.0,
        energy_j=4.0, energy_by_device_j={"cpu": 4.0},
    )  # fmt: skip


def write_journal(plan: Plan, folder: Path) -> None:
    """The file alone: an entry that is appended would be synced to disk."""
    sync = "codejoule.tracking.journal.os.fsync"
    with patch(sync, lambda file: None), Journal(folder) as journal:
        journal.append(Loaded(reading=None, model={"device": "cpu", "kernels": []}, meter=METER))
        journal.append(EngineSetUp({}))
        for number, batch in enumerate(plan.batches):
            completions = tuple(
                Completion(
                    task_id=one.task.task_id, sample=one.sample,
                    text=one.task.canonical_solution, prompt_tokens=170, output_tokens=80,
                    finish_reason=FinishReason.stop,
                )
                for one in batch
            )  # fmt: skip
            journal.append(
                Batch(
                    batch=number, completions=completions, reading=reading(number),
                    memory_peak_bytes=None,
                )
            )  # fmt: skip
        for batch in plan.batches:
            for one in batch:
                verdict = JudgedSample(
                    task_id=one.task.task_id, sample=one.sample, status=Status.passed,
                    reason="pass", evaluation_s=0.01, evaluation_cpu_s=0.01, energy_j=0.03,
                    tests={f"test_{i}": "pass" for i in range(4)},
                )  # fmt: skip
                journal.append(Judged(source=EnergySource.estimate, verdicts=(verdict,)))


def measure(samples: int, folder: Path) -> None:
    """Print a line of the table."""
    overrides = [f"batch=b{BATCH}", "generation=sample", "meter=cpu_estimate"]
    each = samples // 63
    plan = make_plan(compose_experiment([*overrides, f"generation.n_samples={each}"]))
    found = [memory_mib()]
    write_journal(plan, folder)
    size = (folder / "journal.jsonl").stat().st_size
    began_s = time.monotonic()
    with Journal(folder) as journal:
        assert not _left(plan, journal)
        found.append(memory_mib("VmHWM"))
    opened_s = time.monotonic() - began_s
    evaluate(plan, folder, name="memory")
    found.append(memory_mib("VmHWM"))
    results = read_results(folder)
    found.append(memory_mib("VmHWM"))
    attempts = task_records(plan, results)
    records = records_of(results, attempts)
    with Journal(folder) as journal:
        asked = asked_in(plan, journal)
    metrics_of(plan, results, records, None, attempts)
    found.append(memory_mib("VmHWM"))
    artifacts = folder / "artifacts"
    write_artifacts(plan, artifacts, results, records, None, attempts, asked)
    packed = pack_journal(folder, artifacts).stat().st_size
    found.append(memory_mib("VmHWM"))
    count = len(records)
    sizes = {file.name: file.stat().st_size / count for file in artifacts.iterdir()}
    told = " | ".join(f"{each:.0f}" for each in found)
    print(f"| {count:,} | {told} | {opened_s:.1f} | {size / count:.0f} | {packed / count:.0f} |")
    largest = sorted(sizes.items(), key=lambda pair: -pair[1])[:4]
    print("  " + ", ".join(f"{name} {each:.0f} B" for name, each in largest), file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, nargs="*", default=[10_000, 50_000, 100_000])
    args = parser.parse_args()
    if len(args.samples) == 1:
        with tempfile.TemporaryDirectory() as scratch:
            measure(args.samples[0], Path(scratch))
        return
    print(
        "| samples | planned [MiB] | journal opened | samples listed | results read | "
        "metrics | artifacts written | opening [s] | journal per sample [B] | packed [B] |\n"
        "|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for samples in args.samples:
        command = [sys.executable, __file__, "--samples", str(samples)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
