"""The sandbox and its verdicts."""

from codejoule.evaluation.agreement import Agreement, compare
from codejoule.evaluation.attempt import NO_EXPECTED_OUTPUTS
from codejoule.evaluation.environment import environment_name, find_environment, with_python
from codejoule.evaluation.expected_outputs import with_expected_outputs
from codejoule.evaluation.formats import (
    RecordedVerdict,
    SamplesName,
    SubmittedSample,
    holds_samples,
    pass_rates,
    read_eval_results,
    read_samples,
    subset_of,
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
from codejoule.evaluation.identity import environment_facts
from codejoule.evaluation.inspection import Inspection, inspect_sample
from codejoule.evaluation.judge import judge
from codejoule.evaluation.progress import Progress
from codejoule.evaluation.resume import Judged, judge_resuming
from codejoule.evaluation.sample import Sample
from codejoule.evaluation.verdict_log import VerdictLog
from codejoule.sandbox.interpreter import describe_interpreter
from codejoule.sandbox.launch import Launcher
from codejoule.sandbox.sandbox import SandboxFacts
from codejoule.sandbox.support import SandboxSupport, sandbox_support

__all__ = [
    "NO_EXPECTED_OUTPUTS",
    "Agreement",
    "GroundTruth",
    "Inspection",
    "Judged",
    "Launcher",
    "Progress",
    "RecordedVerdict",
    "Sample",
    "SamplesName",
    "SandboxFacts",
    "SandboxSupport",
    "SubmittedSample",
    "VerdictLog",
    "cached_ground_truth",
    "canonical_sample",
    "check_ground_truth",
    "compare",
    "describe_interpreter",
    "environment_facts",
    "environment_name",
    "find_environment",
    "holds_samples",
    "inspect_sample",
    "judge",
    "judge_resuming",
    "pass_rates",
    "read_eval_results",
    "read_samples",
    "sandbox_support",
    "subset_of",
    "with_expected_outputs",
    "with_python",
    "write_eval_results",
    "write_ground_truth",
    "write_pass_at_k",
    "write_samples",
]
