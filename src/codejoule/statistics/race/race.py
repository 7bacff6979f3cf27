"""Finds which configuration answers a question: more tasks run only of those still in question."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codejoule.statistics.betting import log_growth
from codejoule.statistics.between_runs import RunVariance, upper_sd
from codejoule.statistics.pareto import pareto_front
from codejoule.statistics.race.energies import Energies
from codejoule.statistics.race.facts import Answer, Job, Question, Rules, Seen

_SHARE_OF_ENERGY = 0.1
"""Share of the error that comparisons of energy may make; those of pass@1 have the rest."""

_SHARE_OF_VARIANCE = 0.4
"""Share of the error that bounds of the variance between runs may make, where that variance is an
estimate. The share is large because an estimate from few repeats has a wide bound, which a larger
share narrows."""

_WIDE = 5
"""Energy margins in either direction; repeats that would leave more open are not made."""

_EQUAL = 0.1
"""Share of the error of pass@1 that is divided equally among configurations. The rest is divided in
proportion to predicted energy."""

_RIVALS = 3
"""Number of rivals among which the wealth of a look is spread, because the best rival is hardly
known at first."""

_SHRINKAGE = 0.02
"""Variance of true differences of pass@1 over the share of tasks on which two disagree; a guess
that only the choice of rivals rests on."""


class Race:
    r"""Asks for runs and is told what they gave, until the question is answered.

    Parameters
    ----------
    predicted_j : array_like, shape (k,)
        Predicted energy of a task of each configuration [J], up to a common factor; NaN where there
        is no prediction.
    tasks : int
        Tasks of the suite, ``N``. All runs take them in one random order.
    rules : Rules
        What is asked.
    between : sequence of RunVariance, length k
        Between-run variance of the logarithm of each one's energy.

    Notes
    -----
    *Pass@1* on the suite is a mean over a finite population of which a look is a random sample
    without replacement: tests by betting (`log_growth`), valid at every look, on the paired
    differences of two configurations. A configuration is dropped where rivals are shown to be no
    worse by more than the margin. The rivals of the next look are chosen from the looks before,
    so the choice costs nothing: a product of bets on varying rivals is a supermartingale if none
    of them is a good one. A configuration stays on a front where every one that may be cheaper is
    shown to have lower pass@1. Each configuration has a share of the error (Bonferroni). Most of
    that is in proportion to predicted energy, because dropping expensive ones early saves most
    (weights: Genovese, Roeder and Wasserman 2006).

    *Energy*: the log ratio of two configurations on the tasks that both have seen, with the
    between-run variance and that of a sample of ``n`` of ``N`` tasks; normal, Bonferroni
    over pairs, looks and repeats. A between-run variance that is an estimate is bounded from above
    (chi-square), at a share of the error. A configuration that has not run yet is placed by its
    prediction, scaled by what was measured of others, and by the spread of predictions.

    References
    ----------
    Waudby-Smith and Ramdas (2024), J. R. Stat. Soc. B 86, 1-27.
    Genovese, Roeder and Wasserman (2006), Biometrika 93, 509-524.
    Even-Dar, Mannor and Mansour (2006), J. Mach. Learn. Res. 7, 1079-1105 (successive elimination).
    """

    def __init__(
        self,
        predicted_j: ArrayLike,
        *,
        tasks: int,
        rules: Rules,
        between: Sequence[RunVariance],
    ) -> None:
        from scipy import stats

        self.predicted_j = np.asarray(predicted_j, dtype=float)
        self.k, self.tasks, self.rules = self.predicted_j.size, tasks, rules
        self.looks = rules.looks(tasks)
        self.seen = [Seen() for _ in range(self.k)]
        self.out: dict[int, str] = {}
        self.kept: set[int] = set()
        known = np.nan_to_num(self.predicted_j / np.nansum(self.predicted_j))
        share = known if known.sum() else np.full(self.k, 1 / self.k)
        estimated = {own for own in between if not math.isinf(own.df)}
        of_variance = _SHARE_OF_VARIANCE if estimated else 0.0
        of_pass = rules.error * (1 - _SHARE_OF_ENERGY - of_variance)
        self._enough = -np.log(of_pass * (_EQUAL / self.k + (1 - _EQUAL) * share))
        if rules.question is Question.least_energy:
            self._enough = np.full(self.k, -math.log(of_pass / self.k))
        tests = max(1, self.k * (self.k - 1) // 2) * (len(self.looks) + rules.max_repeats - 1)
        tail = rules.error * _SHARE_OF_ENERGY / tests
        self._energies = Energies(
            seen=self.seen,
            predicted_j=self.predicted_j,
            run_sd=np.array(
                [upper_sd(own, rules.error * of_variance / len(estimated)) for own in between]
                if estimated
                else [own.sd_log for own in between]
            ),
            tasks=tasks,
            prediction_sd=rules.prediction_sd,
            z=float(stats.norm.isf(tail)),
            z_one=float(stats.norm.isf(rules.error * _SHARE_OF_ENERGY / self.k)),
        )
        self._rivals_of: list[tuple[int, ...]] = [()] * self.k
        self._rested_on: list[set[int]] = [set() for _ in range(self.k)]
        self._wealth = np.zeros(self.k)
        self._bet_on = np.zeros(self.k, dtype=int)
        self._keep: dict[tuple[int, int], tuple[int, bool]] = {}
        self._ratios: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    # What is told

    def tell(self, job: Job, energy_j: NDArray[np.float64], passed: NDArray[np.float64]) -> None:
        """What a job gave: energy [J] and share of samples passed of each task, in the order of the
        tasks. A repeat's verdicts are not looked at: those of the first run count."""
        own = self.seen[job.configuration]
        if job.repeat > len(own.runs):
            own.runs.append(energy_j)
        else:
            own.runs[job.repeat - 1] = energy_j
        if job.repeat == 1:
            own.passed = passed
        self._ratios = None

    def fail(self, configuration: int) -> None:
        """It cannot be run."""
        self.out[configuration] = "failed"
        self.kept.discard(configuration)

    def spent_j(self, job: Job) -> float:
        """Energy of what a job takes over from the look before [J]."""
        runs = self.seen[job.configuration].runs
        return float(runs[job.repeat - 1].sum()) if job.before else 0.0

    def energy_j(self) -> NDArray[np.float64]:
        """Energy of a task of each configuration [J]: measured, else predicted and scaled by what
        was measured of others; NaN where neither is known."""
        return self._energies.per_task_j()

    def _log_ratios(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self._ratios is None:
            self._ratios = self._energies.log_ratios()
        return self._ratios

    # What is asked for

    def ask(self, start_j: Callable[[Job], float] = lambda _: 0.0) -> list[Job]:
        """Runs to make next, cheapest first; empty where the question is answered. `start_j` is
        what a run takes before its first task [J]: loading."""
        self._judge()
        energy_j = self.energy_j()
        jobs = {
            Question.front: self._ask_front,
            Question.least_energy: self._ask_least_energy,
            Question.best_pass: self._ask_best_pass,
        }[self.rules.question]()

        def cost(job: Job) -> tuple[float, int]:
            e_j = energy_j[job.configuration]
            tasks_j = 0.0 if math.isnan(e_j) else e_j * (job.tasks - job.before)
            return (tasks_j + start_j(job), job.configuration)

        jobs = sorted(set(jobs), key=lambda job: (cost(job), job.repeat))
        return jobs[:1] if self.rules.question is Question.least_energy else jobs

    def answer(self) -> Answer:
        """What is known by now; call it after `ask`."""
        return {
            Question.front: self._front,
            Question.least_energy: self._least_energy,
            Question.best_pass: self._best_pass,
        }[self.rules.question]()

    def _next(self, i: int) -> list[Job]:
        """More tasks of a configuration; none where it has them all."""
        have = self.seen[i].tasks
        more = [n for n in self.looks if n > have]
        return [Job(configuration=i, repeat=1, tasks=more[0], before=have)] if more else []

    def _up_to(self, i: int, tasks: int) -> list[Job]:
        have = self.seen[i].tasks
        if have >= tasks:
            return []
        return [Job(configuration=i, repeat=1, tasks=tasks, before=have)]

    def _again(self, i: int) -> list[Job]:
        """One more run of the tasks seen; none where there are enough."""
        own = self.seen[i]
        for number, run in enumerate(own.runs, start=1):
            if run.size < own.tasks:
                return [Job(configuration=i, repeat=number, tasks=own.tasks, before=run.size)]
        if len(own.runs) >= self.rules.max_repeats:
            return []
        return [Job(configuration=i, repeat=len(own.runs) + 1, tasks=own.tasks, before=0)]

    def _closer(self, a: int, b: int) -> list[Job]:
        """Runs that tell the energies of two apart. None where all repeats together are expected
        to leave much open, in either direction."""
        if jobs := [*self._next(a), *self._next(b)]:
            return jobs
        low, high = self._energies.log_ratios(repeats=self.rules.max_repeats)
        wide = math.log1p(_WIDE * self.rules.energy_margin)
        if low[a, b] < -wide and high[a, b] > wide:
            return []
        return [*self._again(a), *self._again(b)]

    def _judge(self) -> None:
        if self.rules.question is Question.least_energy:
            self._judge_against_goal()
        else:
            self._judge_limit()
            self._drop()
            if self.rules.question is Question.front:
                self._keep_shown()
            self._choose_rivals()

    # Pass@1 of pairs

    def _difference(self, of: int, less: int) -> NDArray[np.float64]:
        n = min(self.seen[of].tasks, self.seen[less].tasks)
        return self.seen[of].passed[:n] - self.seen[less].passed[:n]

    def _complete(self, *configurations: int) -> bool:
        return all(self.seen[i].tasks == self.tasks for i in configurations)

    def _alive(self) -> list[int]:
        return [i for i in range(self.k) if i not in self.out]

    def _rivals(self, i: int) -> list[int]:
        """Configurations that rule out `i` if their pass@1 is no lower."""
        if self.rules.question is Question.best_pass:
            limit = self.rules.max_energy_j * (1 + self.rules.energy_margin)
            return [c for c in self._alive() if c != i and self._energies.total_j(c)[1] <= limit]
        _, high = self._log_ratios()
        return [c for c in self._alive() if c != i and high[c, i] < 0]

    def _drop(self) -> None:
        """Drop the configurations that are shown to have a better rival."""
        # The most expensive come first: each is compared with those that remain.
        for i in sorted(self._alive(), key=lambda i: -self.energy_j()[i]):
            if i in self.kept or not self.seen[i].tasks:
                continue
            start, end = self._bet_on[i], self.seen[i].tasks
            rivals = [c for c in self._rivals_of[i] if self.seen[c].tasks >= end]
            if rivals and end > start:
                differences = np.stack([self._difference(c, i) for c in rivals], axis=1)
                growth = log_growth(
                    differences, population=self.tasks, null=-self.rules.margin, low=-1.0
                )[start:]
                path = self._wealth[i] + np.logaddexp.reduce(
                    np.cumsum(growth, axis=0) - math.log(len(self._rivals_of[i])), axis=1
                )
                self._bet_on[i], self._wealth[i] = end, path[-1]
                self._rested_on[i].update(rivals)
                shown = path.max() >= self._enough[i] and set(rivals) <= set(self._rivals(i))
                if shown and not self._stands_for_others(i):
                    self.out[i] = f"no better than {rivals[0]}"
                    continue
            if self._complete(i):
                better = [
                    c for c in self._rivals(i)
                    if self._complete(c) and self._loses(i, c)
                ]  # fmt: skip
                if better:
                    self.out[i] = f"no better than {better[0]}"

    def _stands_for_others(self, i: int) -> bool:
        """Whether one that was dropped for `i` would have nobody left that is about as good: what
        the margin allows must not add up from one rival to the next."""
        left = [c for c in self._alive() if c != i and self.seen[c].tasks]
        energy_j, half = self.energy_j(), self.rules.margin / 2
        if self.rules.question is Question.best_pass:
            energy_j = np.zeros(self.k)
        return any(
            i in self._rested_on[d]
            and not any(
                energy_j[c] <= energy_j[d] and self._difference(c, d).mean() >= -half for c in left
            )
            for d in self.out
            if self.seen[d].tasks
        )

    def _loses(self, i: int, c: int) -> bool:
        """Whether `c`, whose energy is fine, leaves no reason for `i`; both have all tasks."""
        mine, other = self.seen[i].passed.sum(), self.seen[c].passed.sum()
        if self.rules.question is Question.front:
            return bool(other >= mine)
        return bool((other, -self.energy_j()[c], -c) > (mine, -self.energy_j()[i], -i))

    def _choose_rivals(self) -> None:
        """For the next look, from those before."""
        for i in self._alive():
            rivals = [c for c in self._rivals(i) if self.seen[c].tasks]
            if not self.seen[i].tasks:
                continue
            promise = {c: self._promise(self._difference(c, i)) for c in rivals}
            best = sorted(rivals, key=lambda c: -promise[c])[:_RIVALS]
            self._rivals_of[i] = tuple(c for c in best if promise[c] > 0)
            # Tasks that were seen before the choice do not count as bets.
            self._bet_on[i] = max(self._bet_on[i], self.seen[i].tasks)

    def _promise(self, difference: NDArray[np.float64]) -> float:
        """Roughly how fast wealth is expected to grow. The mean is shrunk so that the luckiest of
        many is not taken for the best, and shrunk more the more they disagree."""
        n = difference.size
        mean = difference.mean() * _SHRINKAGE / (_SHRINKAGE + 1 / n) + self.rules.margin
        square = (float(difference @ difference) + 0.5) / (n + 5)
        bet = min(max(mean, 0.0) / (square + mean * mean), 1.0)
        return float(mean if mean <= 0 else bet * mean - bet * bet * (square + mean * mean) / 2)

    def _keep_shown(self) -> None:
        """Settle the configurations that no other one can rule out."""
        for i in self._alive():
            if i not in self.kept and self.seen[i].tasks and not self._threats(i):
                self.kept.add(i)

    def _threats(self, i: int) -> list[int]:
        """Those that may still be cheaper than `i` and no worse in pass@1."""
        low, _ = self._log_ratios()
        edge = math.log1p(-self.rules.energy_margin)
        return [
            c for c in self._alive()
            if c != i and low[c, i] < edge and not self._shown_worse(c, i)
        ]  # fmt: skip

    def _shown_worse(self, c: int, i: int) -> bool:
        """Whether pass@1 of `c` is shown to be below that of `i`."""
        difference = self._difference(i, c)
        if self._complete(i, c):
            return bool(difference.sum() > 0)
        done, shown = self._keep.get((c, i), (0, False))
        if not shown and difference.size > done:
            growth = log_growth(difference, population=self.tasks, null=0.0, low=-1.0)
            shown = bool(np.cumsum(growth).max() >= self._enough[i])
            self._keep[(c, i)] = difference.size, shown
        return shown

    # The Pareto front

    def _ask_front(self) -> list[Job]:
        return self._more_of([i for i in self._alive() if i not in self.kept])

    def _more_of(self, unsettled: Sequence[int]) -> list[Job]:
        jobs: list[Job] = []
        for i in unsettled:
            more = self._next(i)
            jobs += more
            for rival in self._rivals_of[i] if more else ():
                jobs += self._up_to(rival, more[0].tasks)
            if not more and self.rules.question is Question.front:
                for c in self._threats(i):
                    jobs += self._closer(i, c)
        return jobs

    def _front(self) -> Answer:
        alive = self._alive()
        still = [i for i in alive if i not in self.kept]
        _, high = self._log_ratios()
        ties = []
        decided = True
        for i in still:
            threats = self._threats(i) if self.seen[i].tasks else []
            if not threats or any(self._next(i) or self._closer(i, c) for c in threats):
                decided = False
            else:
                ties += [(i, c, float(np.expm1(high[i, c]))) for c in threats]
        chosen = alive
        if not decided:
            known = [i for i in alive if self.seen[i].tasks]
            energy = [float(self.energy_j()[i]) for i in known]
            front = pareto_front(energy, [float(self.seen[i].passed.mean()) for i in known])
            chosen = [i for i, on in zip(known, front, strict=True) if on]
        unsettled = () if decided else tuple(still)
        return Answer(decided=decided, chosen=tuple(chosen), ties=tuple(ties), open=unsettled)

    # Least energy with pass@1 at least P

    def _judge_against_goal(self) -> None:
        goal, margin = self.rules.min_pass_at_1, self.rules.margin
        for i in range(self.k):
            own = self.seen[i]
            if not own.tasks or i in self.kept or i in self.out:
                continue
            if self._complete(i):
                reached = own.passed.mean() >= goal - 1e-12
                missed = not reached
            else:
                up = log_growth(own.passed, population=self.tasks, null=goal - margin, low=0.0)
                down = log_growth(
                    1 - own.passed, population=self.tasks, null=1 - goal - margin, low=0.0
                )
                reached = np.cumsum(up).max() >= self._enough[i]
                missed = not reached and np.cumsum(down).max() >= self._enough[i]
            if reached:
                self.kept.add(i)
            elif missed:
                self.out[i] = f"pass@1 below {goal:g}"

    def _best(self) -> int | None:
        """The cheapest that is shown to reach the goal."""
        energy_j = self.energy_j()
        return min(self.kept, key=lambda i: (energy_j[i], i), default=None)

    def _possible(self) -> list[int]:
        """Those that may still be cheaper than the best, and reach the goal."""
        best = self._best()
        if best is None:
            return self._alive()
        low, _ = self._log_ratios()
        edge = math.log1p(-self.rules.energy_margin)
        return [i for i in self._alive() if i != best and low[i, best] < edge]

    def _ask_least_energy(self) -> list[Job]:
        best = self._best()
        jobs: list[Job] = []
        for i in self._possible():
            if i not in self.kept:
                jobs += self._next(i)
            elif best is not None:
                jobs += self._closer(i, best)
        return jobs

    def _least_energy(self) -> Answer:
        best, possible = self._best(), self._possible()
        unsettled = [i for i in possible if i not in self.kept]
        close = [i for i in possible if i in self.kept]
        open_ = unsettled + [i for i in close if best is not None and self._closer(i, best)]
        low, _ = self._log_ratios()
        ties = () if open_ or best is None else tuple(
            (best, i, float(-np.expm1(low[i, best]))) for i in close
        )  # fmt: skip
        chosen = () if best is None else (best,)
        return Answer(decided=not open_, chosen=chosen, ties=ties, open=tuple(open_))

    # Best pass@1 within E

    def _judge_limit(self) -> None:
        if self.rules.question is not Question.best_pass:
            return
        for i in self._alive():
            if self._energies.total_j(i)[0] > self.rules.max_energy_j * (
                1 - self.rules.energy_margin
            ):
                if self._within(i):
                    continue
                self.out[i] = "above the limit of energy"

    def _within(self, i: int) -> bool:
        return self._energies.total_j(i)[1] <= self.rules.max_energy_j * (
            1 + self.rules.energy_margin
        )

    def _ask_best_pass(self) -> list[Job]:
        alive = self._alive()
        if len(alive) <= 1 and all(map(self._within, alive)):
            return []
        jobs = self._more_of(alive)
        for i in alive:
            if not self._next(i) and not self._within(i):
                jobs += self._again(i)
        return jobs

    def _best_pass(self) -> Answer:
        alive = self._alive()
        known = [i for i in alive if self.seen[i].tasks]
        limit = self.rules.max_energy_j
        ties = tuple(
            (i, i, self._energies.total_j(i)[1] / limit - 1) for i in alive if not self._within(i)
        )  # fmt: skip
        energy_j = self.energy_j()
        fit = [i for i in known if energy_j[i] * self.tasks <= limit] or known
        best = max(fit, key=lambda i: (self.seen[i].passed.mean(), -energy_j[i]), default=None)
        decided = not alive or not self._ask_best_pass()
        chosen = () if best is None else (best,)
        return Answer(
            decided=decided, chosen=chosen, ties=ties if decided else (),
            open=() if decided else tuple(alive),
        )  # fmt: skip
