"""What earlier runs of a store say of a sweep that has still to run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis import apparatus, load_runs, read_tasks
from codejoule.analysis.comparison import relevant_params, row_keys
from codejoule.config import UserError
from codejoule.config.relevance import flat, is_setting
from codejoule.config.schema import ExperimentConfig, TrackingConfig, TrackingName
from codejoule.config.typed import to_plain
from codejoule.domain import read_validity
from codejoule.domain.validity import UNMEASURED
from codejoule.statistics import RunVariance, reference_variance

if TYPE_CHECKING:
    import pandas as pd

NEWEST = 200
"""Runs that are looked at."""

FEW = 8
"""Runs whose tasks are read, to see how many change their verdict between configurations."""

_SIZE = ("repeat", "suite.limit", "suite.task_ids")
"""Settings in which a run may differ and still tell what a task takes."""


def store_of(tracking: TrackingConfig) -> str:
    """Address of the store that a sweep records in."""
    if tracking.name is TrackingName.server:
        return str(tracking.uri)
    return f"sqlite:///{tracking.folder.resolve()}/mlflow.db"


def on_device(gpu: str | None, host: str | None) -> str:
    """MLflow filter of the runs on a GPU, or on a host's CPU."""
    if gpu:
        return f"tags.`codejoule.gpu` = '{gpu}'"
    return f"tags.`codejoule.host` = '{host}' and tags.`codejoule.device` = 'cpu'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What earlier runs of one configuration took; means over them."""

    runs: int
    """How many there are."""
    per_task_s: float
    """Time of generation per task [s]."""
    per_task_j: float
    """Energy of generation per task [J]."""
    other_s: float
    """Time beside generation that does not grow with tasks [s]: loading."""
    per_task_other_s: float
    """That which does, per task [s]: judging."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Finished runs of one store on one device, whose energy is in no doubt but that of its source;
    the newest `NEWEST` of them."""

    frame: "pd.DataFrame | None"
    """As `load_runs` gives them; None where there are none."""
    uri: str
    """The store."""
    variances: Mapping[tuple[str, str], RunVariance]
    """How much energy differs between repeats, by engine and source of energy."""

    def variance(self, engine: str, source: str) -> RunVariance:
        """How much energy differs between runs: by repeats, else by the reference on file."""
        return self.variances.get((engine, source)) or reference_variance(engine, source)

    def rates(self, experiment: ExperimentConfig) -> Rates | None:
        """What runs with the same settings took; None where there are none."""
        if self.frame is None:
            return None
        plain = {key: _text(value) for key, value in flat(to_plain(experiment)).items()}
        asked = {
            f"params.{key}": value
            for key, value in plain.items()
            if value is not None and is_setting(key) and key not in _SIZE
        }
        same = [row for row in self.frame.to_dict("records") if _same(row, asked)]
        figures = [_figures(row) for row in same]
        known = np.array([own for own in figures if not any(map(math.isnan, own))])
        if not known.size:
            return None
        tasks, energy_j, generation_s, whole_s = known.T
        other_s, per_task_s = _line(tasks, np.maximum(0.0, whole_s - generation_s))
        return Rates(
            runs=len(known),
            per_task_s=float((generation_s / tasks).mean()),
            per_task_j=float((energy_j / tasks).mean()),
            other_s=other_s,
            per_task_other_s=per_task_s,
        )

    def discordance(self, suite: str) -> tuple[float, int] | None:
        """Median share of a suite's tasks whose verdict is another in another configuration, and of
        how many pairs; None where no two runs tell."""
        if self.frame is None:
            return None
        frame = self.frame[
            (self.frame["params.suite.name"] == suite)
            & (self.frame["tags.codejoule.weights"] != "random")
        ]
        sizes = {f"params.{key}" for key in _SIZE}
        settings = [column for column in relevant_params(frame) if column not in sizes]
        frame = frame[~row_keys(frame, settings).duplicated(keep="last")].tail(FEW)
        if len(frame) < 2:
            return None
        figures, _ = read_tasks(frame, uri=self.uri)
        shares = []
        for a, b in combinations(figures.passed, 2):
            judged = ~np.isnan(a) & ~np.isnan(b)
            if judged.any():
                shares.append(float((a[judged] != b[judged]).mean()))
        return (float(np.median(shares)), len(shares)) if shares else None


def read_history(uri: str, experiment: str, device: str) -> History:
    """The runs of a store that an MLflow filter `device` lets through; none where the store or the
    experiment is not there yet or does not answer, which is said by what is then not known."""
    where = f"attributes.status = 'FINISHED' and tags.`codejoule.kind` = 'run' and {device}"
    try:
        loaded = load_runs(uri, experiment, where=where, newest=NEWEST)
    except UserError:
        return History(frame=None, uri=uri, variances={})
    frame = loaded.frame
    found = {apparatus(row) for row in frame.to_dict("records")}
    variances = {own[:2]: loaded.variances[own] for own in found if own in loaded.variances}
    if (told := frame.get("tags.codejoule.validity")) is not None:
        frame = frame[[set(read_validity([text])) <= UNMEASURED for text in told]]
    frame = frame[frame["tags.codejoule.published"].isna()].reset_index(drop=True)
    return History(frame=None if frame.empty else frame, uri=uri, variances=variances)


def _same(row: Mapping[Any, Any], asked: Mapping[str, str]) -> bool:
    """Whether a run has all these settings; one that it does not record is its usual value."""
    return all(row.get(key) in (None, value) for key, value in asked.items())


def _figures(row: Mapping[Any, Any]) -> Sequence[float]:
    """Tasks, energy [J] and time [s] of generation and time of the whole run."""
    names = ("tasks", "energy_generation_j", "latency_s")
    values = [float(row.get(f"metrics.{name}", math.nan)) for name in names]
    whole_s = (float(row["ended_ms"]) - float(row["started_ms"])) / 1e3
    # One that was continued began and ended at moments that say nothing of its length.
    once = row.get("tags.codejoule.sessions") in (None, "1")
    return [*values, whole_s if once else math.nan]


def _line(tasks: NDArray[np.float64], times_s: NDArray[np.float64]) -> tuple[float, float]:
    """What a time has at no tasks, and more per task; all of it per task where runs of one size
    cannot tell loading from judging."""
    proportional = float(times_s.sum() / tasks.sum())
    if np.ptp(tasks) == 0:
        return 0.0, proportional
    slope, start = (float(value) for value in np.polyfit(tasks, times_s, 1))
    return (start, slope) if min(slope, start) >= 0 else (0.0, proportional)


def _text(value: object) -> str | None:
    """A setting as a run records it; None for one that is open."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
