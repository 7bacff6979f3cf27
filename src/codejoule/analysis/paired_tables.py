"""The tests that the design asks for: every configuration answers the same tasks."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from codejoule.analysis.families import ComparisonSet, Family
from codejoule.analysis.table import Table
from codejoule.statistics import (
    ALPHA,
    Resampler,
    cliffs_delta,
    cluster_means,
    durbin_watson,
    friedman,
    holm,
    kendalls_w,
    mixed_model,
    paired_accuracy,
    paired_log_ratio,
    wilcoxon,
)

if TYPE_CHECKING:
    import pandas as pd

    from codejoule.analysis.evidence import Evidence

_KEY = ["factor", "held", "configuration", "reference"]
_GIVEN = (
    "Friedman's and Wilcoxon's tests take the runs as given: of variance between runs only the "
    "ratio, its p_value and the verdict know, and the mixed model."
)
_FAMILY = "p-values adjusted by Holm within the factor, all its comparisons together."


def paired_tables(evidence: "Evidence", *, margin: float, resampler: Resampler) -> list[Table]:
    """Friedman, Wilcoxon, log-ratios, mixed model, McNemar and non-inferiority.

    Parameters
    ----------
    evidence : Evidence
        Configurations of one group.
    margin : float
        Loss of pass@1 up to which "no loss" is said.
    resampler : Resampler
        Source of the bootstrap's resamples.

    Returns
    -------
    list of Table
        ``friedman``, ``energy_pairs``, ``mixed_model``, ``mixed_pairs`` and ``accuracy_pairs``,
        with no rows where there are no figures of tasks.
    """
    omnibus: list[dict[str, Any]] = []
    models: list[dict[str, Any]] = []
    energy: list[dict[str, Any]] = []
    contrasts: list[dict[str, Any]] = []
    for family in evidence.families:
        blocks = [_block_rows(evidence, family, own) for own in family.sets]
        omnibus += _adjusted([row for found in blocks for row in found[0]], "p_value")
        models += [row for found in blocks for row in found[1]]
        contrasts += _adjusted([row for found in blocks for row in found[2]], "p_value")
        rows = [
            row for own in family.sets for row in _energy_rows(evidence, family, own, resampler)
        ]
        energy += _with_verdicts(_adjusted(rows, "p_value", "wilcoxon_p_value"))
    return [
        _friedman_table(omnibus),
        _energy_table(energy),
        _mixed_table(models),
        _contrast_table(contrasts),
        accuracy_table(evidence, margin=margin),
    ]


def accuracy_table(evidence: "Evidence", *, margin: float) -> Table:
    """``accuracy_pairs`` alone; parameters as `paired_tables`."""
    accuracy: list[dict[str, Any]] = []
    for family in evidence.families:
        rows = [row for own in family.sets for row in _accuracy_rows(evidence, family, own, margin)]
        accuracy += _with_rulings(_adjusted(rows, "p_value", "no_loss_p_value"))
    return _accuracy_table(accuracy, margin)


def _adjusted(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    for name in names:
        for row, p in zip(rows, holm([row[name] for row in rows]), strict=True):
            row[f"{name}_holm"] = float(p)
    return rows


def _block_rows(
    evidence: "Evidence", family: Family, own: ComparisonSet
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of Friedman's test, of the mixed model and of its contrasts, for one set."""
    tasks = evidence.complete(own.configurations)
    if not tasks.any():
        return [], [], []
    labels = evidence.clusters(own.configurations, tasks)
    runs = min(evidence.rows[c].size for c in own.configurations)
    logs = [cluster_means(evidence.logs(c, tasks), labels) for c in own.configurations]
    blocks = logs[0].shape[1]
    shared = {
        "factor": family.factor, "held": own.fixed, "configurations": len(logs),
        "levels": ", ".join(own.levels), "tasks": int(tasks.sum()), "blocks": blocks,
    }  # fmt: skip
    found = friedman(np.stack([own_logs.mean(axis=0) for own_logs in logs], axis=1))
    omnibus = {
        **shared, "chi2": found.statistic, "df": len(logs) - 1, "p_value": found.p_value,
        "kendalls_w": kendalls_w(found),
    }  # fmt: skip
    if blocks < 2:
        return [omnibus], [], []
    model = mixed_model(np.stack([own_logs[:runs] for own_logs in logs]))
    fitted = {
        **shared, "runs": runs, "sd_block": model.sd_block, "sd_run": model.sd_run,
        "sd_residual": model.sd_residual, "icc": model.icc,
        "contrast_standard_error": model.contrast_error, "df": model.df,
    }  # fmt: skip
    contrasts = []
    for i, j in own.pairs():
        difference = float(model.means[i] - model.means[j])
        half = _t_quantile(model.df) * model.contrast_error
        contrasts.append(
            {
                **evidence.pair(family.factor, own, i, j),
                "ratio": math.exp(difference),
                "ci_low": math.exp(difference - half),
                "ci_high": math.exp(difference + half),
                "p_value": model.p_value(i, j),
            }
        )
    return [omnibus], [fitted], contrasts


