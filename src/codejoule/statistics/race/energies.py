"""What is known of the energy of configurations, by runs of some of the tasks and predictions."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codejoule.statistics.race.facts import Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Energies:
    """Measured, predicted, and how sure."""

    seen: list[Seen]
    """Of each configuration."""
    predicted_j: NDArray[np.float64]
    """Energy of a task [J] up to a common factor, shape (k,); NaN where there is no prediction."""
    run_sd: NDArray[np.float64]
    """Upper bound of the between-run standard deviation of the logarithm of energy, shape (k,)."""
    tasks: int
    """Of the suite."""
    prediction_sd: float
    """Of the logarithm of measured over predicted energy, at least."""
    z: float
    """Critical value for pairs of configurations."""
    z_one: float
    """The same for configurations one by one, of predictions."""

    def per_task_j(self) -> NDArray[np.float64]:
        """Energy of a task of each configuration [J]: measured, else predicted and scaled by what
        was measured of others; NaN where neither is known."""
        measured = np.full(len(self.seen), math.nan)
        for i, own in enumerate(self.seen):
            if own.runs:
                measured[i] = np.mean([run.mean() for run in own.runs])
        ran = ~np.isnan(measured) & ~np.isnan(self.predicted_j)
        if not ran.any():
            return np.where(np.isnan(measured), self.predicted_j, measured)
        offset = np.log(measured[ran] / self.predicted_j[ran]).mean()
        return np.where(np.isnan(measured), self.predicted_j * math.exp(offset), measured)

    def _spread(self) -> float:
        """Of a new configuration's log ratio of measured to predicted energy."""
        measured = np.array([s.runs[0].mean() if s.runs else math.nan for s in self.seen])
        logs = np.log(measured / self.predicted_j)
        logs = logs[~np.isnan(logs)]
        if logs.size == 0:
            return math.inf
        sd = max(self.prediction_sd, float(logs.std(ddof=1)) if logs.size > 2 else 0.0)
        return sd * math.sqrt(1 + 1 / logs.size)

    def log_ratios(
        self, *, repeats: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Simultaneous bounds of ``ln(e_a / e_b)`` for all pairs, shape (k, k) each; infinite where
        nothing is known. With `repeats`: as they would be with so many runs of each."""
        sizes = np.array([s.tasks for s in self.seen])
        centre = np.zeros((len(self.seen), len(self.seen)))
        half = np.full((len(self.seen), len(self.seen)), math.inf)
        for n in np.unique(sizes[sizes > 1]):
            of = np.flatnonzero(sizes >= n)
            runs = [[r[:n] for r in self.seen[i].runs if r.size >= n] for i in of]
            e = np.array([np.mean(own, axis=0) for own in runs])
            count = np.array([repeats or len(own) for own in runs])
            means = e.mean(axis=1)
            gram = (e / means[:, None]) @ (e / means[:, None]).T
            own = np.diag(gram)
            spread = np.maximum(own[:, None] + own[None, :] - 2 * gram, 0.0) / (n - 1)
            run = self.run_sd[of] ** 2 / count
            variance = run[:, None] + run[None, :] + (1 - n / self.tasks) / n * spread
            here = np.minimum(sizes[of][:, None], sizes[of][None, :]) == n
            rows, columns = np.nonzero(here)
            logs = np.log(means)
            centre[of[rows], of[columns]] = (logs[:, None] - logs[None, :])[here]
            half[of[rows], of[columns]] = self.z * np.sqrt(variance)[here]
        unseen = np.flatnonzero((sizes == 0) & ~np.isnan(self.predicted_j))
        if unseen.size and (sizes > 0).any():
            logs, spread_of = np.log(self.per_task_j()), self.z_one * self._spread()
            for i in unseen:
                for j in np.flatnonzero(sizes > 0):
                    centre[i, j] = logs[i] - logs[j]
                    centre[j, i] = -centre[i, j]
                    half[i, j] = half[j, i] = spread_of
        np.fill_diagonal(half, 0.0)
        return centre - half, centre + half

    def total_j(self, i: int) -> tuple[float, float]:
        """Bounds of the energy of all tasks of a configuration [J]."""
        own = self.seen[i]
        if not own.runs:
            e_j, sd = self.per_task_j()[i], self._spread()
            if math.isnan(e_j) or math.isinf(sd):
                return 0.0, math.inf
            half = self.z_one * sd
        else:
            e = np.mean([run[: own.tasks] for run in own.runs if run.size >= own.tasks], axis=0)
            e_j, n = float(e.mean()), own.tasks
            sampled = (
                (1 - n / self.tasks) / n * float(e.var(ddof=1)) / e_j**2 if n > 1 else math.inf
            )
            half = self.z * math.sqrt(self.run_sd[i] ** 2 / len(own.runs) + sampled)
        return self.tasks * e_j * math.exp(-half), self.tasks * e_j * math.exp(half)
