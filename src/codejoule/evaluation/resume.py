"""Judge what has not been judged before, and ask canonical solutions what tests expect."""

import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codejoule.config import user_cache
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import EXPECTED_OUTPUT, Status, Verdict
from codejoule.evaluation.attempt import KEPT_OUTPUT
from codejoule.evaluation.identity import sample_identity, setting_identity
from codejoule.evaluation.judge import judge
from codejoule.evaluation.sample import Sample
from codejoule.evaluation.verdict_log import VerdictLog
from codejoule.sandbox import SandboxFacts

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Verdicts, old and new."""

    verdicts: tuple[Verdict, ...]
    """One per sample, in the samples' order."""
    kept: int
    """How many of them were found in the log."""


def judge_resuming(
    samples: Sequence[Sample],
    log: VerdictLog,
    *,
    config: EvaluatorConfig,
    timeout_s: float,
    on_kept: Callable[[Sequence[Verdict]], None] = lambda _: None,
    on_start: Callable[[SandboxFacts], None] = lambda _: None,
    on_verdict: Callable[[Verdict], None] = lambda _: None,
    keeps: Callable[[Verdict], bool] = lambda verdict: verdict.status is not Status.unjudged,
) -> Judged:
    """As `judge`, but a verdict that `log` holds under the same program, tests, limits and
    environment is kept, and each new one is on disk before `on_verdict` hears of it, unless
    `keeps` says no: then the sample is judged again by the next call, as one is that could not
    be judged. `on_kept` hears at the start which were kept."""
    setting = setting_identity(config, timeout_s=timeout_s)
    keys = {(sample.task_id, sample.sample): sample_identity(setting, sample) for sample in samples}
    kept = [verdict for key in keys.values() if (verdict := log.find(key)) is not None]
    on_kept(kept)

    def note(verdict: Verdict) -> None:
        if keeps(verdict):
            log.add(keys[verdict.task_id, verdict.sample], verdict)
        on_verdict(verdict)

    missing = [s for s in samples if log.find(keys[s.task_id, s.sample]) is None]
    new = judge(
        with_expected_outputs(missing, config=config, timeout_s=timeout_s),
        config=config,
        timeout_s=timeout_s,
        on_start=on_start,
        on_verdict=note,
    )
    known = {(verdict.task_id, verdict.sample): verdict for verdict in (*kept, *new)}
    verdicts = tuple(known[sample.task_id, sample.sample] for sample in samples)
    return Judged(verdicts=verdicts, kept=len(kept))


def with_expected_outputs(
    samples: Sequence[Sample], *, config: EvaluatorConfig, timeout_s: float
) -> list[Sample]:
    """`samples`, those whose tests leave it open with what the canonical solutions return.

    They are run by themselves, under the same limits and in the same environment as the samples,
    once: the outputs stay in the user's cache, under all that they depend on. A sample never
    shares a process with the canonical solution, and gets its outputs only as the tests hold
    them. Raises as `judge` does.
    """
    references = {
        (sample.task_id, part): ((sample.reference, test), _reference(sample, test, part))
        for sample in samples
        for part, test in enumerate((sample.test, sample.plus_test))
        if EXPECTED_OUTPUT in test
    }
    if not references:
        return list(samples)
    path = user_cache() / "expected_outputs" / f"{setting_identity(config, timeout_s=timeout_s)}"

    def outputs(verdict: Verdict) -> list[str] | None:
        """What it printed for each place of its test; None where it did not come to that, or
        printed more than is kept."""
        (_, test), _ = references[verdict.task_id, verdict.sample]
        printed = verdict.details.get(KEPT_OUTPUT, "")
        told = re.findall(r"^output (#?-?[0-9a-f]+)$", printed, re.MULTILINE)
        return told if len(told) == test.count(EXPECTED_OUTPUT) else None

    with VerdictLog(path.with_suffix(".jsonl")) as log:
        judged = judge_resuming(
            [one for _, one in references.values()],
            log,
            config=config,
            timeout_s=timeout_s,
            on_kept=lambda kept: _LOGGER.info(
                "asking canonical solutions for %d sets of outputs", len(references) - len(kept)
            ),
            keeps=lambda verdict: outputs(verdict) is not None,
        )
    expected = {}
    for verdict in judged.verdicts:
        which, _ = references[verdict.task_id, verdict.sample]
        expected[which] = outputs(verdict)
        if expected[which] is None:
            passed = verdict.status is Status.passed
            _LOGGER.warning(
                "%s: its canonical solution does not tell what its tests expect (%s), so that no "
                "sample of it can be judged here",
                verdict.task_id, "it is too much" if passed else verdict.reason,
            )  # fmt: skip
    return [dataclasses.replace(sample, expected=expected) for sample in samples]


def _reference(sample: Sample, test: str, part: int) -> Sample:
    """The canonical solution as a sample that prints what `test` expects, the first or the
    further tests."""
    return dataclasses.replace(
        sample, sample=part, solution=sample.reference, plus_test="", reference="",
        test=test.replace(EXPECTED_OUTPUT, "?"), keeps_output=True,
    )  # fmt: skip
