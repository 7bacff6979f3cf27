"""How often `resolve` is right, and what it takes, in simulated spaces with a known truth.

python benchmarks/resolve.py [--spaces 200] [--first-seed 0] [--tasks 1140] [--workers 2] [--df 6]
"""

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from codejoule.statistics import REPEATS, RunVariance, pareto_front
from codejoule.statistics.race import Answer, Job, Question, Race, Rules

MODELS_B = np.array([0.5, 1.5, 3.0, 7.0, 14.0])
BATCHES = np.array([1, 8, 32])
RUN_SD = 0.01
"""Shift of log energy of whole runs."""
PREDICTION_SD = 0.3
"""Of log measured over predicted energy."""


@dataclass(frozen=True)
class Space:
    """60 configurations: 5 models, 4 quantizations, 3 batches."""

    energy_j: NDArray[np.float64]
    """Of each task, shape (60, tasks), in the random order."""
    passed: NDArray[np.float64]
    """Whether it passes."""
    predicted_j: NDArray[np.float64]
    batch: NDArray[np.int64]
    goal: float
    """pass@1 to reach."""
    limit_j: float
    """Energy to stay within."""

    @property
    def total_j(self) -> NDArray[np.float64]:
        return self.energy_j.sum(axis=1)

    @property
    def pass_at_1(self) -> NDArray[np.float64]:
        return self.passed.mean(axis=1)


def draw(tasks: int, rng: np.random.Generator) -> Space:
    model, quant, batch = (
        a.ravel() for a in np.meshgrid(range(5), range(4), range(3), indexing="ij")
    )
    difficulty = rng.normal(scale=1.8, size=tasks)
    ability = rng.normal(-1.2, 0.4) + 0.9 * np.log(MODELS_B / 0.5) + rng.normal(scale=0.3, size=5)
    loss = np.array([0.0, 0.05, 0.25, 0.4]) * rng.uniform(0.3, 1.5, size=(5, 4))
    taste = rng.normal(scale=1.0, size=(5, tasks))[model]
    taste += rng.normal(scale=0.4, size=(5, 4, tasks))[model, quant]
    # Rounding flips a few texts.
    taste += rng.normal(scale=0.12, size=(60, tasks))
    score = ability[model][:, None] - loss[model, quant][:, None] + taste - difficulty
    size = np.log(MODELS_B / 0.5)[model] * rng.uniform(0.7, 1.0)
    bits = np.array([0.0, -0.1, -0.4, 0.2])[quant] + rng.normal(scale=0.15, size=60)
    together = np.log(np.array([1.0, 0.3, 0.11]))[batch] + rng.normal(scale=0.15, size=60)
    length = rng.normal(scale=0.6, size=tasks) + 0.15 * difficulty
    talk = rng.normal(scale=0.3, size=(5, tasks))[model] + rng.normal(scale=0.1, size=(60, tasks))
    energy_j = np.exp(5.0 + (size + bits + together)[:, None] + length + talk)
    passed = (score > 0).astype(float)
    found = passed.mean(axis=1)
    goal = float(rng.uniform(*np.quantile(found, (0.2, 0.85))))
    totals_j = np.sort(energy_j.sum(axis=1))
    return Space(
        energy_j=energy_j,
        passed=passed,
        predicted_j=energy_j.mean(axis=1) * np.exp(rng.normal(scale=PREDICTION_SD, size=60)),
        batch=BATCHES[batch],
        goal=goal,
        limit_j=float(np.exp(rng.uniform(*np.log(totals_j[[10, 50]])))),
    )


