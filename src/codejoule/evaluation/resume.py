"""Judge what has not been judged before, and ask canonical solutions what tests expect.

A verdict is kept under a key of everything that it depends on: the program, its tests, the limits
and what runs them.
"""

import dataclasses
import errno
import hashlib
import json
import logging
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

from codejoule.common.lazily import Lazily
from codejoule.config import UserError, full_disk, user_cache
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import EXPECTED_OUTPUT, Status, Verdict, from_json, to_json
from codejoule.evaluation.judge import judge_each
from codejoule.evaluation.places import Places
from codejoule.evaluation.ruling import KEPT_OUTPUT
from codejoule.evaluation.sample import Sample
from codejoule.sandbox import SandboxFacts, describe_interpreter
from codejoule.sandbox.launch import data_paths

_LOGGER = logging.getLogger(__name__)

_NOT_OF_THE_VERDICT = (
    "name", "workers", "python", "timeout_s", "ground_truth", "spread", "address", "shard_samples",
)  # fmt: skip
"""Settings that change no verdict, or whose meaning is in an identity already."""


_NOWHERE = _CLOSED = -1
_USUAL_LINE_BYTES = 4096


def _verdict_in(line: bytes) -> tuple[str, Verdict]:
    """The key and the verdict on a line; ValueError, KeyError or TypeError where it is none."""
    row: dict[str, Any] = json.loads(line)
    key, verdict = row["key"], from_json(Verdict, row["verdict"])
    if not isinstance(key, str):
        raise TypeError("the key is no text")
    return key, verdict


