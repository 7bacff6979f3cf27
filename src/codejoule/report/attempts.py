"""Prompts, programs and test output, as much as a page can hold."""

from typing import Any

import numpy as np

from codejoule.analysis import GroupAnalysis, LoadedRuns, read_attempts
from codejoule.domain.text import visible

MOST_TEXT = 3_000_000
"""Characters of prompts, programs and test output that the page holds."""
MOST_CHARACTERS = 6_000
"""Characters of one of them."""
MOST_CONFIGURATIONS = 24
"""Configurations of a group whose answers are shown."""


class Texts:
    """Texts by number, each held once; those of models and tests are hostile until shown.

    What is not printable (what turns a line's direction around, too) is written as an escape.
    """

    def __init__(self) -> None:
        self.held: list[str] = []
        self._numbers: dict[str, int] = {}
        self._room = MOST_TEXT

    def hold(self, texts: list[str]) -> list[int | None] | None:
        """Numbers of these texts, None for an empty one; None where they do not fit."""
        shown = [_cut(text) for text in texts]
        new = dict.fromkeys(text for text in shown if text and text not in self._numbers)
        if sum(map(len, new)) > self._room:
            return None
        for text in new:
            self._room -= len(text)
            self._numbers[text] = len(self.held)
            self.held.append(text)
        return [self._numbers[text] if text else None for text in shown]


def _cut(text: str) -> str:
    more = len(text) - MOST_CHARACTERS
    shown = visible(text[:MOST_CHARACTERS])
    return shown if more <= 0 else f"{shown}\n[{more:,} more characters are in the run's artifacts]"


def group_attempts(
    group: GroupAnalysis, loaded: LoadedRuns, configurations: list[int], texts: Texts
) -> tuple[dict[int, list[list[Any]]], list[str]]:
    """What each configuration's first run answered, and sentences on what did not fit.

    By number of the task, a row for each configuration: its number, the verdict, and the numbers of
    program, words of the tests and prompt. Tasks on which configurations differ come first.
    """
    cut: list[str] = []
    if len(configurations) > MOST_CONFIGURATIONS:
        cut.append(
            f"The answers of the first {MOST_CONFIGURATIONS} of {len(configurations)} "
            "configurations are here: the others' are in their artifact samples.jsonl."
        )
    first = {c: group.evidence.table["run_ids"].iloc[c][0] for c in configurations}
    first = dict(list(first.items())[:MOST_CONFIGURATIONS])
    runs = read_attempts(loaded.frame, list(first.values()), uri=loaded.uri)
    found: dict[int, list[list[Any]]] = {}
    left = 0
    for task in _most_telling(group, list(first)):
        task_id = group.evidence.figures.task_ids[task]
        rows = []
        for c, run_id in first.items():
            attempt = runs[run_id].attempts.get(task_id)
            if attempt is not None:
                prompt = runs[run_id].prompts.get(task_id, "")
                rows.append((c, attempt.status, attempt.program, attempt.output, prompt))
        numbers = None if left else texts.hold([text for row in rows for text in row[2:]])
        if numbers is None:
            left += bool(rows)
        elif rows:
            found[task] = [[*row[:2], *numbers[3 * i : 3 * i + 3]] for i, row in enumerate(rows)]
    if left:
        cut.append(
            f"{left:,} of {left + len(found):,} tasks are here without prompt, programs "
            f"and test output: the page holds {MOST_TEXT / 1e6:g} MB of them, tasks on which "
            "configurations differ first. All are in the runs' artifacts prompts.jsonl, "
            "samples.jsonl and eval_results.json."
        )
    return found, cut


def _most_telling(group: GroupAnalysis, configurations: list[int]) -> list[int]:
    """Tasks, first those that some pass and others do not, then those that none passes."""
    passed = group.evidence.passed[configurations]
    shares = np.where(np.isnan(passed), 0, passed).mean(axis=0)
    rank = np.where((shares > 0) & (shares < 1), 0, np.where(shares == 0, 1, 2))
    return [int(i) for i in np.argsort(rank, kind="stable")]
