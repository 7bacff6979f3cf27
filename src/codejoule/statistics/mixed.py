"""Mixed model: configurations as fixed effects, tasks (and runs) as random ones."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from codejoule.statistics.result import ALPHA, ROUNDING
from codejoule.statistics.statistic import Method, Row, SetTasks, Statistic


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedModel:
    """REML fit of ``log energy ~ configuration + (1 | block) + (1 | run)``. NaN: undefined."""

    means: NDArray[np.float64]
    """Fixed effect of each configuration, shape (k,): its mean log energy."""
    contrast_error: float
    """Standard error of the difference of two configurations."""
    df: float
    """Degrees of freedom of that difference."""
    sd_block: float
    """Standard deviation between blocks (tasks, or batches of tasks)."""
    sd_run: float
    """Between runs of one configuration; NaN with one run each: it is not known then."""
    sd_residual: float
    """Of one block in one run."""

    @property
    def icc(self) -> float:
        """Share of the variance that is between blocks: what pairing takes out. NaN without any."""
        within = self.sd_residual**2 + (0.0 if math.isnan(self.sd_run) else self.sd_run**2)
        whole = self.sd_block**2 + within
        return self.sd_block**2 / whole if whole else math.nan

    def p_value(self, i: int, j: int) -> float:
        """Two-sided p-value that configurations `i` and `j` do not differ."""
        from scipy import stats

        t = abs(self.means[i] - self.means[j]) / self.contrast_error
        return float(2 * stats.t.sf(t, self.df))


def mixed_model(logs: NDArray[np.float64]) -> MixedModel:
    """Fit the model to a balanced design.

    Parameters
    ----------
    logs : ndarray of float, shape (k, r, n)
        Log energy of ``k >= 2`` configurations in ``r`` runs each on ``n >= 2`` blocks.

    Returns
    -------
    MixedModel
        The fit. Where nothing but rounding is left to estimate an error from, the error is NaN.

    Raises
    ------
    ValueError
        If there is nothing to fit.

    Notes
    -----
    In a balanced design the REML estimates are those of the analysis of variance, in closed
    form; a component that would be negative is 0, and what it was estimated from is pooled.
    Differences are tested against the mean square between runs (against the residual with one
    run each), also where the component between runs is estimated as 0: pooling then would make
    a test that rejects too often.

    References
    ----------
    Searle, Casella and McCulloch (1992), Variance Components, 4.7-4.8.
    """
    k, r, n = logs.shape
    if k < 2 or n < 2:
        raise ValueError(f"a mixed model needs 2 configurations and 2 blocks, not {k} and {n}")
    grand = logs.mean()
    ss_block = k * r * float(np.sum((logs.mean(axis=(0, 1)) - grand) ** 2))
    run_means = logs.mean(axis=2)
    ss_run = n * float(np.sum((run_means - run_means.mean(axis=1, keepdims=True)) ** 2))
    ss_runs_and_configurations = n * float(np.sum((run_means - grand) ** 2))
    ss_residual = float(np.sum((logs - grand) ** 2)) - ss_block - ss_runs_and_configurations
    df_block, df_run, df_residual = n - 1, k * (r - 1), (n - 1) * (k * r - 1)
    var_block, var_run, var_residual = _components(
        (max(ss_residual, 0.0), df_residual), (ss_block, df_block, k * r), (ss_run, df_run, n)
    )
    ms_test = ss_run / df_run if df_run else ss_residual / df_residual
    error = math.sqrt(2 * ms_test / (r * n)) if ms_test > ROUNDING**2 else math.nan
    return MixedModel(
        means=run_means.mean(axis=1),
        contrast_error=error,
        df=float(df_run or df_residual),
        sd_block=math.sqrt(var_block),
        sd_run=math.sqrt(var_run) if df_run else math.nan,
        sd_residual=math.sqrt(var_residual),
    )


def _components(
    residual: tuple[float, int], block: tuple[float, int, int], run: tuple[float, int, int]
) -> tuple[float, float, float]:
    """Variances between blocks, between runs and of the residual.

    A component whose mean square lies below the residual's is 0, and its sum of squares and
    degrees of freedom join the residual's.
    """
    ss, df = residual
    kept = [effect for effect in (block, run) if effect[1]]
    while negative := [effect for effect in kept if effect[0] / effect[1] < ss / df]:
        for ss_own, df_own, _ in negative:
            ss, df = ss + ss_own, df + df_own
        kept = [effect for effect in kept if effect not in negative]
    var_block, var_run = (
        (effect[0] / effect[1] - ss / df) / effect[2] if effect in kept else 0.0
        for effect in (block, run)
    )
    return var_block, var_run, ss / df


def _fit(of: SetTasks) -> tuple[MixedModel, int] | None:
    """The fit of as many runs as all configurations have, and how many these are."""
    if not of.labels.size or of.labels.max() == 0:
        return None
    runs = min(len(energy_j) for energy_j in of.energy_j)
    return mixed_model(np.stack([logs[:runs] for logs in of.cluster_logs()])), runs


def _model(of: SetTasks, _: Method) -> Iterator[Row]:
    found = _fit(of)
    if found is not None:
        model, runs = found
        yield asdict(model) | {
            "blocks": int(of.labels.max()) + 1,
            "runs": runs,
            "icc": model.icc,
            "contrast_standard_error": model.contrast_error,
        }


MIXED_MODEL = Statistic(
    name="mixed_model",
    title="Mixed model of log energy: configuration fixed, task and run random",
    unit="set",
    rows=_model,
    figures=(
        "blocks", "runs", "sd_block", "sd_run", "sd_residual", "icc", "contrast_standard_error",
        "df",
    ),
    notes=(
        "REML; standard deviations of log energy. sd_run is unknown with one run per "
        "configuration. icc: share of the variance that is between tasks.",
    ),
)  # fmt: skip


def _contrasts(of: SetTasks, _: Method) -> Iterator[Row]:
    from scipy import stats

    found = _fit(of)
    if found is None:
        return
    model = found[0]
    half = float(stats.t.ppf(1 - ALPHA / 2, model.df)) * model.contrast_error
    for i, j in of.pairs:
        difference = float(model.means[i] - model.means[j])
        yield {
            "pair": (i, j),
            "ratio": math.exp(difference),
            "ci_low": math.exp(difference - half),
            "ci_high": math.exp(difference + half),
            "p_value": model.p_value(i, j),
        }


MIXED_PAIRS = Statistic(
    name="mixed_pairs",
    title="Energy against the reference by the mixed model",
    unit="contrasts",
    rows=_contrasts,
    figures=("ratio", "ci_low", "ci_high", "p_value"),
    adjusted=("p_value",),
    notes=("One error for all comparisons of a set, that of the mixed model.",),
)
