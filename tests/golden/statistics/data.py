"""Makes tasks.csv and runs.csv, the data of statistics.R: synthetic, from a fixed seed.

Run with `python tests/golden/statistics/data.py`. Energies are rounded so that there are ties,
noise is correlated in time and shared within batches, and runs of a configuration differ.
"""

import csv
from pathlib import Path

import numpy as np

TASKS, BATCH = 120, 4
HERE = Path(__file__).parent


def main() -> None:
    rng = np.random.default_rng(20261125)
    tokens = rng.integers(60, 620, TASKS)
    domains = {name: rng.random(TASKS) < share for name, share in
               (("Computation", 0.6), ("Network", 0.15), ("Time", 0.25))}  # fmt: skip
    effect = 0.10 * domains["Computation"] + 0.05 * domains["Time"]
    task = np.log(4.0 * tokens) + effect + rng.normal(scale=0.25, size=TASKS)
    energy = {}
    for name, log_ratio in (("none", 0.0), ("gptq8", -0.04), ("gptq4", -0.35)):
        noise = rng.normal(scale=0.1, size=TASKS)
        for i in range(1, TASKS):
            noise[i] += 0.4 * noise[i - 1]
        noise += np.repeat(rng.normal(scale=0.08, size=TASKS // BATCH), BATCH)
        # To 10 J: some tasks tie.
        energy[name] = np.round(np.exp(task + log_ratio + noise), -1)
    ability = rng.beta(0.6, 0.6, size=TASKS)
    passed = {name: rng.random(TASKS) < ability * factor for name, factor in
              (("none", 1.0), ("gptq8", 0.97), ("gptq4", 0.8))}  # fmt: skip
    with (HERE / "tasks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["task", "batch", "tokens", *domains, *(f"energy_{n}" for n in energy),
             *(f"pass_{n}" for n in passed)]
        )  # fmt: skip
        for i in range(TASKS):
            writer.writerow(
                [f"t{i:03d}", i // BATCH, tokens[i], *(int(d[i]) for d in domains.values()),
                 *(f"{e[i]:.0f}" for e in energy.values()), *(int(p[i]) for p in passed.values())]
            )  # fmt: skip
    with (HERE / "runs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["configuration", "run", "task", "log_energy"])
        for name, log_ratio in (("none", 0.0), ("gptq8", -0.04), ("gptq4", -0.35)):
            reaction = rng.normal(scale=0.03, size=40)
            for run in range(3):
                shift = rng.normal(scale=0.05)
                for i in range(40):
                    value = task[i] + log_ratio + reaction[i] + shift + rng.normal(scale=0.1)
                    writer.writerow([name, f"{name}{run}", f"t{i:03d}", f"{value:.10f}"])


if __name__ == "__main__":
    main()
