"""What a model is told of a program of its own that failed the shown tests."""

import re
from dataclasses import dataclass, replace

from codejoule.domain import Verdict, source_lines

MOST_OUTPUT = 2000
"""Characters of the tests' output that a model is given: the end, where the error is."""

_FRAME = re.compile(r'  File "(?P<file>[^"]+)", line (?P<line>\d+), in .+')
_INDIRECT = "exec(compile("
"""In tests that keep their code as text (EvalPlus'), whose lines a traceback does not mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedProgram:
    """A program that failed."""

    program: str
    """The sanitized program."""
    output: str
    """What the shown tests said of it."""

    def shortened(self) -> "FailedProgram":
        """The same with the second half of its output, in whole lines where there are several;
        empty at last."""
        return replace(self, output=_end(self.output, (len(self.output) - 1) // 2))


def told_by_tests(verdict: Verdict, *, judged: str, test: str) -> str:
    """The tracebacks in `verdict`, with the lines of source that Python would show: those of
    `judged`, the program as it ran, and of `test`. Frames of what judges are left out."""
    sources = {"solution.py": source_lines(judged), "tests.py": source_lines(test)}
    if _INDIRECT in test:
        del sources["tests.py"]
    told = []
    for name, text in verdict.details.items():
        told += [] if name == "ALL" else [f"{name}:"]
        told += _with_sources(text, sources)
    return _end("\n".join(told), MOST_OUTPUT)


def _end(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = text[len(text) - most :]
    _, cut, whole = end.partition("\n")
    return whole if cut else end


def _with_sources(text: str, sources: dict[str, list[str]]) -> list[str]:
    lines = []
    for line in text.strip("\n").split("\n"):
        frame = _FRAME.fullmatch(line)
        if frame is None:
            lines.append(line)
        elif (source := sources.get(frame["file"])) is not None:
            lines.append(line)
            if 0 < (number := int(frame["line"])) <= len(source):
                lines.append(f"    {source[number - 1].strip()}")
    return lines
