"""Energy of a task by domain, and explained by its tokens and domains."""

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codejoule.statistics.result import has_spread
from codejoule.statistics.statistic import Method, Row, RunTasks, Statistic

J_PER_WH = 3600.0
MODEL_STATISTICS = (
    "n", "r_squared", "adjusted_r_squared", "f", "f_p_value", "log_likelihood", "aic", "bic",
    "durbin_watson", "omnibus", "omnibus_p_value", "jarque_bera", "jarque_bera_p_value", "skew",
    "kurtosis", "condition_number",
)  # fmt: skip
"""What is known of each fit."""


@dataclass(frozen=True, slots=True)
class Term:
    """One coefficient."""

    name: str
    """Regressor."""
    coefficient: float
    """Estimate."""
    standard_error: float
    """Robust, of the regression's kind."""
    statistic: float
    """z (HC) or t (HAC)."""
    p_value: float
    """Two-sided."""
    ci_low: float
    """Lower end of the 95 % interval."""
    ci_high: float
    """Upper end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """A least-squares fit and its model statistics."""

    terms: tuple[Term, ...]
    """In the order of the regressors."""
    dropped: tuple[str, ...]
    """Regressors left out because they do not vary or repeat others."""
    statistics: dict[str, float]
    """By the names of `MODEL_STATISTICS`."""


def thesis_regression(
    energy_j: NDArray[np.float64],
    output_tokens: NDArray[np.float64],
    domains: dict[str, NDArray[np.bool_]],
) -> Regression | None:
    """The thesis' regression of one run.

    Parameters
    ----------
    energy_j : ndarray of float, shape (n,)
        Energy of each task [J], in the order of generation.
    output_tokens : ndarray of float, shape (n,)
        Generated tokens of each task.
    domains : dict of str to ndarray of bool, shape (n,)
        Which tasks belong to each domain.

    Returns
    -------
    Regression or None
        None where there are too few tasks for it, a figure is unknown or an energy not above
        0, or the fit is perfect, which leaves no error to estimate. A domain with one task, or
        all but one, is dropped: its coefficient would be that task alone, without an error.

    Notes
    -----
    ``log(1 + E_Wh) ~ output_tokens + lagged log energy + domains`` without an intercept, R2
    uncentred, errors HC3, as the thesis' tables 5.5 to 5.13. The thesis does not say what it
    took the logarithm of. With log(1 + watt-hours) the coefficients it prints give its energies
    back; with the logarithm of joules or kilowatt-hours they do not
    (docs/explanation/statistics.md).

    References
    ----------
    MacKinnon and White (1985), Journal of Econometrics 29, 305-325.
    """
    if not _are_positive(energy_j):
        return None
    y = np.log1p(energy_j / J_PER_WH)
    columns = {"output_tokens": output_tokens[1:], "log_energy_lag1": y[:-1]}
    columns |= {name: member[1:] for name, member in domains.items()}
    return _fit(y[1:], columns, intercept=False, cov_type="HC3")


def hac_regression(
    energy_j: NDArray[np.float64],
    output_tokens: NDArray[np.float64],
    domains: dict[str, NDArray[np.bool_]],
) -> Regression | None:
    """The same question with errors that allow for autocorrelation of any short kind.

    Parameters and returns as `thesis_regression`.

    Notes
    -----
    ``log(E) ~ 1 + output_tokens + domains`` with Newey and West's errors at
    ``floor(4 (n/100)^(2/9))`` lags, the small-sample factor ``n/(n-k)`` and t quantiles. There
    is no lagged energy: with autocorrelated errors it would bias the other coefficients.

    References
    ----------
    Newey and West (1987), Econometrica 55, 703-708; (1994), Review of Economic Studies 61,
    631-653.
    """
    if not _are_positive(energy_j):
        return None
    errors = {"maxlags": hac_lags(energy_j.size), "use_correction": True}
    columns = {"output_tokens": output_tokens, **domains}
    return _fit(
        np.log(energy_j), columns, intercept=True, cov_type="HAC", cov_kwds=errors, use_t=True
    )


def hac_lags(n: int) -> int:
    """Newey and West's rule for the number of lags of a series of `n` values."""
    return math.floor(4 * math.pow(n / 100, 2 / 9))


def _are_positive(energy_j: NDArray[np.float64]) -> bool:
    return bool((np.isfinite(energy_j) & (energy_j > 0)).all())


def _fit(
    y: NDArray[np.float64],
    columns: Mapping[str, NDArray[Any]],
    *,
    intercept: bool,
    **errors: Any,
) -> Regression | None:
    import statsmodels.api as sm

    varying: dict[str, NDArray[np.float64]] = {"intercept": np.ones(y.size)} if intercept else {}
    varying |= {name: c.astype(float) for name, c in columns.items() if _varies(c)}
    # With hardly any residual degrees of freedom, robust errors mean nothing.
    if not varying or y.size < 2 * len(varying) + 8 or not has_spread(y):
        return None
    names = _independent(varying)
    x = np.column_stack([varying[name] for name in names])
    fit = sm.OLS(y, x, hasconst=intercept).fit(**errors)
    if not has_spread(fit.resid, scale=float(np.abs(y).max())):
        return None
    low, high = fit.conf_int().T
    figures = np.column_stack([fit.params, fit.bse, fit.tvalues, fit.pvalues, low, high])
    absent = [name for name in columns if name not in varying]
    return Regression(
        terms=tuple(Term(name, *row) for name, row in zip(names, figures.tolist(), strict=True)),
        dropped=(*absent, *(name for name in varying if name not in names)),
        statistics=_statistics(fit, x),
    )