class Bench:
    """Runs jobs of a space and counts what they take."""

    def __init__(self, space: Space, rng: np.random.Generator, df: float = math.inf) -> None:
        self.space, self.rng, self.df = space, rng, df
        self.spent_j, self.jobs = 0.0, 0
        self._done: dict[tuple[int, int], NDArray[np.float64]] = {}

    def run(self, job: Job) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A job continues what an earlier look has done; a session shifts as a whole."""
        i, part = job.configuration, slice(job.before, job.tasks)
        true_j = self.space.energy_j[i, part]
        windows = np.arange(true_j.size) // self.space.batch[i]
        shared = self.rng.normal(scale=0.05, size=windows[-1] + 1)[windows]
        noise = shared + self.rng.normal(scale=0.05, size=true_j.size)
        new_j = true_j * np.exp(noise + self.rng.normal(scale=RUN_SD))
        key = i, job.repeat
        before_j = self._done.get(key, np.empty(0))[: job.before]
        self._done[key] = np.concatenate([before_j, new_j])
        self.spent_j += float(new_j.sum())
        self.jobs += 1
        return self._done[key], self.space.passed[i, : job.tasks]


def rules_of(question: Question, space: Space, **changes: float) -> Rules:
    return replace(
        Rules(
            question=question,
            min_pass_at_1=space.goal,
            max_energy_j=space.limit_j,
            first=32,
            step=32,
        ),
        **changes,
    )


def resolve(space: Space, rules: Rules, bench: Bench) -> Answer:
    # What is assumed is known with the degrees of freedom of so many repeats.
    df = bench.df
    sd = RUN_SD if math.isinf(df) else RUN_SD * math.sqrt(bench.rng.chisquare(df) / df)
    between = [RunVariance(sd_log=sd, df=df, source=REPEATS)] * space.predicted_j.size
    race = Race(space.predicted_j, tasks=space.energy_j.shape[1], rules=rules, between=between)
    while jobs := race.ask():
        for job in jobs:
            race.tell(job, *bench.run(job))
    return race.answer()


def is_right(space: Space, rules: Rules, answer: Answer) -> bool:
    """Right up to what does not matter: `margin` of pass@1, `energy_margin` of energy, and what a
    named tie allows."""
    e, p = space.total_j, space.pass_at_1
    less, margin = 1 - rules.energy_margin, rules.margin + 1e-9
    slack = {i: max(t for a, _, t in answer.ties if a == i) for i, *_ in answer.ties}
    if rules.question is Question.front:
        chosen = np.array(answer.chosen, dtype=int)
        for i in range(e.size):
            covered = (e[chosen] * less <= e[i]) & (p[chosen] >= p[i] - margin)
            if not covered.any():
                return False
        for i in chosen:
            better = (e < e[i] * min(less, 1 / (1 + slack.get(i, 0.0)))) & (p > p[i] + margin)
            if better.any():
                return False
        return True
    if rules.question is Question.least_energy:
        surely = p >= rules.min_pass_at_1 + margin
        if not answer.chosen:
            return not surely.any()
        (best,) = answer.chosen
        allowed = min(less, 1 - slack.get(best, 0.0))
        return bool(
            p[best] >= rules.min_pass_at_1 - margin and not (e[surely] < e[best] * allowed).any()
        )
    surely = e <= rules.max_energy_j * less
    if not answer.chosen:
        return not surely.any()
    (best,) = answer.chosen
    return bool(
        e[best] * less <= rules.max_energy_j
        and (not surely.any() or p[best] >= p[surely].max() - margin)
    )


def random_order(space: Space, rules: Rules, budget_j: float, rng: np.random.Generator) -> Answer:
    """The grid in random order, a whole run each, as far as the same energy goes."""
    total_j, seen = space.total_j, []
    for i in rng.permutation(total_j.size):
        if budget_j < total_j[i]:
            break
        budget_j -= total_j[i]
        seen.append(int(i))
    e, p = total_j[seen], space.pass_at_1[seen]
    if rules.question is Question.front:
        chosen = tuple(int(i) for i in np.array(seen, dtype=int)[pareto_front(e, p)])
    elif rules.question is Question.least_energy:
        fit = [i for i in seen if space.pass_at_1[i] >= rules.min_pass_at_1]
        chosen = (min(fit, key=lambda i: total_j[i]),) if fit else ()
    else:
        fit = [i for i in seen if total_j[i] <= rules.max_energy_j]
        chosen = (max(fit, key=lambda i: space.pass_at_1[i]),) if fit else ()
    return Answer(decided=True, chosen=chosen, ties=(), open=())


@dataclass(frozen=True)
class Outcome:
    """Of one simulated space."""

    decided: bool
    right: bool
    tie: bool
    share: float
    """Energy spent over that of the full grid, a run of all tasks each."""
    jobs: int
    random_right: bool


def simulate(
    question: Question, tasks: int, df: float, changes: dict[str, float], seed: int
) -> Outcome:
    rng = np.random.default_rng(seed)
    space = draw(tasks, rng)
    rules = rules_of(question, space, **changes)
    bench = Bench(space, rng, df)
    answer = resolve(space, rules, bench)
    other = random_order(space, rules, bench.spent_j, rng)
    return Outcome(
        decided=answer.decided,
        right=is_right(space, rules, answer),
        tie=bool(answer.ties),
        share=bench.spent_j / float(space.total_j.sum()),
        jobs=bench.jobs,
        random_right=bool(other.chosen or question is not Question.front)
        and is_right(space, rules, other),
    )


def table(found: list[Outcome]) -> dict[str, float]:
    shares = [o.share for o in found]
    decided = [o for o in found if o.decided]
    return {
        "decided %": 100 * len(decided) / len(found),
        "right of those decided %": 100 * float(np.mean([o.right for o in decided])),
        "with a tie named %": 100 * float(np.mean([o.tie for o in found])),
        "energy, median % of the grid": 100 * float(np.median(shares)),
        "energy, 90th percentile %": 100 * float(np.quantile(shares, 0.9)),
        "jobs, median": float(np.median([o.jobs for o in found])),
        "random order, same energy: right %": 100 * float(np.mean([o.random_right for o in found])),
    }


def run(
    question: Question,
    spaces: int,
    tasks: int = 1140,
    workers: int = 2,
    *,
    first_seed: int = 0,
    df: float = math.inf,
    **changes: float,
) -> dict[str, float]:
    one = partial(simulate, question, tasks, df, changes)
    if workers == 1:
        return table([one(seed) for seed in range(first_seed, first_seed + spaces)])
    with ProcessPoolExecutor(workers) as pool:
        return table(list(pool.map(one, range(first_seed, first_seed + spaces), chunksize=4)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spaces", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=1140)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--df", type=float, default=math.inf, help="of the between-run variance")
    parser.add_argument("--only", nargs="*", default=[q.value for q in Question])
    args = parser.parse_args()
    for name in args.only:
        print(
            f"\n{name}: {args.spaces} spaces of 60 configurations, {args.tasks} tasks", flush=True
        )
        found = run(
            Question(name), args.spaces, args.tasks, args.workers,
            first_seed=args.first_seed, df=args.df,
        )  # fmt: skip
        for key, value in found.items():
            print(f"  {value:8.1f}  {key}", flush=True)


if __name__ == "__main__":
    main()
