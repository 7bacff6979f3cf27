"""Files of samples in BigCodeBench's format: one JSON object per line, or one program per file."""

import gzip
import itertools
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codejoule.common.files import (
    MOST_BYTES,
    MOST_LINE_BYTES,
    check_size,
    parse_row,
    read_bytes,
    read_lines,
)
from codejoule.config import ConfigError, write_whole
from codejoule.domain import BOM, future_first, visible

_LOGGER = logging.getLogger(__name__)
_TEXTS = ("solution", "completion", "raw_solution")
_NAME = re.compile(
    r"(?P<model>.+?)--bigcodebench-(?:(?P<subset>hard)-)?(?P<split>complete|instruct)--"
)
"""``{model}--{revision}--bigcodebench[-hard]-{split}--{backend}-{temperature}-{n}-....jsonl``"""


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
    counts: dict[str, int] = {}
    samples = []
    for where, row in _folder(path) if path.is_dir() else _json_lines(path):
        task_id = str(row["task_id"])
        number = counts.setdefault(task_id, 0)
        counts[task_id] += 1
        found = {key: row.get(key) for key in _TEXTS}
        texts = {key: text and text.removeprefix(BOM) for key, text in found.items()}
        samples.append(SampleRow(task_id=task_id, sample=number, where=where, **texts))
    if not samples:
        raise ConfigError(f"{path}: no samples in it; one JSON object per line is expected")
    return samples


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


def write_samples(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write `rows` (``task_id``, ``solution``, perhaps ``raw_solution``) as JSONL, gzipped
    where `path` ends in ``.gz``."""
    content = "".join(json.dumps(dict(row)) + "\n" for row in rows).encode("utf-8")
    write_whole(path, gzip.compress(content) if path.suffix == ".gz" else content)
