"""BigCodeBench's files: samples in and out, ``eval_results.json`` in and out,
``pass_at_k.json`` out."""

import gzip
import itertools
import json
import logging
import math
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from codejoule.common.files import (
    MOST_BYTES,
    MOST_LINE_BYTES,
    check_size,
    parse_json,
    parse_row,
    read_bytes,
    read_lines,
)
from codejoule.common.lazily import Lazily
from codejoule.config import ConfigError, write_whole, writing_whole
from codejoule.domain import BOM, Status, Verdict, future_first, pass_at_k, visible

_LOGGER = logging.getLogger(__name__)
_TEXTS = ("solution", "completion", "raw_solution")
_NAME = re.compile(
    r"(?P<model>.+?)--bigcodebench-(?:(?P<subset>hard)-)?(?P<split>complete|instruct)--"
)
"""``{model}--{revision}--bigcodebench[-hard]-{split}--{backend}-{temperature}-{n}-....jsonl``"""
_KS = (1, 5, 10, 25, 100)
_ORDER = ("model", "split", "subset", "calibrated", "gt_pass_rate", "failed_tasks")
"""BigCodeBench's keys after those of pass@k."""
_SUBSETS = {"bigcodebench": "full", "bigcodebench_hard": "hard"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """One sample as its file has it."""

    task_id: str
    """The task it names."""
    sample: int
    """Its number among the file's samples of that task, from 0."""
    solution: str | None
    """The whole program, where the file has one."""
    completion: str | None
    """What follows the task's ``complete_prompt``, where the file has that instead."""
    raw_solution: str | None
    """The program before sanitizing, where the file has it."""
    where: str
    """File and line, for messages."""

    def program_after(self, complete_prompt: str) -> str:
        """The whole program, given the prompt that a completion continues; ConfigError where
        there is only a program that has not been sanitized."""
        if self.solution is not None:
            return self.solution
        if self.completion is not None:
            return "".join(future_first((complete_prompt, self.completion)))
        raise ConfigError(
            f"{self.where}: only raw_solution, which has not been sanitized; sanitize it with "
            "--sanitize, or give solution or completion"
        )

    def unsanitized_after(self, complete_prompt: str) -> str:
        """The text to sanitize: ``raw_solution``, else ``solution``, else the prompt with the
        completion, joined as upstream's sanitizer joins them."""
        if self.raw_solution is not None:
            return self.raw_solution
        if self.solution is not None:
            return self.solution
        return f"{complete_prompt}\n{self.completion}"


def told_by_name(path: Path) -> dict[str, str]:
    """What the name of a file of samples tells: ``model`` with revision, ``split``, and
    ``subset`` (``full`` or ``hard``); nothing if it has another scheme."""
    match = _NAME.match(path.name)
    return match.groupdict("full") if match else {}


def read_sample_file(path: Path) -> list[SampleRow]:
    """The samples at `path`: a JSONL file (``.gz`` too) with ``task_id`` (text, or the number
    alone) and ``solution``, ``completion`` or ``raw_solution`` per line, other keys being
    ignored; or a folder with a folder per task (``BigCodeBench_13/0.py``), as upstream's tools
    take it.

    A last line that was cut off, as a generator that was killed leaves it, is left out with a
    warning. Raises ConfigError, naming the line, for what is missing, empty, not of this form,
    a link, or larger than any sample.
    """
    return list(each_sample_in(path))


def each_sample_in(path: Path) -> Iterator[SampleRow]:
    """As `read_sample_file`, one at a time."""
    counts: Counter[str] = Counter()
    for where, row in _folder(path) if path.is_dir() else _json_lines(path):
        task_id = str(row["task_id"])
        found = {key: row.get(key) for key in _TEXTS}
        texts = {key: text and text.removeprefix(BOM) for key, text in found.items()}
        yield SampleRow(task_id=task_id, sample=counts[task_id], where=where, **texts)
        counts[task_id] += 1
    if not counts:
        raise ConfigError(f"{path}: no samples in it; one JSON object per line is expected")


def holds_samples(path: Path) -> bool:
    """Whether the first line of `path` is a sample by itself, whatever the file is called."""
    try:
        first = itertools.islice(read_lines(path, "samples"), 1)
        return any("task_id" in parse_row(where, line) for where, line in first)
    except ConfigError:
        return False


def _folder(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    total = 0
    for task in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        _refuse_link(task)
        files = [file for file in task.glob("*.py") if file.stem.isdecimal()]
        for file in sorted(files, key=lambda file: int(file.stem)):
            _refuse_link(file)
            content = read_bytes(file, "one program", most_bytes=MOST_LINE_BYTES)
            total += len(content)
            check_size(path, total, MOST_BYTES)
            try:
                solution = content.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ConfigError(
                    f"{file}: not UTF-8 text ({error.reason} at byte {error.start})"
                ) from error
            benchmark, _, number = task.name.rpartition("_")
            task_id = f"{benchmark}/{number}" if benchmark else number
            yield str(file), {"task_id": task_id, "solution": solution}


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise ConfigError(
            f"{path}: a symbolic link, which may lead to any file of this machine; if you trust "
            "the folder, copy it with what its links name (cp -RL FOLDER COPY)"
        )


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    empty = True
    for where, line in read_lines(path, "samples"):
        try:
            row = parse_row(where, line)
        except ConfigError:
            whole = line.endswith(b"\n") or line.endswith(b"}") or not line.startswith(b"{")
            if empty or whole:
                raise
            _LOGGER.warning("%s: cut off in the middle, so left out", visible(where))
            return
        empty = False
        if not isinstance(row.get("task_id"), str | int) or isinstance(row["task_id"], bool):
            raise ConfigError(f"{where}: task_id is missing or no string (or whole number)")
        if all(row.get(key) is None for key in _TEXTS):
            raise ConfigError(f"{where}: neither solution nor completion; one of them is needed")
        for key in _TEXTS:
            if not isinstance(row.get(key), str | None):
                raise ConfigError(f"{where}: {key} is {type(row[key]).__name__}, not a string")
        yield where, row


def write_samples(path: Path, rows: Iterable[Mapping[str, str | int | None]]) -> None:
    """Write `rows` (``task_id``, ``solution``, perhaps ``raw_solution``) as JSONL, gzipped
    where `path` ends in ``.gz``."""
    with writing_whole(path) as whole:
        packed = path.suffix == ".gz"
        with gzip.open(whole, "wb") if packed else nullcontext(whole) as file:
            for row in rows:
                file.write(json.dumps(dict(row)).encode("ascii") + b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVerdict:
    """One sample in a file of results, by whichever evaluator."""

    task_id: str
    """The task."""
    sample: int
    """Its number among the task's samples, from 0."""
    solution: str
    """The program; upstream puts the task's imports and signature in front of it."""
    status: Status
    """The verdict."""
    details: Mapping[str, str]
    """Traceback of each failed test, or ``{"ALL": message}``."""
    reason: str | None
    """More about a failure; None where the file does not tell."""

    def uncalibrated(self, code_prompt: str) -> str:
        """The program without the imports and signature that upstream puts in front."""
        return self.solution.removeprefix(f"{code_prompt}\n    pass\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictAgreement:
    """How far two evaluations agree: pass, or not."""

    compared: int
    """Samples that both have."""
    differing: tuple[tuple[Verdict, RecordedVerdict], ...]
    """Those of which one passed and the other did not, with both verdicts."""

    @property
    def rate(self) -> float:
        """Share of the compared samples on which both agree; NaN where there are none."""
        return 1 - len(self.differing) / self.compared if self.compared else float("nan")


def compare_verdicts(
    verdicts: Sequence[Verdict], recorded: Sequence[RecordedVerdict]
) -> VerdictAgreement:
    """Compare by task and number of the sample; samples that one side lacks,
    or could not judge, do not count."""
    judged = [one for one in recorded if one.status is not Status.unjudged]
    others = {(other.task_id, other.sample): other for other in judged}
    pairs = [
        (verdict, others[verdict.task_id, verdict.sample])
        for verdict in verdicts
        if (verdict.task_id, verdict.sample) in others and verdict.status is not Status.unjudged
    ]
    differing = [
        (ours, theirs)
        for ours, theirs in pairs
        if (ours.status is Status.passed) != (theirs.status is Status.passed)
    ]
    return VerdictAgreement(compared=len(pairs), differing=tuple(differing))


def read_eval_results(path: Path) -> list[RecordedVerdict]:
    """The samples and verdicts in ``eval_results.json`` (``.gz`` too), upstream's or ours.

    Raises ConfigError, naming the task, for a file that is missing or not of this form.
    """
    content = parse_json(path, read_bytes(path, "results"))
    tasks = content.get("eval") if isinstance(content, dict) else None
    if not isinstance(tasks, dict) or not tasks:
        raise ConfigError(
            f"{path}: no results in it; BigCodeBench's eval_results.json has an object `eval` "
            "that maps each task_id to the list of its samples, and a file of samples one JSON "
            "object per line"
        )
    for task_id, rows in tasks.items():
        if not isinstance(rows, list):
            raise ConfigError(f"{path}, {task_id}: a list of samples is expected")
    return [
        _recorded(f"{path}, {task_id} sample {number}", task_id, number, row)
        for task_id, rows in tasks.items()
        for number, row in enumerate(rows)
    ]


def _recorded(where: str, task_id: str, number: int, row: Any) -> RecordedVerdict:
    if not isinstance(row, dict) or not isinstance(row.get("solution"), str):
        raise ConfigError(f"{where}: an object with the text `solution` is expected")
    known = [status.value for status in Status]
    # EvalPlus' own files have a status for each part of the tests, and none for all.
    base, plus = row.get("base_status"), row.get("plus_status")
    said = row.get("status") or (plus if plus and base == Status.passed.value else base)
    if said not in known:
        raise ConfigError(f"{where}: status {said!r}, not one of {', '.join(known)}")
    details = row.get("details")
    return RecordedVerdict(
        task_id=task_id,
        sample=number,
        solution=row["solution"],
        status=Status(said),
        details=details if isinstance(details, dict) else {},
        reason=row.get("reason"),
    )


def write_eval_results(path: Path, verdicts: Sequence[Verdict], solutions: Sequence[str]) -> None:
    """Write ``eval_results.json``: per task its samples with their verdicts, in the given
    order. `solutions` holds the program of each verdict. Beyond BigCodeBench's keys each
    sample has its ``reason``, and for EvalPlus' formats, whose keys they are, ``base_status``
    and ``plus_status`` (of all tests)."""
    places: dict[str, array[int]] = {}
    for place, verdict in enumerate(verdicts):
        places.setdefault(verdict.task_id, array("q")).append(place)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    # Row by row: all of them in one text take several times their size in memory.
    with writing_whole(path) as file:
        file.write(f'{{\n  "date": "{now}",\n  "eval": {{'.encode())
        for task, (task_id, own) in enumerate(places.items()):
            file.write(f"{',' if task else ''}\n    {json.dumps(task_id)}: [".encode())
            for number, place in enumerate(own):
                text = json.dumps(_result(verdicts[place], solutions[place]), indent=2)
                indented = text.replace("\n", "\n      ")
                file.write(f"{',' if number else ''}\n      {indented}".encode())
            file.write(b"\n    ]")
        file.write(b"\n  }\n}\n" if places else b"}\n}\n")


def _result(verdict: Verdict, solution: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "task_id": verdict.task_id,
        "solution": solution,
        "status": verdict.status.value,
        "details": dict(verdict.details),
        "reason": verdict.reason,
    }
    if verdict.base is not None:
        row |= {"base_status": verdict.base.value, "plus_status": verdict.status.value}
    return row


def pass_rates(
    verdicts: Sequence[Verdict], *, among: Collection[str] | None = None
) -> dict[int, float]:
    """pass@k, the mean over tasks, for k of 1, 5, 10, 25, 100 as far as every task has that
    many samples; over the tasks in `among` alone where that is given. Samples that could not be
    judged are left out. Empty without verdicts."""
    by_task: dict[str, list[bool]] = {}
    for verdict in verdicts:
        if verdict.status is not Status.unjudged and (among is None or verdict.task_id in among):
            by_task.setdefault(verdict.task_id, []).append(verdict.status is Status.passed)
    fewest = min(map(len, by_task.values()), default=0)
    return {
        k: math.fsum(pass_at_k(len(oks), sum(oks), k) for oks in by_task.values()) / len(by_task)
        for k in _KS
        if k <= fewest
    }


def write_pass_at_k(path: Path, verdicts: Sequence[Verdict], **known: Any) -> None:
    """Write ``pass_at_k.json``: the pass@k that the samples allow, and what else is `known`
    of BigCodeBench's keys (``model``, ``split``, ``subset``, ``gt_pass_rate``,
    ``failed_tasks``). What is not known is absent, and no other key is added: upstream's
    tool fails on keys that it does not know. For EvalPlus' formats ``pass@1`` is that of
    the base tests, and ``pass@1_plus`` that of all."""
    unknown = known.keys() - set(_ORDER)
    assert not unknown, f"not in BigCodeBench's pass_at_k.json: {unknown}"
    known["calibrated"] = True
    base = Lazily(len(verdicts), lambda place: verdicts[place].of_base_tests())
    content: dict[str, Any] = {f"pass@{k}": rate for k, rate in pass_rates(base).items()}
    if any(verdict.base is not None for verdict in verdicts):
        content |= {f"pass@{k}_plus": rate for k, rate in pass_rates(verdicts).items()}
    content |= {key: known[key] for key in _ORDER if known.get(key) is not None}
    write_whole(path, json.dumps(content, indent=2) + "\n")


def subset_of(suite: str) -> str:
    """BigCodeBench's word for the suite of that name, where it has one, else the name."""
    return _SUBSETS.get(suite, suite)
