"""Pure functions of arrays: tests, intervals and fronts, among them the thesis' own."""

from codejoule.statistics.accuracy import (
    ACCURACY_PAIRS,
    PairedAccuracy,
    at_least,
    lower_bound,
    paired_accuracy,
    tango_interval,
    tango_score,
    unseen,
)
from codejoule.statistics.assumptions import (
    ASSUMPTIONS,
    LEVENE,
    durbin_watson,
    levene,
    shapiro_wilk,
)
from codejoule.statistics.between_runs import (
    ASSUMED,
    REPEATS,
    RunRatio,
    RunVariance,
    compare_runs,
    moderated_variance,
    pooled_run_variance,
    reference_variance,
    smallest_ratio,
)
from codejoule.statistics.clusters import Resampler, cluster_means, cluster_sums, clusters
from codejoule.statistics.crossing import Crossing, find_crossing
from codejoule.statistics.log_ratio import ENERGY_PAIRS, paired_log_ratio
from codejoule.statistics.mixed import MIXED_MODEL, MIXED_PAIRS, MixedModel, mixed_model
from codejoule.statistics.pareto import Resampled, front_probability, pareto_front, resample
from codejoule.statistics.ranks import (
    DUNN,
    FRIEDMAN,
    KRUSKAL_WALLIS,
    cliffs_delta,
    dunn,
    friedman,
    kruskal_wallis,
    wilcoxon,
)
from codejoule.statistics.regression import (
    ENERGY_BY_DOMAIN,
    REGRESSION,
    REGRESSION_STATISTICS,
    hac_lags,
    hac_regression,
    thesis_regression,
)
from codejoule.statistics.result import ALPHA, ROUNDING, has_spread, holm
from codejoule.statistics.run_pairs import RUN_PAIRS, percent_words, run_ratio, variance_words
from codejoule.statistics.statistic import (
    KEYS,
    MARGIN,
    Method,
    PairTasks,
    Row,
    RunTasks,
    SetTasks,
    Statistic,
)

STATISTICS = (
    ENERGY_BY_DOMAIN, ASSUMPTIONS, REGRESSION, REGRESSION_STATISTICS, LEVENE, KRUSKAL_WALLIS, DUNN,
    FRIEDMAN, RUN_PAIRS, ENERGY_PAIRS, MIXED_MODEL, MIXED_PAIRS, ACCURACY_PAIRS,
)  # fmt: skip
"""What an analysis works out, in the order of its tables (and of their draws of resamples)."""

__all__ = [
    "ACCURACY_PAIRS", "ALPHA", "ASSUMED", "ENERGY_PAIRS", "KEYS", "MARGIN", "REPEATS", "ROUNDING",
    "RUN_PAIRS", "STATISTICS", "Crossing", "Method", "MixedModel", "PairTasks", "PairedAccuracy",
    "Resampled",
    "Resampler", "Row", "RunRatio", "RunTasks", "RunVariance", "SetTasks", "Statistic", "at_least",
    "cliffs_delta", "cluster_means", "cluster_sums", "clusters", "compare_runs", "dunn",
    "durbin_watson", "find_crossing", "friedman", "front_probability", "hac_lags",
    "hac_regression", "has_spread",
    "holm", "kruskal_wallis", "levene", "lower_bound", "mixed_model", "moderated_variance",
    "paired_accuracy",
    "paired_log_ratio", "pareto_front", "percent_words", "pooled_run_variance",
    "reference_variance", "resample", "run_ratio", "shapiro_wilk", "smallest_ratio",
    "tango_interval", "tango_score", "thesis_regression", "unseen", "variance_words", "wilcoxon",
]  # fmt: skip
