"""The tables of the thesis, for any set of runs."""

from typing import TYPE_CHECKING, Any

import numpy as np

from codejoule.analysis.families import ComparisonSet
from codejoule.analysis.table import Table
from codejoule.domain.metrics import J_PER_KWH
from codejoule.statistics import (
    Regression,
    cliffs_delta,
    dunn,
    durbin_watson,
    epsilon_squared,
    hac_lags,
    hac_regression,
    kruskal_wallis,
    levene,
    shapiro_wilk,
    thesis_regression,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from codejoule.analysis.evidence import Evidence

DUNN_CONFIGURATIONS = 40
"""Configurations of one set up to which Dunn's test of all pairs is made."""

_UNPAIRED = (
    "This test takes the configurations for independent samples, although they answered the "
    "same tasks: it mostly sees how tasks differ. Beside it stand paired tests."
)


def thesis_tables(evidence: "Evidence") -> list[Table]:
    """Every table of the thesis that these runs allow.

    Parameters
    ----------
    evidence : Evidence
        Configurations of one group.

    Returns
    -------
    list of Table
        ``summary`` always; where there are figures of tasks also ``energy_by_domain``,
        ``assumptions``, ``regression``, ``regression_statistics``, and for configurations that
        differ in one setting ``reductions``, ``levene``, ``kruskal_wallis`` and ``dunn``.
    """
    return [
        summary_table(evidence),
        reductions_table(evidence),
        domain_table(evidence),
        assumptions_table(evidence),
        *regression_tables(evidence),
        *unpaired_tables(evidence),
    ]


def summary_table(evidence: "Evidence") -> Table:
    """Energy, latency, throughput and pass@1 of each configuration."""
    import pandas as pd

    source = evidence.table
    frame = pd.DataFrame({"configuration": list(evidence.labels)})
    for name in evidence.settings:
        frame[name] = source[name].to_numpy()
    frame["runs"] = source["runs"].to_numpy()
    frame["tasks"] = source["tasks"].to_numpy()
    frame["energy_generation_kwh"] = source["energy_generation_j"].to_numpy() / J_PER_KWH
    frame["energy_total_kwh"] = source["energy_total_j"].to_numpy() / J_PER_KWH
    frame["latency_min"] = source["latency_s"].to_numpy() / 60
    for name in (
        "throughput_tokens_per_s", "output_tokens", "pass_at_1", "pass_at_1_ci_low",
        "pass_at_1_ci_high", "pass_at_1_per_kwh", "energy_per_output_token_j",
        "energy_per_task_j", "energy_per_solved_task_j", "carbon_g", "energy_source",
        "energy_scope",
    ):  # fmt: skip
        frame[name] = source[name].to_numpy()
    return Table(
        name="summary",
        title="Figures of each configuration",
        frame=frame,
        thesis="tables 5.18, 5.24, 5.29, 5.34, 5.40",
        notes=("Means over the runs of a configuration.",),
    )


def reductions_table(evidence: "Evidence") -> Table:
    """By how much each configuration differs from its reference, from the figures of runs."""
    import pandas as pd

    use = (
        "energy_generation_j" if evidence.table["energy_total_j"].isna().any() else "energy_total_j"
    )
    kwh = evidence.table[use].to_numpy(dtype=float) / J_PER_KWH
    passed = evidence.table["pass_at_1"].to_numpy(dtype=float)
    rows = []
    for family, own in evidence.sets():
        for i, j in own.pairs():
            a, b = own.configurations[i], own.configurations[j]
            e_a, e_b, p_a, p_b = kwh[a], kwh[b], passed[a], passed[b]
            rows.append(
                {
                    **evidence.pair(family, own, i, j),
                    "energy_kwh": e_a,
                    "energy_reference_kwh": e_b,
                    "reduction_percent": 100 * (1 - e_a / e_b) if e_b else np.nan,
                    "pass_at_1": p_a,
                    "pass_at_1_reference": p_b,
                    "pass_at_1_difference": p_a - p_b,
                }
            )
    columns = [
        "factor", "held", "configuration", "reference", "energy_kwh", "energy_reference_kwh",
        "reduction_percent", "pass_at_1", "pass_at_1_reference", "pass_at_1_difference",
    ]  # fmt: skip
    what = "generation" if use == "energy_generation_j" else "generation and evaluation"
    return Table(
        name="reductions",
        title="What each configuration saves and loses against its reference",
        frame=pd.DataFrame(rows, columns=columns),
        notes=(f"Energy of {what}, means over runs. Without uncertainty: see energy_pairs.",),
    )


def domain_table(evidence: "Evidence") -> Table:
    """Energy per task in each domain."""
    import pandas as pd

    rows = []
    for i, label in enumerate(evidence.labels):
        tasks = evidence.complete([i])
        if not tasks.any():
            continue
        energy_j = evidence.energy_j(i, tasks).mean(axis=0)
        for domain, member in evidence.figures.domains.items():
            own = energy_j[member[tasks]]
            if own.size:
                low, middle, high = np.percentile(own, [25, 50, 75])
                rows.append(
                    {
                        "configuration": label,
                        "domain": domain,
                        "tasks": own.size,
                        "share_percent": 100 * own.size / energy_j.size,
                        "energy_mean_j": own.mean(),
                        "energy_sd_j": own.std(ddof=1) if own.size > 1 else np.nan,
                        "energy_min_j": own.min(),
                        "energy_q1_j": low,
                        "energy_median_j": middle,
                        "energy_q3_j": high,
                        "energy_max_j": own.max(),
                    }
                )
    columns = [
        "configuration", "domain", "tasks", "share_percent", "energy_mean_j", "energy_sd_j",
        "energy_min_j", "energy_q1_j", "energy_median_j", "energy_q3_j", "energy_max_j",
    ]  # fmt: skip
    return Table(
        name="energy_by_domain",
        title="Energy per task by domain",
        frame=pd.DataFrame(rows, columns=columns),
        thesis="table 5.1, figures 4.6-4.9",
        notes=(
            "A task may belong to several domains. Energy of a task is its allocated share of "
            "its batch; mean over runs.",
        ),
    )


def assumptions_table(evidence: "Evidence") -> Table:
    """Autocorrelation, normality and constant variance of the energy per task, run by run."""
    import pandas as pd

    rows = []
    for i, label in enumerate(evidence.labels):
        for row in evidence.rows[i]:
            series = _in_order(evidence, int(row))
            if series.size < 2:
                continue
            normal = shapiro_wilk(series)
            half = series.size // 2
            constant = levene([series[:half], series[half:]])
            rows.append(
                {
                    "configuration": label,
                    "run_id": evidence.figures.run_ids[row],
                    "tasks": series.size,
                    "durbin_watson": durbin_watson(series),
                    "shapiro_wilk_w": normal.statistic,
                    "shapiro_wilk_p_value": normal.p_value,
                    "levene_f": constant.statistic,
                    "levene_p_value": constant.p_value,
                }
            )
    columns = [
        "configuration", "run_id", "tasks", "durbin_watson", "shapiro_wilk_w",
        "shapiro_wilk_p_value", "levene_f", "levene_p_value",
    ]  # fmt: skip
    return Table(
        name="assumptions",
        title="Durbin-Watson, Shapiro-Wilk and Levene's test of the energy per task in each run",
        frame=pd.DataFrame(rows, columns=columns),
        thesis="tables 5.2-5.4, 5.20, 5.26, 5.31, 5.36",
        notes=(
            "In the order of generation. Levene's test (about medians) compares the variance in "
            "the first half of a run with that in the second.",
        ),
    )


def regression_tables(evidence: "Evidence") -> list[Table]:
    """The thesis' regression of each configuration's first run, and one with HAC errors."""
    import pandas as pd

    coefficients: list[dict[str, Any]] = []
    statistics: list[dict[str, Any]] = []
    for i, label in enumerate(evidence.labels):
        if evidence.rows[i].size == 0:
            continue
        for kind, fit in _fits(evidence, int(evidence.rows[i][0])):
            if fit is None:
                continue
            for term in fit.terms:
                coefficients.append(
                    {
                        "configuration": label, "regression": kind, "term": term.name,
                        "coefficient": term.coefficient, "standard_error": term.standard_error,
                        "statistic": term.statistic, "p_value": term.p_value,
                        "ci_low": term.ci_low, "ci_high": term.ci_high,
                    }
                )  # fmt: skip
            dropped = ", ".join(fit.dropped)
            statistics.append(
                {"configuration": label, "regression": kind, **fit.statistics, "dropped": dropped}
            )
    lags = hac_lags(len(evidence.figures.task_ids)) if evidence.figures.task_ids else 0
    notes = (
        "Of each configuration's first run. thesis: log(1 + Wh) on output tokens, lagged log "
        "energy and domains, no intercept, R2 uncentred, HC3 errors, z. hac: log(J) on an "
        f"intercept, output tokens and domains, Newey-West errors ({lags} lags), t.",
    )
    names = [
        "n", "r_squared", "adjusted_r_squared", "f", "f_p_value", "log_likelihood", "aic", "bic",
        "durbin_watson", "omnibus", "omnibus_p_value", "jarque_bera", "jarque_bera_p_value",
        "skew", "kurtosis", "condition_number",
    ]  # fmt: skip
    return [
        Table(
            name="regression",
            title="Energy of a task explained by its tokens and domains: coefficients",
            frame=pd.DataFrame(
                coefficients,
                columns=[
                    "configuration",
                    "regression",
                    "term",
                    "coefficient",
                    "standard_error",
                    "statistic",
                    "p_value",
                    "ci_low",
                    "ci_high",
                ],
            ),
            thesis="tables 5.5-5.13",
            notes=notes,
        ),
        Table(
            name="regression_statistics",
            title="Energy of a task explained by its tokens and domains: model statistics",
            frame=pd.DataFrame(
                statistics, columns=["configuration", "regression", *names, "dropped"]
            ),
            thesis="tables 5.5-5.13",
            notes=notes,
        ),
    ]


def unpaired_tables(evidence: "Evidence") -> list[Table]:
    """Levene, Kruskal-Wallis and Dunn of the configurations that differ in one setting."""
    import pandas as pd

    variances, omnibus, pairs = [], [], []
    for family, own in evidence.sets():
        tasks = evidence.complete(own.configurations)
        if tasks.sum() < 2:
            continue
        groups = [evidence.energy_j(c, tasks).mean(axis=0) for c in own.configurations]
        shared = {
            "factor": family,
            "held": own.fixed,
            "configurations": len(groups),
            "levels": ", ".join(own.levels),
            "tasks": int(tasks.sum()),
        }
        spread, ranks = levene(groups), kruskal_wallis(groups)
        variances.append({**shared, "f": spread.statistic, "p_value": spread.p_value})
        omnibus.append(
            {
                **shared, "h": ranks.statistic, "df": len(groups) - 1, "p_value": ranks.p_value,
                "epsilon_squared": epsilon_squared(ranks),
            }
        )  # fmt: skip
        pairs += _dunn_rows(evidence, family, own, groups)
    shared_columns = ["factor", "held", "configurations", "levels", "tasks"]
    return [
        Table(
            name="levene",
            title="Levene's test of the energy per task of configurations",
            frame=pd.DataFrame(variances, columns=[*shared_columns, "f", "p_value"]),
            thesis="tables 5.15, 5.21, 5.27, 5.32, 5.37",
            notes=("About medians. Energy of a task: mean over runs.",),
        ),
        Table(
            name="kruskal_wallis",
            title="Kruskal-Wallis test of the energy per task of configurations",
            frame=pd.DataFrame(
                omnibus, columns=[*shared_columns, "h", "df", "p_value", "epsilon_squared"]
            ),
            thesis="tables 5.16, 5.22, 5.28, 5.33, 5.38",
            notes=(_UNPAIRED,),
        ),
        Table(
            name="dunn",
            title="Dunn's test of the energy per task, pair by pair, p-values adjusted by Holm",
            frame=pd.DataFrame(
                pairs,
                columns=[
                    "factor",
                    "held",
                    "configuration",
                    "reference",
                    "p_value_holm",
                    "cliffs_delta",
                ],
            ),
            thesis="tables 5.17, 5.23, 5.39",
            notes=(_UNPAIRED, "Adjusted within each set, as in the thesis."),
        ),
    ]


def _dunn_rows(
    evidence: "Evidence", family: str, own: ComparisonSet, groups: "list[NDArray[np.float64]]"
) -> list[dict[str, Any]]:
    if len(groups) > DUNN_CONFIGURATIONS:
        return []
    p_values = dunn(groups)
    return [
        {
            **evidence.pair(family, own, i, j),
            "p_value_holm": p_values[i, j],
            "cliffs_delta": cliffs_delta(groups[i], groups[j]),
        }
        for i, j in own.pairs()
    ]


def _in_order(evidence: "Evidence", row: int) -> "NDArray[np.float64]":
    """Known energies of one run's tasks in the order of generation [J]."""
    energy_j, order = evidence.figures.energy_j[row], evidence.figures.order[row]
    known = energy_j > 0
    return np.asarray(energy_j[known][np.argsort(order[known])])


def _fits(evidence: "Evidence", row: int) -> list[tuple[str, Regression | None]]:
    figures = evidence.figures
    energy_j, order = figures.energy_j[row], figures.order[row]
    known = np.flatnonzero(energy_j > 0)
    places = known[np.argsort(order[known])]
    domains = {name: member[places] for name, member in figures.domains.items()}
    arguments = (energy_j[places], figures.output_tokens[row][places], domains)
    return [
        ("thesis", thesis_regression(*arguments)),
        ("hac", hac_regression(*arguments)),
    ]