def _energy_rows(
    evidence: "Evidence", family: Family, own: ComparisonSet, resampler: Resampler
) -> list[dict[str, Any]]:
    rows = []
    for i, j in own.pairs():
        a, b = own.configurations[i], own.configurations[j]
        tasks = evidence.complete([a, b])
        if not tasks.any():
            continue
        labels = evidence.clusters([a, b], tasks)
        logs_a, logs_b = evidence.logs(a, tasks), evidence.logs(b, tasks)
        ratio = paired_log_ratio(logs_a, logs_b, labels, resampler=resampler)
        mean_a, mean_b = logs_a.mean(axis=0), logs_b.mean(axis=0)
        order = evidence.figures.order[evidence.rows[a][0]][tasks]
        ranks = wilcoxon(cluster_means(mean_a, labels), cluster_means(mean_b, labels))
        rows.append(
            {
                **evidence.pair(family.factor, own, i, j),
                "tasks": int(tasks.sum()),
                "clusters": ratio.clusters,
                "runs": len(logs_a),
                "runs_reference": len(logs_b),
                "between_runs": ratio.between_runs,
                "ratio": ratio.ratio,
                "ci_low": ratio.ci_low,
                "ci_high": ratio.ci_high,
                "p_value": ratio.p_value,
                "wilcoxon_w": ranks.statistic,
                "wilcoxon_p_value": ranks.p_value,
                "cliffs_delta": cliffs_delta(mean_a, mean_b),
                "share_lower": float((mean_a < mean_b).mean()),
                "durbin_watson": durbin_watson((mean_a - mean_b)[np.argsort(order)]),
            }
        )
    return rows


def _accuracy_rows(
    evidence: "Evidence", family: Family, own: ComparisonSet, margin: float
) -> list[dict[str, Any]]:
    rows = []
    for i, j in own.pairs():
        a, b = own.configurations[i], own.configurations[j]
        tasks = evidence.judged([a, b])
        if not tasks.any():
            continue
        found = paired_accuracy(evidence.passed(a, tasks), evidence.passed(b, tasks), margin=margin)
        rows.append(
            {
                **evidence.pair(family.factor, own, i, j),
                "tasks": found.tasks,
                "lost": found.lost,
                "gained": found.gained,
                "difference": found.difference,
                "ci_low": found.ci_low,
                "ci_high": found.ci_high,
                "test": found.method,
                "p_value": found.p_value,
                "margin": margin,
                "no_loss_p_value": found.p_value_no_loss,
            }
        )
    return rows


def _with_verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        p = row["p_value_holm"]
        row["verdict"] = (
            "unknown" if math.isnan(p)
            else "not resolved" if p >= ALPHA
            else "less" if row["ratio"] < 1 else "more"
        )  # fmt: skip
    return rows


