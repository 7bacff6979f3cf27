"""What tests expect where the canonical solution says it: asked in the sandbox, by itself.

A sample never shares a process with the canonical solution, and gets its outputs only as the
tests hold them.
"""

import dataclasses
import logging
import re
from collections.abc import Sequence

from codejoule.config import user_cache
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import EXPECTED_OUTPUT, Status, Verdict
from codejoule.evaluation.identity import sample_identity, setting_identity
from codejoule.evaluation.judge import KEPT_OUTPUT, judge
from codejoule.evaluation.sample import Sample
from codejoule.evaluation.verdict_log import VerdictLog
from codejoule.sandbox.launch import Launcher

_LOGGER = logging.getLogger(__name__)


def with_expected_outputs(
    samples: Sequence[Sample],
    *,
    config: EvaluatorConfig,
    timeout_s: float,
    launcher: Launcher | None = None,
) -> list[Sample]:
    """`samples`, those whose tests leave it open with what the canonical solutions return.

    They are run under the same limits and in the same environment as the samples, once: the
    outputs stay in the user's cache, under all that they depend on. Raises as `judge` does.
    """
    references = {
        (sample.reference, test): _reference(sample, test, part)
        for sample in samples
        for part, test in enumerate((sample.test, sample.plus_test))
        if EXPECTED_OUTPUT in test
    }
    if not references:
        return list(samples)
    config = dataclasses.replace(config, challenge=False)
    setting = setting_identity(config, timeout_s=timeout_s)
    keys = {which: sample_identity(setting, one) for which, one in references.items()}
    with VerdictLog(user_cache() / "expected_outputs" / f"{setting}.jsonl") as log:
        missing = {
            (one.task_id, one.sample): which
            for which, one in references.items()
            if log.find(keys[which]) is None
        }

        def note(verdict: Verdict) -> None:
            which = missing[verdict.task_id, verdict.sample]
            if _outputs(verdict, which[1]) is not None:
                log.add(keys[which], verdict)
            else:
                _warn(verdict)

        if missing:
            _LOGGER.info("asking canonical solutions for %d sets of outputs", len(missing))
        judge(
            [references[which] for which in missing.values()],
            config=config,
            timeout_s=timeout_s,
            on_verdict=note,
            launcher=launcher,
        )
        known = {which: log.find(key) for which, key in keys.items()}
    expected = {
        which: None if verdict is None else _outputs(verdict, which[1])
        for which, verdict in known.items()
    }
    return [dataclasses.replace(sample, expected=expected) for sample in samples]


def _reference(sample: Sample, test: str, part: int) -> Sample:
    """The canonical solution as a sample that prints what `test` expects, the first or the
    further tests."""
    return dataclasses.replace(
        sample, sample=part, solution=sample.reference, plus_test="", reference="",
        test=test.replace(EXPECTED_OUTPUT, "?"), keeps_output=True,
    )  # fmt: skip


def _outputs(verdict: Verdict, test: str) -> list[str] | None:
    """What it printed for each place of `test`; None where it did not come to that, or printed
    more than is kept."""
    printed = verdict.details.get(KEPT_OUTPUT, "")
    told = re.findall(r"^output (#?-?[0-9a-f]+)$", printed, re.MULTILINE)
    return told if len(told) == test.count(EXPECTED_OUTPUT) else None


def _warn(verdict: Verdict) -> None:
    passed = verdict.status is Status.passed
    _LOGGER.warning(
        "%s: its canonical solution does not tell what its tests expect (%s), so that no sample "
        "of it can be judged here",
        verdict.task_id, "it is too much" if passed else verdict.reason,
    )  # fmt: skip
