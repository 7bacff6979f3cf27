"""Shows how far judging is."""

from collections.abc import Sequence

from codejoule.common.progress import doing, say
from codejoule.domain import Status, Verdict, visible


class Progress:
    """Counts verdicts and passes; with `verbose` it also tells each failure in a line. `what` names
    what is judged, where it is not samples."""

    def __init__(self, count: int, *, verbose: bool = False, what: str = "samples") -> None:
        self._count = count
        self._verbose = verbose
        self._what = what
        self._done = self._passed = self.kept = 0
        self._tell()

    def keep(self, verdicts: Sequence[Verdict]) -> None:
        """Verdicts that are known from before."""
        if verdicts:
            self.kept = self._done = len(verdicts)
            self._passed = sum(verdict.status is Status.passed for verdict in verdicts)
            say(f"An earlier evaluation has judged {self._state()}.")
            self._tell()

    def add(self, verdict: Verdict) -> None:
        """A new verdict."""
        self._done += 1
        passed = verdict.status is Status.passed
        self._passed += passed
        if self._verbose and not passed:
            say(one_line(verdict))
        self._tell()

    def _tell(self) -> None:
        doing(f"judging {self._what}", self._state())

    def _state(self) -> str:
        return f"{self._done} of {self._count}, {self._passed} passed"


def one_line(verdict: Verdict) -> str:
    """A failure in one line: the sample, the reason, the first failed test's last words."""
    name, text = next(iter(verdict.details.items()), ("", ""))
    said = (text.strip().splitlines() or [""])[-1]
    line = f"{verdict.task_id} sample {verdict.sample}: {verdict.reason}: {name}: {said}"
    return visible(line[:300].replace("\n", "\\n"))
