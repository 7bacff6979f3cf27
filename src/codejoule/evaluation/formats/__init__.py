"""BigCodeBench's own files: samples in and out, verdicts in and out, pass@k out."""

from codejoule.evaluation.formats.eval_results import (
    RecordedVerdict,
    read_eval_results,
    write_eval_results,
)
from codejoule.evaluation.formats.naming import SamplesName, subset_of
from codejoule.evaluation.formats.pass_rates import pass_rates, write_pass_at_k
from codejoule.evaluation.formats.samples import (
    SubmittedSample,
    holds_samples,
    read_samples,
    write_samples,
)

__all__ = [
    "RecordedVerdict",
    "SamplesName",
    "SubmittedSample",
    "holds_samples",
    "pass_rates",
    "read_eval_results",
    "read_samples",
    "subset_of",
    "write_eval_results",
    "write_pass_at_k",
    "write_samples",
]
