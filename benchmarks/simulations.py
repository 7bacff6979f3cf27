"""How often each test and verdict of the analysis is wrong, on data whose truth is known.

    python benchmarks/simulations.py [--simulations 1000] [--only NAME ...]

Each simulation makes the figures of single tasks of a few configurations and analyses them with
the functions of `codejoule.analysis` that `codejoule analyze` uses, all below the MLflow reader.
Two hundred tasks differ among one another by a log-normal factor (standard deviation 0.8) and in
difficulty (beta(0.6, 0.6)); the log-ratio of two runs on a task has a standard deviation of 0.20.
Prints a table; figures of one full pass are in docs/lab-notes/statistics.md.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from codejoule.analysis import (
    COMPARABLE,
    Evidence,
    Goal,
    Table,
    TaskFigures,
    answer,
    gather,
    make_tables,
)
from codejoule.analysis.tables import efficiency_table
from codejoule.analysis.variances import run_variances
from codejoule.domain.metrics import J_PER_KWH
from codejoule.statistics import (
    ALPHA,
    ASSUMED,
    MARGIN,
    Method,
    Resampler,
    RunVariance,
    compare_runs,
    pooled_run_variance,
)

QUANTS = ("none", "awq", "gptq4", "bnb_fp4", "bnb_int8", "bnb_nf4", "gptq3", "gptq8")
TASK_SD, RATIO_SD = 0.8, 0.20
MEAN_J = 100.0
EVALUATION = 0.1
"""Energy of judging, as a share of that of generation."""

PAIRED = ("friedman", "energy_pairs", "mixed_pairs", "accuracy_pairs")
OTHERS = ("kruskal_wallis", "dunn", "regression")

Counts = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a simulation is drawn from."""

    configurations: int = 3
    runs: int = 1
    tasks: int = 200
    effect: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Relative change of energy of each configuration."""
    loss: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Loss of pass@1 of each configuration."""
    batch: int = 1
    batch_sd: float = 0.0
    """Noise of log energy that the tasks of a batch share."""
    run_sd: float = 0.0
    """Shift of log energy of whole runs."""
    interaction_sd: float = 0.0
    """How differently tasks react to a configuration."""
    autocorrelation: float = 0.0
    """Of the noise of successive tasks."""


