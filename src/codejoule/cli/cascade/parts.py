"""What the shown and the hidden tests say of the programs of a run."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codejoule.config import UserError
from codejoule.config.schema import ExperimentConfig, TrackingConfig
from codejoule.domain import JudgedSample, Status, Suite, TaskRecord
from codejoule.evaluation import Sample, SampleRow, setting_identity, with_python
from codejoule.experiment.evaluation_stage import Bench, judge_missing
from codejoule.experiment.records import read_judgement
from codejoule.experiment.run import journal_folder, run_name
from codejoule.tracking import Journal

_Verdicts = Mapping[tuple[str, int], JudgedSample]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The samples of one task in one run, by the two parts of its tests: means over samples."""

    samples: int
    """Samples."""
    accepted: float
    """Share that passes the shown tests; 1 where the task has none."""
    solved: float
    """Share that passes the hidden tests."""
    accepted_solved: float
    """Share that passes both."""
    judging_j: float
    """Energy of judging one by the shown tests [J]; NaN where the counter did not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judges the programs of runs by the parts of their suite's tests, and keeps the verdicts
    beside the store: a program is judged once."""

    experiment: ExperimentConfig
    """The configuration of a run, with `suite.shown_tests`; its evaluator says how it is judged."""
    suite: Suite
    """The tasks, their tests in two parts."""
    tracking: TrackingConfig
    """The store that the verdicts lie beside."""

    def parts(
        self, run_id: str, records: Sequence[TaskRecord], rows: Sequence[SampleRow], *, split: bool
    ) -> dict[str, Parts]:
        """By task. `records` and `rows` are of the same samples; `split` says whether the verdicts
        that the run has are by the hidden tests alone. Raises `UserError` for a sample that cannot
        be judged here."""
        tasks = {task.task_id: task for task in self.suite.tasks}
        programs = [
            (tasks[record.task_id], row.program_after(""), record.sample)
            for record, row in zip(records, rows, strict=True)
        ]
        shown = self._judge(
            run_id, [Sample.shown_part_of(t, p, sample=s) for t, p, s in programs if t.shown_test]
        )
        if split and all(record.verdict is not None for record in records):
            solved = {(r.task_id, r.sample): r.verdict == Status.passed.value for r in records}
        else:
            hidden = self._judge(run_id, [Sample.of(t, p, sample=s) for t, p, s in programs])
            solved = {
                key: verdict.of_base_tests().status is Status.passed
                for key, verdict in hidden.items()
            }
        return {
            task.task_id: _parts([shown.get(key) for key in keys], [solved[key] for key in keys])
            for task in self.suite.tasks
            if (keys := [(t.task_id, s) for t, _, s in programs if t is task])
        }

    def _judge(self, run_id: str, samples: Sequence[Sample]) -> _Verdicts:
        if not samples:
            return {}
        evaluator = with_python(self.experiment.evaluator, self.suite.tasks)
        bench = Bench(
            name=run_name(self.experiment),
            tasks=self.suite.tasks,
            evaluator=dataclasses.replace(evaluator, ground_truth=False),
            meter=self.experiment.meter,
            timeout_s=evaluator.timeout_s or self.suite.timeout_s,
        )
        with Journal(self._folder(run_id, samples, bench)) as journal:
            judge_missing(samples, journal, bench)
            verdicts = read_judgement(journal).verdicts
        unjudged = [key for key, v in verdicts.items() if v.status is Status.unjudged]
        if unjudged:
            raise UserError(
                f"run {run_id}: {len(unjudged)} samples could not be judged here, for this machine "
                "has too little memory for them; judge them on a larger one"
            )
        return verdicts

    def _folder(self, run_id: str, samples: Sequence[Sample], bench: Bench) -> Path:
        """Where the verdicts lie that these tests give in this setting."""
        setting = setting_identity(bench.evaluator, timeout_s=bench.timeout_s)
        tests = [(sample.task_id, sample.test, sample.plus_test) for sample in samples]
        key = hashlib.sha256(json.dumps([setting, tests]).encode()).hexdigest()[:16]
        return journal_folder(self.tracking, f"parts-{run_id}-{key}")


def _parts(shown: Sequence[JudgedSample | None], solved: Sequence[bool]) -> Parts:
    accepted = [one is None or one.status is Status.passed for one in shown]
    energies_j = [0.0 if one is None else one.energy_j for one in shown]
    return Parts(
        samples=len(shown),
        accepted=float(np.mean(accepted)),
        solved=float(np.mean(solved)),
        accepted_solved=float(np.mean(np.logical_and(accepted, solved))),
        judging_j=float(np.mean([np.nan if j is None else j for j in energies_j])),
    )
