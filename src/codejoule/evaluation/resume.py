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
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

from codejoule.config import UserError, full_disk, user_cache
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import EXPECTED_OUTPUT, Status, Verdict, from_json, to_json
from codejoule.evaluation.judge import judge
from codejoule.evaluation.ruling import KEPT_OUTPUT
from codejoule.evaluation.sample import Sample
from codejoule.sandbox import SandboxFacts, describe_interpreter
from codejoule.sandbox.launch import data_paths

_LOGGER = logging.getLogger(__name__)

_NOT_OF_THE_VERDICT = (
    "name", "workers", "python", "timeout_s", "ground_truth", "spread", "address", "shard_samples",
)  # fmt: skip
"""Settings that change no verdict, or whose meaning is in an identity already."""


class VerdictLog:
    """A JSONL file of verdicts, ``{"key": identity, "verdict": {...}}`` per line.

    A verdict that `add` has returned from outlives this process, however it ends. What cannot
    be read (half a line, or one by another version) is no verdict: its sample is judged anew.
    Several processes may add to one file, each line being written at once.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        """Open `path`, made where missing; with `fresh` what it holds is not looked at."""
        self.path = path
        self._verdicts: dict[str, Verdict] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            self._file = os.open(path, flags, 0o644)
            content = path.read_bytes()
            if content and not content.endswith(b"\n"):
                # A writer was killed in mid-line; what follows must not become part of it.
                os.write(self._file, b"\n")
        except OSError as error:
            raise self._unwritable(error) from error
        if not fresh:
            self._read(content)

    def _read(self, content: bytes) -> None:
        unread = 0
        for line in filter(bytes.strip, content.split(b"\n")):
            try:
                row: dict[str, Any] = json.loads(line)
                self._verdicts[row["key"]] = from_json(Verdict, row["verdict"])
            except (ValueError, KeyError, TypeError):
                unread += 1
        if unread:
            _LOGGER.warning("%s: %d lines are no verdicts; left out", self.path, unread)

    def find(self, key: str) -> Verdict | None:
        """The verdict under `key`, the last one added; None where there is none."""
        return self._verdicts.get(key)

    def add(self, key: str, verdict: Verdict) -> None:
        """Keep `verdict` under `key`; raises UserError where the disk does not take it."""
        line = json.dumps({"key": key, "verdict": to_json(verdict)}).encode("ascii") + b"\n"
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._unwritable(error) from error
        self._verdicts[key] = verdict

    def _unwritable(self, error: OSError) -> UserError:
        why = full_disk(error, self.path) or error.strerror
        return UserError(f"{self.path}: cannot be written: {why}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


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
) -> list[Verdict]:
    """As `judge`, but a verdict that `log` holds under the same program, tests, limits and
    environment is kept, and each new one is on disk before `on_verdict` hears of it, unless
    `keeps` says no: then the sample is judged again by the next call, as one is that could not
    be judged. `on_kept` hears at the start which were kept."""
    setting = setting_identity(config, timeout_s=timeout_s)
    keys = {(sample.task_id, sample.sample): sample_identity(setting, sample) for sample in samples}
    kept = [verdict for key in keys.values() if (verdict := log.find(key)) is not None]
    on_kept(kept)

    def note(verdict: Verdict) -> None:
        if keeps(verdict):
            log.add(keys[verdict.task_id, verdict.sample], verdict)
        on_verdict(verdict)

    missing = [s for s in samples if log.find(keys[s.task_id, s.sample]) is None]
    new = judge(
        with_expected_outputs(missing, config=config, timeout_s=timeout_s),
        config=config,
        timeout_s=timeout_s,
        on_start=on_start,
        on_verdict=note,
    )
    known = {(verdict.task_id, verdict.sample): verdict for verdict in (*kept, *new)}
    return [known[sample.task_id, sample.sample] for sample in samples]


def with_expected_outputs(
    samples: Sequence[Sample], *, config: EvaluatorConfig, timeout_s: float
) -> list[Sample]:
    """`samples`, those whose tests leave it open with what the canonical solutions return.

    They are run by themselves, under the same limits and in the same environment as the samples,
    once: the outputs stay in the user's cache, under all that they depend on. A sample never
    shares a process with the canonical solution, and gets its outputs only as the tests hold
    them. Raises as `judge` does.
    """
    references = {
        (sample.task_id, part): ((sample.reference, test), _reference(sample, test, part))
        for sample in samples
        for part, test in enumerate((sample.test, sample.plus_test))
        if EXPECTED_OUTPUT in test
    }
    if not references:
        return list(samples)
    path = user_cache() / "expected_outputs" / f"{setting_identity(config, timeout_s=timeout_s)}"

    def outputs(verdict: Verdict) -> list[str] | None:
        """What it printed for each place of its test; None where it did not come to that, or
        printed more than is kept."""
        (_, test), _ = references[verdict.task_id, verdict.sample]
        printed = verdict.details.get(KEPT_OUTPUT, "")
        told = re.findall(r"^output (#?-?[0-9a-f]+)$", printed, re.MULTILINE)
        return told if len(told) == test.count(EXPECTED_OUTPUT) else None

    with VerdictLog(path.with_suffix(".jsonl")) as log:
        verdicts = judge_resuming(
            [one for _, one in references.values()],
            log,
            config=config,
            timeout_s=timeout_s,
            on_kept=lambda kept: _LOGGER.info(
                "asking canonical solutions for %d sets of outputs", len(references) - len(kept)
            ),
            keeps=lambda verdict: outputs(verdict) is not None,
        )
    expected = {}
    for verdict in verdicts:
        which, _ = references[verdict.task_id, verdict.sample]
        expected[which] = outputs(verdict)
        if expected[which] is None:
            passed = verdict.status is Status.passed
            _LOGGER.warning(
                "%s: its canonical solution does not tell what its tests expect (%s), so that no "
                "sample of it can be judged here",
                verdict.task_id, "it is too much" if passed else verdict.reason,
            )  # fmt: skip
    return [dataclasses.replace(sample, expected=expected) for sample in samples]


def _reference(sample: Sample, test: str, part: int) -> Sample:
    """The canonical solution as a sample that prints what `test` expects, the first or the
    further tests."""
    return dataclasses.replace(
        sample, sample=part, solution=sample.reference, plus_test="", reference="",
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
