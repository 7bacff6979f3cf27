"""One sample, looked at closely."""

import dataclasses
from dataclasses import dataclass

from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import Status, Verdict
from codejoule.evaluation.attempt import try_sample
from codejoule.evaluation.expected import expected_test_ids, modules_worth_importing
from codejoule.evaluation.expected_outputs import with_expected_outputs
from codejoule.evaluation.judge import judge
from codejoule.evaluation.sample import Sample
from codejoule.sandbox.host_memory import Memory
from codejoule.sandbox.interpreter import describe_interpreter
from codejoule.sandbox.launch import Launcher, choose_launcher
from codejoule.sandbox.sandbox import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What happened to one sample."""

    verdict: Verdict
    """Its verdict, as `judge` would give it."""
    tests: tuple[str, ...]
    """The tests that were to run, in the order in which unittest runs them."""
    output: str
    """The end of what it printed to standard output and standard error, 4 KiB at most."""


def inspect_sample(
    sample: Sample,
    *,
    config: EvaluatorConfig,
    timeout_s: float,
    launcher: Launcher | None = None,
) -> Inspection:
    """Judge `sample` as `judge` does, and keep what it printed. Raises as `judge` does."""
    (sample,) = with_expected_outputs(
        [sample], config=config, timeout_s=timeout_s, launcher=launcher
    )
    preimport = modules_worth_importing([sample.code_prompt, sample.test, sample.plus_test])
    interpreter = describe_interpreter(config.python)
    worker = Worker(
        config, interpreter, choose_launcher(launcher, config.isolation), preimport=preimport
    )
    try:
        verdict, output = try_sample(sample, worker, timeout_s, Memory())
    finally:
        worker.stop()
    expected = expected_test_ids(sample.test) | expected_test_ids(sample.plus_test)
    if config.challenge and verdict.status is Status.passed:
        (again,) = judge([sample], config=config, timeout_s=timeout_s, launcher=launcher)
        verdict = dataclasses.replace(verdict, challenge=again.challenge)
    return Inspection(
        verdict=verdict,
        tests=tuple(sorted(expected)),
        output=output,
    )
