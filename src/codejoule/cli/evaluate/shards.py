"""Parts of one evaluation: what each leaves, and how ``--merge`` makes them one again."""

import dataclasses
import hashlib
import json
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from codejoule.cli.evaluate.report import Report, SuiteFacts
from codejoule.cli.evaluate.shard import Shard
from codejoule.config import ConfigError, write_whole
from codejoule.config.schema import EvaluatorConfig
from codejoule.domain import SCHEMA_VERSION, Verdict, from_json, to_json
from codejoule.evaluation import GroundTruth, Sample
from codejoule.sandbox import SandboxFacts

SHARD = "shard.json"
"""What a part of an evaluation leaves for those that merge it."""


def samples_checksum(samples: Sequence[Sample]) -> str:
    """SHA-256 (hex) over all samples of a submission: those of every part are the same."""
    digest = hashlib.sha256()
    for sample in samples:
        facts = [sample.task_id, sample.sample, sample.solution]
        digest.update(json.dumps(facts).encode("ascii"))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of an evaluation, as its folder has it."""

    shard: Shard
    """Which part it is."""
    samples: int
    """How many samples all parts have together."""
    checksum: str
    """SHA-256 of all of them."""
    known: Mapping[str, str]
    """Model, split and subset, as far as they are known."""
    truth_asked: bool
    """Whether the canonical solutions of the whole suite were to be judged."""
    report: Report
    """Its verdicts, and how they came about."""
    solutions: Sequence[str]
    """The programs."""

    def write(self, folder: Path) -> None:
        """Leave it in `folder`."""
        report = self.report
        content = {
            "schema_version": SCHEMA_VERSION,
            "shard": str(self.shard),
            "samples": self.samples,
            "samples_sha256": self.checksum,
            "known": dict(self.known),
            "truth_asked": self.truth_asked,
            "suite": to_json(report.suite),
            "evaluator": to_json(report.config),
            "timeout_s": report.timeout_s,
            "environment": dict(report.environment),
            "kept": report.kept,
            "wall_s": report.wall_s,
            "sandbox": None if report.sandbox is None else to_json(report.sandbox),
            "truth": None if report.truth is None else to_json(report.truth),
            "verdicts": [to_json(verdict) for verdict in report.verdicts],
            "solutions": list(self.solutions),
        }
        write_whole(folder / SHARD, json.dumps(content) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `write` left. Raises ConfigError for a folder that has none of this version."""
        file = folder / SHARD
        if not file.is_file():
            raise ConfigError(
                f"{folder}: has no {SHARD}; it is the --out of a finished `codejoule evaluate "
                "--samples FILE --shard I/N`"
            )
        try:
            row = json.loads(file.read_text(encoding="utf-8"))
            if row["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema_version {row['schema_version']}")
            sandbox, truth = row["sandbox"], row["truth"]
            report = Report(
                suite=from_json(SuiteFacts, row["suite"]),
                verdicts=[from_json(Verdict, verdict) for verdict in row["verdicts"]],
                kept=row["kept"],
                wall_s=row["wall_s"],
                timeout_s=row["timeout_s"],
                config=from_json(EvaluatorConfig, row["evaluator"]),
                environment=row["environment"],
                sandbox=None if sandbox is None else from_json(SandboxFacts, sandbox),
                truth=None if truth is None else from_json(GroundTruth, truth),
                agreement=None,
            )
            return cls(
                shard=Shard.parse(row["shard"]),
                samples=row["samples"],
                checksum=row["samples_sha256"],
                known=row["known"],
                truth_asked=row["truth_asked"],
                report=report,
                solutions=row["solutions"],
            )
        except (ValueError, KeyError, TypeError, ArgumentTypeError) as error:
            raise ConfigError(
                f"{file}: not of this version of codejoule ({type(error).__name__}: {error}); "
                "judge this part again"
            ) from error

    def belongs(self) -> dict[str, Any]:
        """What all parts of one evaluation have in common."""
        report = self.report
        config = to_json(report.config)
        for name in ("workers", "python"):  # they change no verdict: the environment is compared
            del config[name]
        return {
            "number of parts": self.shard.count,
            "samples (other files, or another order)": [self.samples, self.checksum],
            "suite": report.suite.name,
            "suite's checksum": report.suite.checksum,
            "model, split and subset": self.known,
            "--ground-truth": self.truth_asked,
            "time limit": report.timeout_s,
            "settings of the evaluator": config,
            "environment (Python, packages, data, codejoule)": report.environment,
        }


def merge_parts(folders: Sequence[Path]) -> Part:
    """The whole that the parts in `folders` are parts of. Raises ConfigError where they are not of
    one evaluation, or one is missing or there twice."""
    parts = [Part.read(folder) for folder in folders]
    first = parts[0]
    for folder, part in zip(folders[1:], parts[1:], strict=True):
        theirs, ours = part.belongs(), first.belongs()
        if differing := [name for name in ours if theirs[name] != ours[name]]:
            raise ConfigError(
                f"{folder} and {folders[0]} are no parts of one evaluation: they differ in "
                f"{'; '.join(differing)}"
            )
    places: dict[int, Path] = {}
    for folder, part in zip(folders, parts, strict=True):
        if (other := places.get(part.shard.number)) is not None:
            raise ConfigError(f"{folder} and {other} are both part {part.shard}: give one of them")
        places[part.shard.number] = folder
    missing = [str(i) for i in range(1, first.shard.count + 1) if i not in places]
    if missing:
        raise ConfigError(
            f"of {first.shard.count} parts {len(missing)} are missing: --shard "
            f"{', '.join(f'{i}/{first.shard.count}' for i in missing[:20])}"
        )
    verdicts: list[Verdict | None] = [None] * first.samples
    solutions = [""] * first.samples
    for folder, part in zip(folders, parts, strict=True):
        places_of = slice(part.shard.number - 1, None, part.shard.count)
        try:
            # It checks how many there are.
            verdicts[places_of] = part.report.verdicts
            solutions[places_of] = part.solutions
        except ValueError as error:
            raise ConfigError(f"{folder / SHARD}: is not whole; judge this part again") from error
    reports = [part.report for part in parts]
    report = dataclasses.replace(
        first.report,
        verdicts=[verdict for verdict in verdicts if verdict is not None],
        kept=sum(report.kept for report in reports),
        wall_s=max(report.wall_s for report in reports),
        sandbox=next((r.sandbox for r in reports if r.sandbox is not None), None),
        truth=_truth([report.truth for report in reports]),
    )
    return dataclasses.replace(
        first, shard=Shard(number=1, count=1), report=report, solutions=solutions
    )


def _truth(truths: Sequence[GroundTruth | None]) -> GroundTruth | None:
    """What all parts together know of the canonical solutions; None where one does not."""
    known = [truth for truth in truths if truth is not None]
    if len(known) < len(truths):
        return None
    by_task = {verdict.task_id: verdict for truth in known for verdict in truth.verdicts}
    return GroundTruth(verdicts=tuple(by_task.values()))
