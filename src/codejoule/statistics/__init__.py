"""Pure functions of arrays: tests, intervals, fronts; those of the thesis among them."""

from codejoule.statistics.accuracy import (
    MARGIN,
    PairedAccuracy,
    at_least,
    lower_bound,
    paired_accuracy,
    tango_interval,
    tango_score,
    unseen,
    unseen_share,
)
from codejoule.statistics.assumptions import durbin_watson, levene, shapiro_wilk
from codejoule.statistics.clusters import cluster_means, cluster_sums, clusters
from codejoule.statistics.front import Resampled, front_probability, resample
from codejoule.statistics.holm import holm
from codejoule.statistics.log_ratio import LogRatio, paired_log_ratio
from codejoule.statistics.mixed import MixedModel, mixed_model
from codejoule.statistics.paired import friedman, kendalls_w, wilcoxon
from codejoule.statistics.pareto import pareto_front
from codejoule.statistics.regression import (
    Regression,
    Term,
    hac_lags,
    hac_regression,
    thesis_regression,
)
from codejoule.statistics.resampling import RESAMPLES, Resampler, resample_counts
from codejoule.statistics.result import ALPHA, ROUNDING, Result, has_spread
from codejoule.statistics.unpaired import (
    cliffs_delta,
    dunn,
    epsilon_squared,
    kruskal_wallis,
)

__all__ = [
    "ALPHA", "MARGIN", "RESAMPLES", "ROUNDING", "LogRatio", "MixedModel", "PairedAccuracy",
    "Regression", "Resampled", "Resampler", "Result", "Term", "at_least", "cliffs_delta",
    "cluster_means", "cluster_sums", "clusters", "dunn", "durbin_watson", "epsilon_squared",
    "friedman", "front_probability", "hac_lags", "hac_regression", "has_spread", "holm",
    "kendalls_w", "kruskal_wallis", "levene", "lower_bound", "mixed_model", "paired_accuracy",
    "paired_log_ratio", "pareto_front", "resample", "resample_counts", "shapiro_wilk",
    "tango_interval", "tango_score", "thesis_regression", "unseen", "unseen_share", "wilcoxon",
]  # fmt: skip
