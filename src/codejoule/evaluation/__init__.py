"""Verdicts on samples: reads and writes files, knows the ground truth, judges what is left."""

from codejoule.evaluation.environment import environment_name, find_environment, with_python
from codejoule.evaluation.formats import (
    RecordedVerdict,
    SampleRow,
    VerdictAgreement,
    compare_verdicts,
    each_sample_in,
    holds_samples,
    pass_rates,
    read_eval_results,
    read_sample_file,
    subset_of,
    told_by_name,
    write_eval_results,
    write_pass_at_k,
    write_samples,
)
from codejoule.evaluation.ground_truth import (
    GroundTruth,
    cached_ground_truth,
    canonical_sample,
    check_ground_truth,
    write_ground_truth,
)
from codejoule.evaluation.judge import judge, judge_each, judge_one
from codejoule.evaluation.progress import Progress
from codejoule.evaluation.resume import (
    VerdictLog,
    environment_facts,
    judge_resuming,
    setting_identity,
    with_expected_outputs,
)
from codejoule.evaluation.ruling import NO_EXPECTED_OUTPUTS
from codejoule.evaluation.sample import Sample
from codejoule.evaluation.submission import Submission

__all__ = [
    "NO_EXPECTED_OUTPUTS",
    "GroundTruth",
    "Progress",
    "RecordedVerdict",
    "Sample",
    "SampleRow",
    "Submission",
    "VerdictAgreement",
    "VerdictLog",
    "cached_ground_truth",
    "canonical_sample",
    "check_ground_truth",
    "compare_verdicts",
    "each_sample_in",
    "environment_facts",
    "environment_name",
    "find_environment",
    "holds_samples",
    "judge",
    "judge_each",
    "judge_one",
    "judge_resuming",
    "pass_rates",
    "read_eval_results",
    "read_sample_file",
    "setting_identity",
    "subset_of",
    "told_by_name",
    "with_expected_outputs",
    "with_python",
    "write_eval_results",
    "write_ground_truth",
    "write_pass_at_k",
    "write_samples",
]
