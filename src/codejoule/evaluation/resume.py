"""Judge what has not been judged before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Status, Verdict
from codejoule.evaluation.expected_outputs import with_expected_outputs
from codejoule.evaluation.identity import sample_identity, setting_identity
from codejoule.evaluation.judge import judge
from codejoule.evaluation.sample import Sample
from codejoule.evaluation.verdict_log import VerdictLog
from codejoule.sandbox.launch import Launcher
from codejoule.sandbox.sandbox import SandboxFacts


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
    launcher: Launcher | None = None,
) -> Judged:
    """As `judge`, but a verdict that `log` holds under the same program, tests, limits and
    environment is kept, and each new one is on disk before `on_verdict` hears of it. A sample
    that could not be judged is not kept: it is judged again by the next call.
    `on_kept` hears at the start which were kept."""
    setting = setting_identity(config, timeout_s=timeout_s)
    keys = {(sample.task_id, sample.sample): sample_identity(setting, sample) for sample in samples}
    kept = [verdict for key in keys.values() if (verdict := log.find(key)) is not None]
    on_kept(kept)

    def note(verdict: Verdict) -> None:
        if verdict.status is not Status.unjudged:
            log.add(keys[verdict.task_id, verdict.sample], verdict)
        on_verdict(verdict)

    missing = [s for s in samples if log.find(keys[s.task_id, s.sample]) is None]
    new = judge(
        with_expected_outputs(missing, config=config, timeout_s=timeout_s, launcher=launcher),
        config=config,
        timeout_s=timeout_s,
        on_start=on_start,
        on_verdict=note,
        launcher=launcher,
    )
    known = {(verdict.task_id, verdict.sample): verdict for verdict in (*kept, *new)}
    verdicts = tuple(known[sample.task_id, sample.sample] for sample in samples)
    return Judged(verdicts=verdicts, kept=len(kept))