def _with_rulings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        p = row["p_value_holm"]
        row["verdict"] = (
            "unknown" if math.isnan(p)
            else "not resolved" if p >= ALPHA
            else "lower" if row["difference"] < 0 else "higher"
        )  # fmt: skip
        row["no_loss_shown"] = bool(row["no_loss_p_value_holm"] < ALPHA)
    return rows


def _t_quantile(df: float) -> float:
    from scipy import stats

    return float(stats.t.ppf(1 - ALPHA / 2, df))


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows, columns=columns)


def _friedman_table(rows: list[dict[str, Any]]) -> Table:
    columns = [
        "factor", "held", "configurations", "levels", "tasks", "blocks", "chi2", "df", "p_value",
        "p_value_holm", "kendalls_w",
    ]  # fmt: skip
    return Table(
        name="friedman",
        title="Friedman's test of the energy of the same tasks under several configurations",
        frame=_frame(rows, columns),
        notes=(
            "Blocks are tasks, or batches of tasks where several were metered together. Of two "
            "configurations Wilcoxon's test (energy_pairs) is the test.",
            _GIVEN,
            _FAMILY,
        ),
    )


def _energy_table(rows: list[dict[str, Any]]) -> Table:
    columns = [
        *_KEY, "tasks", "clusters", "runs", "runs_reference", "between_runs", "ratio", "ci_low",
        "ci_high", "p_value", "p_value_holm", "wilcoxon_w", "wilcoxon_p_value",
        "wilcoxon_p_value_holm", "cliffs_delta", "share_lower", "durbin_watson", "verdict",
    ]  # fmt: skip
    return Table(
        name="energy_pairs",
        title="Energy per task against the reference, task by task",
        frame=_frame(rows, columns),
        notes=(
            "ratio: geometric mean of energy over the reference's energy, with its 95 % interval "
            "(one run each: bootstrap over clusters of tasks that shared a batch; repeats: t, "
            "variance between runs included). share_lower: tasks that took less. durbin_watson: "
            "of the differences in the order of generation; far below 2 they are not independent, "
            "and errors are too small.",
            _GIVEN,
            _FAMILY,
        ),
    )


def _mixed_table(rows: list[dict[str, Any]]) -> Table:
    columns = [
        "factor", "held", "configurations", "levels", "tasks", "blocks", "runs", "sd_block",
        "sd_run", "sd_residual", "icc", "contrast_standard_error", "df",
    ]  # fmt: skip
    return Table(
        name="mixed_model",
        title="Mixed model of log energy: configuration fixed, task and run random",
        frame=_frame(rows, columns),
        notes=(
            "REML; standard deviations of log energy. sd_run is unknown with one run per "
            "configuration. icc: share of the variance that is between tasks.",
        ),
    )


def _contrast_table(rows: list[dict[str, Any]]) -> Table:
    return Table(
        name="mixed_pairs",
        title="Energy against the reference by the mixed model",
        frame=_frame(rows, [*_KEY, "ratio", "ci_low", "ci_high", "p_value", "p_value_holm"]),
        notes=("One error for all comparisons of a set, that of the mixed model.", _FAMILY),
    )


def _accuracy_table(rows: list[dict[str, Any]], margin: float) -> Table:
    columns = [
        *_KEY, "tasks", "lost", "gained", "difference", "ci_low", "ci_high", "test", "p_value",
        "p_value_holm", "margin", "no_loss_p_value", "no_loss_p_value_holm", "verdict",
        "no_loss_shown",
    ]  # fmt: skip
    return Table(
        name="accuracy_pairs",
        title="pass@1 against the reference, task by task",
        frame=_frame(rows, columns),
        notes=(
            "mcnemar: exact test, Tango's score interval; t: several samples or runs per task. "
            f"no_loss: non-inferiority, one-sided, margin {margin:g} of pass@1. A difference "
            "that is not significant is no evidence that there is none; only no_loss_shown is.",
            _FAMILY,
        ),
    )
