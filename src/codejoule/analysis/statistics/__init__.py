"""Statistics on arrays: the thesis' tests, and those that its design asks for."""

from codejoule.analysis.statistics.accuracy import (
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
from codejoule.analysis.statistics.assumptions import durbin_watson, levene, shapiro_wilk
from codejoule.analysis.statistics.clusters import cluster_means, cluster_sums, clusters
from codejoule.analysis.statistics.front import Resampled, front_probability, resample
from codejoule.analysis.statistics.holm import holm
from codejoule.analysis.statistics.log_ratio import LogRatio, paired_log_ratio
from codejoule.analysis.statistics.mixed import MixedModel, mixed_model
from codejoule.analysis.statistics.paired import friedman, kendalls_w, wilcoxon
from codejoule.analysis.statistics.regression import (
    Regression,
    Term,
    hac_lags,
    hac_regression,
    thesis_regression,
)
from codejoule.analysis.statistics.resampling import RESAMPLES, Resampler, resample_counts
from codejoule.analysis.statistics.result import ALPHA, ROUNDING, Result, has_spread
from codejoule.analysis.statistics.unpaired import (
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
    "paired_log_ratio", "resample", "resample_counts", "shapiro_wilk", "tango_interval",
    "tango_score", "thesis_regression", "unseen", "unseen_share", "wilcoxon",
]  # fmt: skip