class VerdictLog:
    """A JSONL file of verdicts, ``{"key": identity, "verdict": {...}}`` per line.

    A verdict that `add` has returned from outlives this process, however it ends. What cannot
    be read (half a line, or one by another version) is no verdict: its sample is judged anew.
    Several processes may add to one file, each line being written at once. What is held in memory
    of a verdict is its place in the file.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        """Open `path`, made where missing; with `fresh` what it holds is not looked at."""
        self.path = path
        self._places = Places()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            self._file = os.open(path, flags, 0o644)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                # A writer was killed in mid-line; what follows must not become part of it.
                os.write(self._file, b"\n")
            if not fresh:
                self._read(size)
        except OSError as error:
            raise self._unwritable(error) from error

    def _read(self, size: int) -> None:
        unread, place = 0, 0
        with self.path.open("rb") as lines:
            while place < size and (line := lines.readline()):
                if line.strip():
                    try:
                        key, _ = _verdict_in(line)
                        self._places.put(key, place)
                    except (ValueError, KeyError, TypeError):
                        unread += 1
                place += len(line)
        if unread:
            _LOGGER.warning("%s: %d lines are no verdicts; left out", self.path, unread)

    def find(self, key: str) -> Verdict | None:
        """The verdict under `key`, the last one added; None where there is none."""
        place = self.place(key)
        return None if place is None else self.at(place)

    def place(self, key: str) -> int | None:
        """Where the file has it [bytes from its beginning]."""
        # Two keys may share what the index knows them by.
        return next((at for at in self._places.find(key) if self._line(at)[0] == key), None)

    def at(self, place: int) -> Verdict:
        """The verdict at a place in the file, also of a log that is closed."""
        return self._line(place)[1]

    def _line(self, place: int) -> tuple[str, Verdict]:
        if self._file == _CLOSED:
            with self.path.open("rb") as lines:
                lines.seek(place)
                return _verdict_in(lines.readline())
        line, length = b"", _USUAL_LINE_BYTES
        while not line.endswith(b"\n"):
            read = os.pread(self._file, length, place)
            line = read[: read.find(b"\n") + 1]
            length *= 4
        return _verdict_in(line)

    def add(self, key: str, verdict: Verdict) -> int:
        """Keep `verdict` under `key`, and say at which place; raises UserError where the disk does
        not take it."""
        line = json.dumps({"key": key, "verdict": to_json(verdict)}).encode("ascii") + b"\n"
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            # Where this was appended, whatever other processes have added meanwhile.
            place = os.lseek(self._file, 0, os.SEEK_CUR) - len(line)
        except OSError as error:
            raise self._unwritable(error) from error
        self._places.put(key, place)
        return place

    def _unwritable(self, error: OSError) -> UserError:
        why = full_disk(error, self.path) or error.strerror
        return UserError(f"{self.path}: cannot be written: {why}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self._file = _CLOSED  # another file may be given its number


def judge_resuming(
    samples: Sequence[Sample],
    log: VerdictLog,
    *,
    config: EvaluatorConfig,
    timeout_s: float,
    on_kept: Callable[[Sequence[Verdict]], None] = lambda _: None,
    on_start: Callable[[SandboxFacts], None] = lambda _: None,
    on_verdict: Callable[[Verdict], None] = lambda _: None,
    keeps: Callable[[Verdict], bool] = lambda verdict: verdict.status is not Status.unjudged,
) -> Sequence[Verdict]:
    """As `judge`, but a verdict that `log` holds under the same program, tests, limits and
    environment is kept, and each new one is on disk before `on_verdict` hears of it, unless
    `keeps` says no: then the sample is judged again by the next call, as one is that could not
    be judged. `on_kept` hears at the start which were kept.

    What is returned reads each verdict from `log` when it is asked for: of a sample, its place
    there is held, and what `keeps` does not keep."""
    setting = setting_identity(config, timeout_s=timeout_s)
    places = array("q", (_known(log, setting, sample) for sample in samples))
    kept = array("q", (place for place in places if place != _NOWHERE))
    on_kept(Lazily(len(kept), lambda number: log.at(kept[number])))
    missing = array("q", (number for number, place in enumerate(places) if place == _NOWHERE))
    left = Lazily(len(missing), lambda number: samples[missing[number]])
    others: dict[int, Verdict] = {}

    def note(number: int, verdict: Verdict) -> None:
        which = missing[number]
        if keeps(verdict):
            places[which] = log.add(sample_identity(setting, samples[which]), verdict)
        else:
            others[which] = verdict
        on_verdict(verdict)

    judge_each(
        with_expected_outputs(left, config=config, timeout_s=timeout_s),
        config=config,
        timeout_s=timeout_s,
        on_start=on_start,
        on_verdict=note,
    )
    return Lazily(
        len(samples),
        lambda number: others[number] if places[number] == _NOWHERE else log.at(places[number]),
    )


def _known(log: VerdictLog, setting: str, sample: Sample) -> int:
    place = log.place(sample_identity(setting, sample))
    return _NOWHERE if place is None else place


def with_expected_outputs(
    samples: Sequence[Sample], *, config: EvaluatorConfig, timeout_s: float
) -> Sequence[Sample]:
    """`samples`, those whose tests leave it open with what the canonical solutions return.

    They are run by themselves, under the same limits and in the same environment as the samples,
    once: the outputs stay in the user's cache, under all that they depend on. A sample never
    shares a process with the canonical solution, and gets its outputs only as the tests hold
    them. Raises as `judge` does.
    """
    references: dict[tuple[str, str], Sample] = {}
    numbers = Counter[str]()
    for sample in samples:
        for test in (sample.test, sample.plus_test):
            if EXPECTED_OUTPUT in test and (sample.reference, test) not in references:
                one = _reference(sample, test, numbers[sample.task_id])
                references[sample.reference, test] = one
                numbers[sample.task_id] += 1
    if not references:
        return samples
    asked = {(one.task_id, one.sample): which for which, one in references.items()}
    path = user_cache() / "expected_outputs" / f"{setting_identity(config, timeout_s=timeout_s)}"

    def outputs(verdict: Verdict) -> list[str] | None:
        """What it printed for each place of its test; None where it did not come to that, or
        printed more than is kept."""
        _, test = asked[verdict.task_id, verdict.sample]
        printed = verdict.details.get(KEPT_OUTPUT, "")
        told = re.findall(r"^output (#?-?[0-9a-f]+)$", printed, re.MULTILINE)
        return told if len(told) == test.count(EXPECTED_OUTPUT) else None

    with VerdictLog(path.with_suffix(".jsonl")) as log:
        verdicts = judge_resuming(
            list(references.values()),
            log,
            config=config,
            timeout_s=timeout_s,
            on_kept=lambda kept: _LOGGER.info(
                "asking canonical solutions for %d sets of outputs", len(references) - len(kept)
            ),
            keeps=lambda verdict: outputs(verdict) is not None,
        )
        told = [(verdict, outputs(verdict)) for verdict in verdicts]
    expected = {}
    for verdict, found in told:
        expected[asked[verdict.task_id, verdict.sample]] = found
        if found is None:
            passed = verdict.status is Status.passed
            _LOGGER.warning(
                "%s: its canonical solution does not tell what its tests expect (%s), so that no "
                "sample of it can be judged here",
                verdict.task_id, "it is too much" if passed else verdict.reason,
            )  # fmt: skip
    return Lazily(
        len(samples), lambda number: dataclasses.replace(samples[number], expected=expected)
    )


def _reference(sample: Sample, test: str, number: int) -> Sample:
    """The canonical solution as a sample of that number, which prints what `test` expects."""
    return dataclasses.replace(
        sample, sample=number, solution=sample.reference, plus_test="", reference="",
        test=test.replace(EXPECTED_OUTPUT, "?"), keeps_output=True,
    )  # fmt: skip


def setting_identity(config: EvaluatorConfig, *, timeout_s: float) -> str:
    """Hash (hex) of everything but the sample: the interpreter and its packages and data, the
    limits, how samples are isolated, and the code of this room.

    Raises ConfigError where ``config.python`` does not work.
    """
    limits = {k: v for k, v in to_json(config).items() if k not in _NOT_OF_THE_VERDICT}
    # No sample gets all of the machine's memory.
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits |= {"timeout_s": timeout_s, "machine_memory_bytes": machine_bytes}
    return _hash({"environment": environment_facts(config), "limits": limits})


def environment_facts(config: EvaluatorConfig) -> dict[str, Any]:
    """What runs the samples: version of Python, packages, data of NLTK, code of this room."""
    interpreter = describe_interpreter(config.python)
    return {
        "python": ".".join(map(str, interpreter.version)),
        "packages": interpreter.packages,
        "nltk_data": _nltk_data(interpreter.prefixes, tuple(data_paths())),
        "sandbox": _code(),
        "machine": os.uname().machine,
    }


def sample_identity(setting: str, sample: Sample) -> str:
    """Hash (hex) of one sample under the setting of that identity. Its number counts, for it
    seeds its random numbers."""
    tests = [sample.test, sample.plus_test, sample.reference]
    return _hash([setting, sample.task_id, sample.sample, sample.program, *tests])


def _hash(content: Any) -> str:
    # Programs may hold lone surrogates, which only this form of JSON can write.
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


@cache
def _nltk_data(prefixes: tuple[str, ...], named: tuple[str, ...]) -> list[str]:
    """Names and sizes of the files of NLTK's data beside the interpreter, or where named."""
    folders = [*(Path(prefix) / "nltk_data" for prefix in prefixes), *map(Path, named)]
    return sorted(
        f"{file.relative_to(folder)} {file.stat().st_size}"
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file()
    )


@cache
def _code() -> str:
    """Hash of what judges: the modules of this room and of the sandbox."""
    rooms = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted([*rooms.glob("evaluation/*.py"), *rooms.glob("sandbox/**/*.py")]):
        digest.update(f"{file.relative_to(rooms)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