def draw(truth: Truth, rng: np.random.Generator) -> Evidence:
    """Figures of single tasks, as if read from a store."""
    n = truth.tasks
    task = math.log(MEAN_J) + rng.normal(scale=TASK_SD, size=n)
    ability = rng.beta(0.6, 0.6, size=n)
    energies, passes = [], []
    for i in range(truth.configurations):
        reaction = rng.normal(scale=truth.interaction_sd, size=n)
        for _ in range(truth.runs):
            noise = rng.normal(scale=RATIO_SD / math.sqrt(2), size=n)
            for t in range(1, n if truth.autocorrelation else 0):
                noise[t] = truth.autocorrelation * noise[t - 1] + noise[t] * math.sqrt(
                    1 - truth.autocorrelation**2
                )
            shared = np.repeat(
                rng.normal(scale=truth.batch_sd, size=-(-n // truth.batch)), truth.batch
            )[:n]
            shift = rng.normal(scale=truth.run_sd)
            logs = task + math.log1p(truth.effect[i]) + reaction + noise + shared + shift
            energies.append(np.exp(logs))
            # The mean ability is 0.5.
            passes.append((rng.random(n) < ability * (1 - truth.loss[i] / 0.5)).astype(float))
    energy_j, passed = np.array(energies), np.array(passes)
    template = _template(truth.configurations, truth.runs, truth.tasks, truth.batch)
    every = (len(energy_j), 1)
    figures = TaskFigures(
        run_ids=template.figures.run_ids,
        task_ids=tuple(f"t{i}" for i in range(n)),
        energy_j=energy_j,
        evaluation_j=energy_j * EVALUATION,
        output_tokens=np.tile(rng.integers(60, 620, n).astype(float), every),
        latency_s=energy_j / 200,
        passed=passed,
        order=np.tile(np.arange(n, dtype=float), every),
        window=np.tile(np.arange(n) // truth.batch, every),
        domains={
            "General": np.ones(n, dtype=bool),
            "Network": rng.random(n) < 0.15,
            "Time": rng.random(n) < 0.3,
        },
    )
    return with_figures(template, truth, figures)


def with_figures(evidence: Evidence, truth: Truth, figures: TaskFigures) -> Evidence:
    """The same configurations and runs with other figures of tasks."""
    energy_j, passed = figures.energy_j, figures.passed
    return replace(
        evidence, figures=figures, runs=_runs(truth, energy_j, passed),
        table=_with_figures(evidence.table, truth, energy_j, passed),
    )  # fmt: skip


def _with_figures(
    table: pd.DataFrame, truth: Truth, energy_j: np.ndarray, passed: np.ndarray
) -> pd.DataFrame:
    """The comparison table, which is the same for all draws of a truth but for its figures."""
    shape = (truth.configurations, truth.runs)
    generation_j = energy_j.sum(axis=1).reshape(shape)
    pass_at_1 = passed.mean(axis=1).reshape(shape)
    total_j = generation_j * (1 + EVALUATION)
    means = {
        "energy_generation_j": generation_j.mean(axis=1),
        "energy_total_j": total_j.mean(axis=1),
        "pass_at_1": pass_at_1.mean(axis=1),
        "pass_at_1_per_kwh": (pass_at_1 / (total_j / J_PER_KWH)).mean(axis=1),
    }
    if truth.runs > 1:
        means["energy_generation_sd_j"] = generation_j.std(axis=1, ddof=1)
    return table.assign(**means)


@cache
def _template(configurations: int, runs: int, tasks: int, batch: int) -> Evidence:
    """Evidence of these runs; its figures are to be replaced."""
    truth = Truth(configurations=configurations, runs=runs, tasks=tasks, batch=batch)
    ones = np.ones((configurations * runs, tasks))
    frame = _runs(truth, ones, ones)
    ids = tuple(frame["run_id"])
    empty = np.empty((len(ids), 0))
    figures = TaskFigures(
        run_ids=ids, task_ids=(), energy_j=empty, evaluation_j=empty, output_tokens=empty,
        latency_s=empty, passed=empty, order=empty, window=np.empty((len(ids), 0), dtype=np.int64),
        domains={},
    )  # fmt: skip
    evidence = gather(frame, figures)
    assert list(evidence.table["quant"]) == list(QUANTS[:configurations])
    return evidence


def _runs(truth: Truth, energy_j: np.ndarray, passed: np.ndarray) -> pd.DataFrame:
    rows = []
    for i in range(truth.configurations):
        for r in range(truth.runs):
            k = i * truth.runs + r
            generation_j = float(energy_j[k].sum())
            total_kwh = generation_j * (1 + EVALUATION) / J_PER_KWH
            rows.append(
                {
                    "run_id": f"{QUANTS[i]}{r}",
                    "started_ms": k,
                    **dict.fromkeys(COMPARABLE.values(), "same"),
                    "tags.codejoule.fingerprint": str(k),
                    "params.model.name": "model",
                    "params.quant.name": QUANTS[i],
                    "params.batch.size": str(truth.batch),
                    "params.engine.name": "generate",
                    "params.generation.name": "greedy",
                    "params.repeat": str(r),
                    "metrics.tasks": float(truth.tasks),
                    "metrics.energy_generation_j": generation_j,
                    "metrics.energy_total_kwh": total_kwh,
                    "metrics.pass_at_1": passed[k].mean(),
                    "metrics.pass_at_1_per_kwh": passed[k].mean() / total_kwh,
                }
            )
    return pd.DataFrame(rows)


def whole(truth: Truth, seed: int) -> Counts:
    """Every test and verdict of one simulated group."""
    rng = np.random.default_rng(seed)
    evidence = draw(truth, rng)
    tables = _tables(evidence, rng, PAIRED + OTHERS)
    found = _paired(tables) | _efficiency(evidence, truth, rng)
    kruskal, dunn = tables["kruskal_wallis"].frame, tables["dunn"].frame
    found["Kruskal-Wallis (thesis)"] = kruskal["p_value"].iloc[0] < ALPHA
    found["Dunn, any pair (thesis)"] = (dunn["p_value_holm"] < ALPHA).any()
    regression = tables["regression"].frame.set_index(["regression", "term"])
    first = regression[regression["configuration"] == evidence.labels[0]]
    found["OLS HC3, a domain (thesis)"] = first.loc[("thesis", "Time"), "p_value"] < ALPHA
    found["OLS HAC, a domain"] = first.loc[("hac", "Time"), "p_value"] < ALPHA
    return found


def paired(truth: Truth, seed: int) -> Counts:
    """The paired tests and verdicts alone."""
    rng = np.random.default_rng(seed)
    evidence = draw(truth, rng)
    return _paired(_tables(evidence, rng, PAIRED))


def _tables(
    evidence: Evidence, rng: np.random.Generator, names: tuple[str, ...]
) -> dict[str, Table]:
    method = Method(margin=0.02, resampler=Resampler(rng=rng))
    return make_tables(evidence, method, names=names)


def _paired(tables: dict[str, Any]) -> Counts:
    energy, accuracy = tables["energy_pairs"].frame, tables["accuracy_pairs"].frame
    mixed, omnibus = tables["mixed_pairs"].frame, tables["friedman"].frame
    one = energy.iloc[0]
    known = not math.isnan(one["ci_low"])
    return {
        "Friedman": omnibus["p_value"].iloc[0] < ALPHA,
        "Wilcoxon, one pair": one["wilcoxon_p_value"] < ALPHA,
        "Wilcoxon, any pair (Holm)": (energy["wilcoxon_p_value_holm"] < ALPHA).any(),
        "log-ratio, one pair": one["p_value"] < ALPHA,
        "log-ratio, interval without 1": known and not one["ci_low"] <= 1 <= one["ci_high"],
        "verdict on energy, any pair (Holm)": energy["verdict"].isin(["less", "more"]).any(),
        "mixed model, one pair": mixed["p_value"].iloc[0] < ALPHA,
        "mixed model, any pair (Holm)": (mixed["p_value_holm"] < ALPHA).any(),
        "McNemar, one pair": accuracy["p_value"].iloc[0] < ALPHA,
        "pass@1, interval without 0": not (
            accuracy["ci_low"].iloc[0] <= 0 <= accuracy["ci_high"].iloc[0]
        ),
        "verdict on pass@1, any pair (Holm)": accuracy["verdict"].isin(["lower", "higher"]).any(),
    }


def _efficiency(evidence: Evidence, truth: Truth, rng: np.random.Generator) -> Counts:
    """Whether intervals miss the truth of the population that tasks are drawn from."""
    row = efficiency_table(evidence, resampler=Resampler(rng=rng)).frame.iloc[0]
    mean_j = MEAN_J * math.exp((TASK_SD**2 + RATIO_SD**2 / 2) / 2)
    kwh = truth.tasks * mean_j * (1 + EVALUATION) / J_PER_KWH
    true = {"energy_kwh": kwh, "pass_at_1": 0.5, "pass_at_1_per_kwh": 0.5 / kwh}
    return {
        f"interval of {name} misses": not row[f"{name}_ci_low"] <= value <= row[f"{name}_ci_high"]
        for name, value in true.items()
    }


def no_loss(truth: Truth, seed: int) -> Counts:
    """ "No loss" said of configurations that lose exactly the margin, and wrong answers."""
    rng = np.random.default_rng(seed)
    evidence = draw(truth, rng)
    pairs = _tables(evidence, rng, ("accuracy_pairs",))["accuracy_pairs"].frame
    wrong = pairs[pairs["reference"] == evidence.labels[0]]
    reached = answer(evidence, Goal(min_pass_at_1=0.5), resampler=Resampler(rng=rng))
    return {
        "no loss, one pair": wrong["no_loss_p_value"].iloc[0] < ALPHA,
        'verdict "no loss", any pair (Holm)': wrong["no_loss_shown"].any(),
        "taken, pass@1 not reached": reached.configuration is not None,
    }


def budget(truth: Truth, seed: int) -> Counts:
    """A configuration taken as within a budget that in truth none keeps."""
    rng = np.random.default_rng(seed)
    evidence = draw(truth, rng)
    rows = np.concatenate(evidence.rows)
    # Expected energy of a run on these very tasks, to which the tasks' own factor is known.
    task_j = np.exp(np.log(evidence.figures.energy_j[rows]).mean(axis=0))
    spread = (RATIO_SD**2 / 2 + truth.run_sd**2) * (1 - 1 / rows.size) / 2
    limit_kwh = float(task_j.sum()) * math.exp(spread) * (1 + EVALUATION) / J_PER_KWH
    found = answer(evidence, Goal(max_kwh=limit_kwh), resampler=Resampler(rng=rng))
    return {"taken, budget exceeded": found.configuration is not None}


def first(truth: Truth, seed: int) -> Counts:
    """What the sentence at the top claims of single runs that compete for the least energy.

    How much runs vary is known from an earlier sweep with repeats. Greedy text: on these tasks
    verdicts are fixed. On tasks like these a configuration's share of correct programs is its own.
    """
    rng = np.random.default_rng(seed)
    earlier = draw(replace(truth, runs=3, configurations=3, loss=(0.0,) * 3), rng)
    evidence = replace(draw(truth, rng), variances=run_variances(earlier.runs))
    if not any(truth.loss):
        # Else rates differ on these tasks by chance, and so does energy per correct program.
        alike = np.tile(evidence.figures.passed[0], (len(evidence.figures.passed), 1))
        evidence = with_figures(evidence, truth, replace(evidence.figures, passed=alike))
    found = answer(evidence, Goal(), resampler=Resampler(rng=rng))
    labels = list(evidence.labels)
    assert found.configuration is not None and found.reference is not None
    best, other = labels.index(found.configuration), labels.index(found.reference)
    energy = (1 + truth.effect[best]) / (1 + truth.effect[other])
    rates = evidence.figures.passed.mean(axis=1)
    here = energy * float(rates[other] / rates[best])
    there = energy * (0.5 - truth.loss[other]) / (0.5 - truth.loss[best])
    own = found.figures
    less = "not shown to differ" not in found.sentence
    return {
        "sentence: less energy where there is none": less and here >= 1 - 1e-9,
        "sentence: less energy, found": less and here < 1 - 1e-9,
        "sentence: its interval misses, on these tasks":
            not own["ratio_low"] <= here <= own["ratio_high"],
        "sentence: its interval misses, on tasks like these":
            not own["tasks_low"] <= there <= own["tasks_high"],
        "sentence: a loss is excluded that there is":
            "is excluded" in found.sentence and truth.loss[best] - truth.loss[other] >= MARGIN,
    }  # fmt: skip


def on_these_tasks(seed: int) -> Counts:
    """Two single runs compared with what is known of the variance between runs, and wrongly."""
    rng = np.random.default_rng(seed)
    sd = 0.02
    repeats = np.exp(rng.normal(math.log(MEAN_J), sd, (4, 3)))
    pooled = pooled_run_variance(repeats)
    assert pooled is not None
    known = partial(RunVariance, df=math.inf, source=ASSUMED)
    variances = {
        "of four configurations with three repeats": pooled,
        "assumed, true": known(sd_log=sd),
        "assumed, half the true": known(sd_log=sd / 2),
        "assumed, twice the true": known(sd_log=2 * sd),
    }
    a, b = np.exp(rng.normal(math.log(MEAN_J), sd, 2))
    counts: Counts = {}
    for name, variance in variances.items():
        for effect in (1.0, 1.1):
            found = compare_runs([a * effect], [b], variance=variance)
            misses = not found.low <= effect <= found.high
            if effect == 1:
                counts[f"{name}: difference where there is none"] = misses
            else:
                counts[f"{name}: interval misses"] = misses
                counts[f"{name}: 10 % more, found"] = found.low > 1
    return counts


NULL = Truth()
ALIKE = Truth(configurations=8, effect=(0.0,) * 8, loss=(0.0,) * 8, run_sd=0.02)
SCENARIOS: dict[str, tuple[str, Callable[[int], Counts]]] = {
    "null": ("no effect, 3 configurations, one run each", partial(whole, NULL)),
    "effect": (
        "one of 2 configurations takes 5 % less",
        partial(whole, replace(NULL, configurations=2, effect=(0.0, -0.05))),
    ),
    "effect_up": (
        "one of 2 configurations takes 5 % more",
        partial(paired, replace(NULL, configurations=2, effect=(0.0, 0.05))),
    ),
    "batches": (
        "no effect, batches of 8 that share noise",
        partial(paired, replace(NULL, batch=8, batch_sd=0.1)),
    ),
    "repeats": ("no effect, 3 runs each, no shifts", partial(paired, replace(NULL, runs=3))),
    "shifts": (
        "no effect, 3 runs each that shift by 2 %",
        partial(paired, replace(NULL, runs=3, run_sd=0.02)),
    ),
    "shifts_2": (
        "no effect, 2 runs each that shift by 2 %, tasks react differently",
        partial(paired, replace(NULL, runs=2, run_sd=0.02, interaction_sd=0.1)),
    ),
    "no_loss": (
        "2 of 3 configurations lose exactly the margin of 0.02 pass@1",
        partial(no_loss, replace(NULL, loss=(0.0, 0.02, 0.02))),
    ),
    "no_loss_1140": (
        "the same with 1,140 tasks",
        partial(no_loss, replace(NULL, tasks=1140, loss=(0.0, 0.02, 0.02))),
    ),
    "no_loss_repeats": (
        "the same with 2 runs each",
        partial(no_loss, replace(NULL, runs=2, loss=(0.0, 0.02, 0.02))),
    ),
    "budget": (
        "3 runs each that shift by 2 %, and a limit of energy that all just reach",
        partial(budget, replace(NULL, runs=3, run_sd=0.02)),
    ),
    "on_these_tasks": (
        "single runs whose energy varies by 2 % from run to run",
        on_these_tasks,
    ),
    "first": ("8 configurations alike, single runs that shift by 2 %", partial(first, ALIKE)),
    "first_of_3": (
        "the same with 3 configurations",
        partial(first, replace(ALIKE, configurations=3)),
    ),
    "first_batches": (
        "the same with 3 configurations in 10 batches that share noise",
        partial(first, replace(ALIKE, configurations=3, batch=20, batch_sd=0.05)),
    ),
    "first_apart": (
        "one of 8 takes 30 % less and loses 0.1 of pass@1, others lose exactly the margin",
        partial(
            first, replace(ALIKE, effect=(0.0, -0.3, *(-0.1,) * 6), loss=(0.0, 0.1, *(0.02,) * 6))
        ),
    ),
    "autocorrelation": (
        "no effect of domains, noise of successive tasks correlated by 0.5",
        partial(whole, replace(NULL, autocorrelation=0.5)),
    ),
}
"""By name: what is simulated, and one simulation by seed."""


def rates(name: str, simulations: int, workers: int = 2) -> dict[str, float]:
    """Share of simulations in which each test or verdict comes out positive."""
    found = list(_each(SCENARIOS[name][1], simulations, workers))
    return {key: float(np.mean([counts[key] for counts in found])) for key in found[0]}


def _each(simulate: Callable[[int], Counts], count: int, workers: int) -> Iterator[Counts]:
    if workers == 1:
        yield from map(simulate, range(count))
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(simulate, range(count), chunksize=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    for name in args.only:
        print(f"\n{name}: {SCENARIOS[name][0]} ({args.simulations} simulations)", flush=True)
        for key, rate in rates(name, args.simulations, args.workers).items():
            print(f"  {100 * rate:6.1f} %  {key}", flush=True)


if __name__ == "__main__":
    main()
