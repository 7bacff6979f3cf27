"""What is said while samples are judged."""

import io

import pytest

from codejoule.domain import Status, Verdict
from codejoule.evaluation import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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


def test_without_a_terminal_there_is_a_line_at_every_tenth_and_one_when_it_takes_long() -> None:
    stream, now_s = io.StringIO(), [0.0]
    progress = Progress(100, verbose=False, stream=stream, clock=lambda: now_s[0])
    progress.keep([_verdict(0), _verdict(1, passed=False)])
    for number, step_s in enumerate([1.0] * 18 + [40.0] + [1.0] * 4, start=2):
        now_s[0] += step_s
        progress.add(_verdict(number))
    assert stream.getvalue().splitlines() == [
        "2/100 judged, 1 passed, by an earlier evaluation",
        "10/100 judged, 9 passed",
        "20/100 judged, 19 passed",
        "21/100 judged, 20 passed",
    ]


def test_quick_samples_do_not_fill_a_log() -> None:
    stream = io.StringIO()
    progress = Progress(10, verbose=False, stream=stream, clock=lambda: 0.0)
    for number in range(10):
        progress.add(_verdict(number))
    assert stream.getvalue() == ""


def test_on_a_terminal_one_line_changes_and_failures_stay() -> None:
    stream = Terminal()
    progress = Progress(2, verbose=True, stream=stream)
    progress.add(_verdict(0, passed=False))
    progress.add(_verdict(1))
    assert stream.getvalue() == (
        "\r\x1b[Kt/1 sample 0: fail: test_a: AssertionError: 1 != \\x1b[2J\n"
        "\r\x1b[K1/2 judged, 0 passed"
        "\r\x1b[K2/2 judged, 1 passed\n"
    )


@pytest.mark.parametrize("verbose", [True, False])
def test_failures_are_named_on_request(verbose: bool) -> None:
    stream = io.StringIO()
    Progress(50, verbose=verbose, stream=stream).add(_verdict(7, passed=False))
    assert ("t/1 sample 7: fail" in stream.getvalue()) is verbose