def _varies(column: NDArray[Any]) -> bool:
    """Whether a regressor differs, a domain with two or more tasks inside and outside."""
    if column.dtype == bool:
        return bool(min(column.sum(), (~column).sum()) > 1)
    return has_spread(column)


def _independent(columns: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """Names of the columns, those left out that are sums of earlier ones."""
    x = np.column_stack(list(columns.values()))
    x = x / np.linalg.norm(x, axis=0)
    # The columns are scaled to unit length. The small matrix has the rank of the large one, and
    # is quick to examine.
    gram = x.T @ x
    kept: list[int] = []
    for i in range(len(columns)):
        trial = gram[np.ix_([*kept, i], [*kept, i])]
        if np.linalg.matrix_rank(trial, tol=1e-9, hermitian=True) == len(trial):
            kept.append(i)
    names = list(columns)
    return [names[i] for i in kept]


def _statistics(fit: Any, x: NDArray[np.float64]) -> dict[str, float]:
    from statsmodels.stats.stattools import durbin_watson, jarque_bera, omni_normtest

    with warnings.catch_warnings():
        # Fewer than 20 residuals: the omnibus test is then NaN or approximate.
        warnings.simplefilter("ignore")
        omnibus, omnibus_p = omni_normtest(fit.resid)
    jb, jb_p, skew, kurtosis = jarque_bera(fit.resid)
    values = (
        fit.nobs, fit.rsquared, fit.rsquared_adj, fit.fvalue, fit.f_pvalue, fit.llf, fit.aic,
        fit.bic, durbin_watson(fit.resid), omnibus, omnibus_p, jb, jb_p, skew, kurtosis,
        np.linalg.cond(x),
    )  # fmt: skip
    return {
        name: math.nan if value is None else float(value)
        for name, value in zip(MODEL_STATISTICS, values, strict=True)
    }


@lru_cache(maxsize=1024)
def _fits(run: RunTasks) -> list[tuple[str, Regression]]:
    arguments = (run.energy_j, run.output_tokens, dict(run.domains))
    fits = {"thesis": thesis_regression(*arguments), "hac": hac_regression(*arguments)}
    return [(kind, fit) for kind, fit in fits.items() if fit is not None]


def _coefficients(run: RunTasks, _: Method) -> Iterator[Row]:
    for kind, fit in _fits(run):
        for term in fit.terms:
            yield asdict(term) | {"regression": kind, "term": term.name}


def _model_statistics(run: RunTasks, _: Method) -> Iterator[Row]:
    for kind, fit in _fits(run):
        yield fit.statistics | {"regression": kind, "dropped": ", ".join(fit.dropped)}


_NOTE = (
    "Of each configuration's first run. thesis: log(1 + Wh) on output tokens, lagged log "
    "energy and domains, no intercept, R2 uncentred, HC3 errors, z. hac: log(J) on an "
    "intercept, output tokens and domains, Newey-West errors ({lags} lags), t."
)

REGRESSION = Statistic(
    name="regression",
    title="Energy of a task explained by its tokens and domains: coefficients",
    unit="first run",
    rows=_coefficients,
    figures=(
        "regression", "term", "coefficient", "standard_error", "statistic", "p_value", "ci_low",
        "ci_high",
    ),
    thesis="tables 5.5-5.13",
    notes=(_NOTE,),
)  # fmt: skip

REGRESSION_STATISTICS = Statistic(
    name="regression_statistics",
    title="Energy of a task explained by its tokens and domains: model statistics",
    unit="first run",
    rows=_model_statistics,
    figures=("regression", *MODEL_STATISTICS, "dropped"),
    thesis="tables 5.5-5.13",
    notes=(_NOTE,),
)


def _by_domain(run: RunTasks, _: Method) -> Iterator[Row]:
    for domain, member in run.domains.items():
        own_j = run.energy_j[member]
        if not own_j.size:
            continue
        least, low, middle, high, most = np.percentile(own_j, [0, 25, 50, 75, 100])
        yield {
            "domain": domain,
            "tasks": own_j.size,
            "share_percent": 100 * own_j.size / run.energy_j.size,
            "energy_mean_j": own_j.mean(),
            "energy_sd_j": own_j.std(ddof=1) if own_j.size > 1 else np.nan,
            "energy_min_j": least,
            "energy_q1_j": low,
            "energy_median_j": middle,
            "energy_q3_j": high,
            "energy_max_j": most,
        }


ENERGY_BY_DOMAIN = Statistic(
    name="energy_by_domain",
    title="Energy per task by domain",
    unit="configuration",
    rows=_by_domain,
    figures=(
        "domain", "tasks", "share_percent", "energy_mean_j", "energy_sd_j", "energy_min_j",
        "energy_q1_j", "energy_median_j", "energy_q3_j", "energy_max_j",
    ),
    thesis="table 5.1, figures 4.6-4.9",
    notes=(
        "A task may belong to several domains. Energy of a task is its allocated share of "
        "its batch; mean over runs.",
    ),
)  # fmt: skip
