"""What is said while samples are judged."""

import pytest

from codejoule.common.progress import told_to
from codejoule.domain import Status, Verdict
from codejoule.evaluation import Progress
from tests.common.watcher import Notes


def _verdict(number: int, *, passed: bool = True) -> Verdict:
    return Verdict(
        task_id="t/1",
        sample=number,
        status=Status.passed if passed else Status.failed,
        reason="pass" if passed else "fail",
        details={} if passed else {"test_a": "Traceback\n  ...\nAssertionError: 1 != \x1b[2J"},
        evaluation_s=1.0,
        evaluation_cpu_s=1.0,
    )


def test_how_far_judging_is_and_how_many_passed_is_told() -> None:
    notes = Notes()
    with told_to(notes):
        progress = Progress(4)
        progress.keep([_verdict(0), _verdict(1, passed=False)])
        progress.add(_verdict(2))
    assert notes.said == ["An earlier evaluation has judged 2 of 4, 1 passed."]
    assert notes.done == [
        "judging samples: 0 of 4, 0 passed",
        "judging samples: 2 of 4, 1 passed",
        "judging samples: 3 of 4, 2 passed",
    ]


@pytest.mark.parametrize("verbose", [True, False])
def test_failures_are_named_on_request(verbose: bool) -> None:
    notes = Notes()
    with told_to(notes):
        Progress(50, verbose=verbose).add(_verdict(7, passed=False))
    line = "t/1 sample 7: fail: test_a: AssertionError: 1 != \\x1b[2J"
    assert notes.said == ([line] if verbose else [])
