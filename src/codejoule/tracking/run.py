"""One run while it is recorded."""

import json
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from codejoule.tracking.client import TAG_LENGTH, cut, explained

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput
    from mlflow.tracking import MlflowClient

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ended, in MLflow's words."""

_DIGEST_LENGTH = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """The tasks that a run answered, for MLflow's dataset column."""

    name: str
    """Name of the suite."""
    source: str
    """Where the tasks came from: a path, or ``hub:ID@COMMIT``."""
    checksum: str
    """SHA-256 (hex) over the tasks."""


class TrackedRun:
    """A run in the store. Its errors are `UserError`: the store is gone, full or read-only."""

    def __init__(self, client: "MlflowClient", *, uri: str, run_id: str) -> None:
        self.run_id = run_id
        self._client = client
        self._uri = uri

    def log(
        self,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        artifacts: Mapping[str, Path] | None = None,
        dataset: DatasetFacts | None = None,
    ) -> None:
        """Record what is known of the run. A metric that is NaN is undefined and left out; None and
        infinity raise ValueError, because absent must never become a number. `artifacts` maps the
        name in the store (folders allowed) to a local file or folder; FileNotFoundError where there
        is none."""
        values = defined_metrics(metrics or {})
        for name, path in (artifacts or {}).items():
            if not path.exists():
                raise FileNotFoundError(f"artifact {name}: there is no {path}")
        with explained(self._uri, f"record run {self.run_id}"):
            self._log_values(values, tags or {})
            if dataset is not None:
                self._client.log_inputs(self.run_id, [_dataset_input(dataset)])
            for name, path in (artifacts or {}).items():
                self._log_artifact(name, path)

    def finish(self, status: RunStatus) -> None:
        """End the run."""
        with explained(self._uri, f"end run {self.run_id}"):
            self._client.set_terminated(self.run_id, status)

    def _log_values(self, values: Mapping[str, float], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Metric, RunTag

        now_ms = time.time_ns() // 1_000_000
        self._client.log_batch(
            self.run_id,
            metrics=[Metric(name, value, now_ms, 0) for name, value in values.items()],
            tags=[RunTag(name, cut(value, TAG_LENGTH)) for name, value in tags.items()],
            synchronous=True,
        )

    def _log_artifact(self, name: str, path: Path) -> None:
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), name)
            return
        folder, _, base = name.rpartition("/")
        if path.name == base:
            self._client.log_artifact(self.run_id, str(path), folder or None)
            return
        # MLflow keeps the local file's name; a link gives it the name it shall have.
        with tempfile.TemporaryDirectory() as staging:
            link = Path(staging, base)
            link.symlink_to(path.absolute())
            self._client.log_artifact(self.run_id, str(link), folder or None)


def defined_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that have a value; ValueError for one that is None or infinite."""
    for name, value in metrics.items():
        if value is None or isinstance(value, bool) or math.isinf(value):
            raise ValueError(
                f"metric {name} is {value}: leave out what was not measured, it is not a number"
            )
    return {name: float(value) for name, value in metrics.items() if not math.isnan(value)}


def _dataset_input(facts: DatasetFacts) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if facts.source.startswith("hub:"):
        repository, _, commit = facts.source.removeprefix("hub:").partition("@")
        kind, source = "hugging_face", {"path": repository, "revision": commit}
    else:
        kind, source = "local", {"uri": facts.source}
    return DatasetInput(
        Dataset(
            name=facts.name,
            digest=facts.checksum[:_DIGEST_LENGTH],
            source_type=kind,
            source=json.dumps(source),
        ),
        [InputTag("mlflow.data.context", "evaluation")],
    )
