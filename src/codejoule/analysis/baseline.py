"""Every quantized configuration against its unquantized baseline, in sentences."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codejoule.analysis.comparison import row_keys
from codejoule.analysis.evidence import Evidence
from codejoule.analysis.families import short_names
from codejoule.analysis.store import FindArtifact
from codejoule.analysis.table import Table
from codejoule.config.errors import UserError
from codejoule.domain import UNMEASURED, Doubt, break_even_tasks, read_validity
from codejoule.domain.text import number
from codejoule.statistics import ACCURACY_PAIRS

if TYPE_CHECKING:
    import pandas as pd

_VALIDITY = "tags.codejoule.validity"
_REDUCED = "tags.codejoule.batch_reduced_to"
_QUANTIZING = "metrics.energy_quantize_j"
_SAMPLES = "samples.jsonl"

Texts = Mapping[tuple[str, int], str]
"""Text of each sample by task id and number of the sample."""


def baseline_notes(
    runs: "pd.DataFrame", evidence: Evidence, accuracy: Table | None, find: FindArtifact
) -> tuple[str, ...]:
    """Say what each quantized configuration saves or costs, and how its answers differ.

    One sentence on energy per quantized row that has a baseline; one per row whose
    energy is doubtful by the tag ``codejoule.validity``; and, with `accuracy` (the table
    ``accuracy_pairs``), per quantized row one on the texts, of its first run and its baseline's,
    and the sentence on pass@1. `find` goes from a run's id to its ``samples.jsonl``.

    Gross energy of generation per task is compared, on these tasks at this batch size. The energy
    of quantizing is that of the run that did it; it is known only where that was here.
    """
    table = evidence.table
    names, rows = short_names(table, evidence.settings), table.to_dict("records")
    own = [runs[runs["run_id"].isin(row["run_ids"])] for row in rows]
    bases = baselines(evidence)
    notes = [
        _saving(names[i], rows[i], rows[base], own[i])
        for i, base in bases.items()
        if base is not None
    ]
    notes += [_validity(name, frame) for name, frame in zip(names, own, strict=True)]
    if accuracy is not None:
        assert ACCURACY_PAIRS.sentence is not None
        said = {
            (row["configuration"], row["reference"]): ACCURACY_PAIRS.sentence(row)
            for row in accuracy.rows()
            if row["factor"] == "quant"
        }
        for i, base in bases.items():
            if base is None:
                notes.append(f"{names[i]}: no run with quant=none and otherwise the same settings")
                continue
            unknown = (
                f"{names[i]}: pass@1 cannot be compared with none: no task was judged in both, or "
                "they differ in more than one setting"
            )
            notes.append(_same_texts(names[i], rows[i], rows[base], find))
            notes.append(said.get((evidence.labels[i], evidence.labels[base]), unknown))
    return tuple(note for note in notes if note)


def baselines(evidence: Evidence) -> dict[int, int | None]:
    """For each quantized row that with ``quant=none`` and all other settings equal, if any."""
    others = [name for name in evidence.settings if name.partition(".")[0] != "quant"]
    keys, quants = list(row_keys(evidence.table, others)), list(evidence.table["quant"])
    unquantized = {keys[i]: i for i, quant in enumerate(quants) if quant == "none"}
    return {i: unquantized.get(keys[i]) for i, quant in enumerate(quants) if quant != "none"}


def _saving(
    name: str, row: Mapping[Any, Any], base: Mapping[Any, Any], runs: "pd.DataFrame"
) -> str:
    after_j, before_j = row["energy_per_task_j"], base["energy_per_task_j"]
    if math.isnan(after_j) or not before_j > 0:
        return ""
    change = after_j / before_j - 1
    mark = "~" if row["energy_source"] == "estimate" else ""
    sentence = (
        f"{name} takes {mark}{abs(change):.0%} {'more' if change >= 0 else 'less'} energy per task "
        f"than none ({mark}{number(after_j)} against {mark}{number(before_j)} J)"
    )
    quantizing_j = float(runs[_QUANTIZING].mean()) if _QUANTIZING in runs else math.nan
    if math.isnan(quantizing_j):
        return sentence
    tasks = break_even_tasks(cost_j=quantizing_j, before_j=before_j, after_j=after_j)
    paid = "is never paid back" if math.isinf(tasks) else f"is paid back after {tasks:,.0f} tasks"
    return f"{sentence}; quantizing took {mark}{number(quantizing_j)} J, which {paid}"


def run_doubts(runs: "pd.DataFrame") -> dict[Doubt, str]:
    """Read the doubts that the runs' tag ``codejoule.validity`` names, each with its words."""
    if _VALIDITY not in runs:
        return {}
    found = {doubt: doubt.words for doubt in read_validity(runs[_VALIDITY])}
    if Doubt.reduced_batch in found and _REDUCED in runs:
        sizes = sorted({int(size) for size in runs[_REDUCED].dropna()})
        found[Doubt.reduced_batch] += f", which was reduced to {' or '.join(map(str, sizes))}"
    return found


def _validity(name: str, runs: "pd.DataFrame") -> str:
    """A sentence on what makes the energy of a row doubtful, else nothing."""
    words = [own for doubt, own in run_doubts(runs).items() if doubt not in UNMEASURED]
    return f"{name}: {'; '.join(words)}" if words else ""


def _same_texts(
    name: str, row: Mapping[Any, Any], base: Mapping[Any, Any], find: FindArtifact
) -> str:
    texts = []
    try:
        for run_id in (row["run_ids"][0], base["run_ids"][0]):
            path = find(run_id)
            if path is None:
                raise UserError(f"run {run_id} has no artifact {_SAMPLES}")
            texts.append(read_texts(path))
        same, tasks = count_same_texts(*texts)
    except (UserError, ValueError) as error:
        return f"{name}: its text cannot be compared with that of none: {error}"
    return f"{name} gives the same text as none on {same} of {tasks} tasks"


def read_texts(path: Path) -> dict[tuple[str, int], str]:
    """Texts of a samples file in BigCodeBench's format, a task's lines in order.

    Each line has ``task_id`` and ``raw_solution`` (as generated) or ``solution``.
    """
    texts: dict[tuple[str, int], str] = {}
    seen: Counter[str] = Counter()
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            own = "raw_solution" if "raw_solution" in row else "solution"
            texts[row["task_id"], seen[row["task_id"]]] = row[own]
            seen[row["task_id"]] += 1
    return texts


def count_same_texts(a: Texts, b: Texts) -> tuple[int, int]:
    """Tasks with identical text in all samples, and tasks in all.

    Raises ValueError if the two hold different tasks or samples, or none.
    """
    if not a or a.keys() != b.keys():
        raise ValueError(
            f"the two runs do not hold the same samples: {len(a)} and {len(b)}, "
            f"{len(a.keys() ^ b.keys())} of them in one run alone"
        )
    tasks = {task for task, _ in a}
    different = {task for (task, sample), text in a.items() if b[task, sample] != text}
    return len(tasks - different), len(tasks)
