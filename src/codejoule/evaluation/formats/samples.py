"""Files of samples: one JSON object per line, or one program per file."""

import gzip
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codejoule.config import ConfigError

_LOGGER = logging.getLogger(__name__)
_TEXTS = ("solution", "completion", "raw_solution")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedSample:
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
            return complete_prompt + self.completion
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


def read_samples(path: Path) -> list[SubmittedSample]:
    """The samples at `path`: a JSONL file (``.gz`` too) with ``task_id`` and ``solution``,
    ``completion`` or ``raw_solution`` per line, other keys being ignored; or a folder with a
    folder per task (``BigCodeBench_13/0.py``), as upstream's tools take it.

    A last line that was cut off, as a generator that was killed leaves it, is left out with a
    warning. Raises ConfigError, naming the line, for what is missing, empty or not of this form.
    """
    rows = _folder(path) if path.is_dir() else _json_lines(path)
    counts: dict[str, int] = {}
    samples = []
    for where, row in rows:
        task_id = row["task_id"]
        number = counts.setdefault(task_id, 0)
        counts[task_id] += 1
        texts = {key: row.get(key) for key in _TEXTS}
        samples.append(SubmittedSample(task_id=task_id, sample=number, where=where, **texts))
    if not samples:
        raise ConfigError(f"{path}: no samples in it; one JSON object per line is expected")
    return samples


def _folder(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for task in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        files = [file for file in task.glob("*.py") if file.stem.isdecimal()]
        for file in sorted(files, key=lambda file: int(file.stem)):
            prefix, _, number = task.name.rpartition("_")
            row = {"task_id": f"{prefix}/{number}", "solution": _text(file, file.read_bytes())}
            yield str(file), row


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # Not splitlines: programs may hold its rarer separators unescaped.
    *lines, last = _text(path, _content(path)).split("\n")
    empty = True
    for number, line in enumerate(lines, start=1):
        if line.strip():
            empty = False
            yield _row(f"{path}, line {number}", line)
    if not last.strip():
        return
    where = f"{path}, line {len(lines) + 1}"
    try:
        yield _row(where, last)
    except ConfigError:
        if empty or not last.startswith("{") or last.endswith("}"):
            raise
        _LOGGER.warning("%s: cut off in the middle, so left out", where)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file of samples") from error
    except (OSError, EOFError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start})"
        ) from error


def _row(where: str, text: str) -> tuple[str, dict[str, Any]]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: a JSON object is expected, not {type(row).__name__}")
    if not isinstance(row.get("task_id"), str):
        raise ConfigError(f"{where}: task_id is missing or no string")
    if all(row.get(key) is None for key in _TEXTS):
        raise ConfigError(f"{where}: neither solution nor completion; one of them is needed")
    for key in _TEXTS:
        if not isinstance(row.get(key), str | None):
            raise ConfigError(f"{where}: {key} is {type(row[key]).__name__}, not a string")
    return where, row


def write_samples(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write `rows` (``task_id``, ``solution``, perhaps ``raw_solution``) as JSONL, gzipped
    where `path` ends in ``.gz``."""
    content = "".join(json.dumps(dict(row)) + "\n" for row in rows).encode("utf-8")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
