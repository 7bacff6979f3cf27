"""Every quantized row of a table beside its unquantized baseline."""

import tempfile
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.analysis.artifacts import artifact
from codejoule.analysis.configuration import relevant_params, row_keys
from codejoule.analysis.resolution import (
    agreement,
    paired_outcome,
    read_samples,
    resolution_note,
)
from codejoule.analysis.store import reading
from codejoule.config.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

_PASS = "pass"
_Run = tuple[str, str]
"""Id of a run, and where its artifacts are."""


def baseline_notes(runs: "pd.DataFrame", table: "pd.DataFrame", *, uri: str) -> list[str]:
    """Say for each quantized configuration what the suite can tell of its baseline.

    Parameters
    ----------
    runs : pandas.DataFrame
        The runs that `table` was made of.
    table : pandas.DataFrame
        From `comparison_table`.
    uri : str
        The store that holds the runs' ``tasks.parquet`` and ``samples.jsonl``.

    Returns
    -------
    list of str
        One sentence per quantized row, from the first run of the row and of its baseline:
        the row that has ``quant=none`` and all other settings equal.
    """
    rows = table.to_dict("records")
    quantized = [row for row in rows if row["quant"] != "none"]
    if not quantized:
        return []
    keys = baseline_keys(runs)
    places = dict(zip(runs["run_id"], runs["artifact_uri"], strict=True))
    unquantized = {keys[r["run_ids"][0]]: r for r in rows if r["quant"] == "none"}
    notes = []
    with reading(uri) as client, tempfile.TemporaryDirectory() as scratch:
        for row in quantized:
            name = row_name(row, table)
            run_id = row["run_ids"][0]
            base = unquantized.get(keys[run_id])
            if base is None:
                notes.append(f"{name}: no run with quant=none and otherwise the same settings")
                continue
            try:
                pair = tuple((r, places[r]) for r in (run_id, base["run_ids"][0]))
                notes.append(_note(client, name, pair, Path(scratch)))
            except (UserError, ValueError) as error:
                notes.append(f"{name}: cannot be compared with none: {error}")
    return notes


def row_name(row: Mapping[Hashable, object], table: "pd.DataFrame") -> str:
    """A row of `table` in a sentence, such as ``gptq4 b8``; with its model if there are several."""
    name = f"{row['quant']} b{row['batch']}"
    return f"{row['model']} {name}" if table["model"].nunique() > 1 else name


def baseline_keys(runs: "pd.DataFrame") -> dict[str, str]:
    """A text per run id that is equal where all but the quantization is."""
    columns = [c for c in relevant_params(runs) if not c.startswith("params.quant.")]
    return dict(zip(runs["run_id"], row_keys(runs, columns), strict=True))


def _note(client: "MlflowClient", name: str, runs: tuple[_Run, ...], scratch: Path) -> str:
    own, base = (_passed(client, run, scratch) for run in runs)
    texts = [read_samples(_fetch(client, run, "samples.jsonl", scratch)) for run in runs]
    outcome = paired_outcome(own, base)
    return resolution_note(
        name=name,
        baseline="none",
        outcome=outcome,
        agreement=agreement(*texts),
        pass_at_1_change=(sum(own.values()) - sum(base.values())) / len(own),
        samples_per_task=len(own) // outcome.tasks,
    )


def _passed(client: "MlflowClient", run: _Run, scratch: Path) -> dict[tuple[str, int], bool]:
    import pyarrow.parquet as pq

    path = _fetch(client, run, "tasks.parquet", scratch)
    table = pq.read_table(path, columns=["task_id", "sample", "verdict"])
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    verdicts = {(task, sample): verdict for task, sample, verdict in rows}
    if any(verdict is None for verdict in verdicts.values()):
        raise UserError("its samples were not judged")
    return {key: verdict == _PASS for key, verdict in verdicts.items()}


def _fetch(client: "MlflowClient", run: _Run, name: str, scratch: Path) -> Path:
    path = artifact(client, run_id=run[0], artifact_uri=run[1], name=name, scratch=scratch)
    if path is None:
        raise UserError(f"run {run[0]} has no artifact {name}")
    return path
