"""pass@k of many verdicts, and the file for it."""

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from codejoule.config import write_whole
from codejoule.domain import Status, Verdict, pass_at_k

_KS = (1, 5, 10, 25, 100)
_ORDER = ("model", "split", "subset", "calibrated", "gt_pass_rate", "failed_tasks")
"""BigCodeBench's keys after those of pass@k."""


def pass_rates(
    verdicts: Sequence[Verdict], *, among: Collection[str] | None = None
) -> dict[int, float]:
    """pass@k, the mean over tasks, for k of 1, 5, 10, 25, 100 as far as every task has that
    many samples; over the tasks in `among` alone where that is given. Samples that could not be
    judged count nowhere. Empty without verdicts."""
    by_task: dict[str, list[bool]] = {}
    for verdict in verdicts:
        if verdict.status is Status.unjudged:
            continue
        if among is None or verdict.task_id in among:
            by_task.setdefault(verdict.task_id, []).append(verdict.status is Status.passed)
    if not by_task:
        return {}
    fewest = min(map(len, by_task.values()))
    return {
        k: math.fsum(pass_at_k(len(oks), sum(oks), k) for oks in by_task.values()) / len(by_task)
        for k in _KS
        if k <= fewest
    }


def write_pass_at_k(path: Path, verdicts: Sequence[Verdict], **known: Any) -> None:
    """Write ``pass_at_k.json``: the pass@k that the samples allow, and what else is `known`
    of BigCodeBench's keys (``model``, ``split``, ``subset``, ``gt_pass_rate``,
    ``failed_tasks``). What is not known is absent, and no other key is added: upstream's
    tool stumbles over keys that it does not know. For EvalPlus' formats ``pass@1`` is that of
    the base tests, and ``pass@1_plus`` that of all."""
    unknown = known.keys() - set(_ORDER)
    assert not unknown, f"not in BigCodeBench's pass_at_k.json: {unknown}"
    known["calibrated"] = True
    base = [verdict.of_base_tests() for verdict in verdicts]
    content: dict[str, Any] = {f"pass@{k}": rate for k, rate in pass_rates(base).items()}
    if any(verdict.base is not None for verdict in verdicts):
        content |= {f"pass@{k}_plus": rate for k, rate in pass_rates(verdicts).items()}
    content |= {key: known[key] for key in _ORDER if known.get(key) is not None}
    write_whole(path, json.dumps(content, indent=2) + "\n")
