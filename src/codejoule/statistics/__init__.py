"""Pure functions of arrays: tests, intervals, fronts; those of the thesis among them."""

from codejoule.statistics.accuracy import (
    ACCURACY_PAIRS,
    PairedAccuracy,
    at_least,
    lower_bound,
    paired_accuracy,
    tango_interval,
    tango_score,
    unseen,
    unseen_share,
)
from codejoule.statistics.assumptions import (
    ASSUMPTIONS,
    LEVENE,
    durbin_watson,
    levene,
    shapiro_wilk,
)
from codejoule.statistics.clusters import cluster_means, cluster_sums, clusters
from codejoule.statistics.domains import ENERGY_BY_DOMAIN
from codejoule.statistics.log_ratio import ENERGY_PAIRS, LogRatio, paired_log_ratio
from codejoule.statistics.mixed import MIXED_MODEL, MIXED_PAIRS, MixedModel, mixed_model
from codejoule.statistics.paired import FRIEDMAN, friedman, kendalls_w, wilcoxon
from codejoule.statistics.pareto import Resampled, front_probability, pareto_front, resample
from codejoule.statistics.regression import (
    REGRESSION,
    REGRESSION_STATISTICS,
    Regression,
    Term,
    hac_lags,
    hac_regression,
    thesis_regression,
)
from codejoule.statistics.resampling import RESAMPLES, Resampler, resample_counts
from codejoule.statistics.result import ALPHA, ROUNDING, Result, has_spread, holm
from codejoule.statistics.statistic import (
    MARGIN,
    PAIR,
    Method,
    PairTasks,
    Row,
    RunTasks,
    SetTasks,
    Statistic,
)
from codejoule.statistics.unpaired import (
    DUNN,
    KRUSKAL_WALLIS,
    cliffs_delta,
    dunn,
    epsilon_squared,
    kruskal_wallis,
)

STATISTICS = (
    ENERGY_BY_DOMAIN, ASSUMPTIONS, REGRESSION, REGRESSION_STATISTICS, LEVENE, KRUSKAL_WALLIS, DUNN,
    FRIEDMAN, ENERGY_PAIRS, MIXED_MODEL, MIXED_PAIRS, ACCURACY_PAIRS,
)  # fmt: skip
"""What an analysis works out, in the order of its tables."""

__all__ = [
    "ACCURACY_PAIRS",
    "ALPHA",
    "ENERGY_PAIRS",
    "MARGIN",
    "PAIR",
    "RESAMPLES",
    "ROUNDING",
    "STATISTICS",
    "LogRatio",
    "Method",
    "MixedModel",
    "PairTasks",
    "PairedAccuracy",
    "Regression",
    "Resampled",
    "Resampler",
    "Result",
    "Row",
    "RunTasks",
    "SetTasks",
    "Statistic",
    "Term",
    "at_least",

    "cliffs_delta",
    "cluster_means",
    "cluster_sums",
    "clusters",

    "dunn",
    "durbin_watson",
    "epsilon_squared",
    "friedman",
    "front_probability",
    "hac_lags",
    "hac_regression",
    "has_spread",
    "holm",
    "kendalls_w",
    "kruskal_wallis",
    "levene",
    "lower_bound",
    "mixed_model",

    "paired_accuracy",
    "paired_log_ratio",
    "pareto_front",
    "resample",
    "resample_counts",
    "shapiro_wilk",
    "tango_interval",
    "tango_score",
    "thesis_regression",
    "unseen",
    "unseen_share",
    "wilcoxon",
]  # fmt: skip
