"""Every quantized configuration beside its unquantized baseline."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.analysis.artifacts import artifact
from codejoule.analysis.configuration import row_keys
from codejoule.analysis.families import short_names
from codejoule.analysis.findings import accuracy_sentence
from codejoule.analysis.resolution import agreement, read_samples
from codejoule.analysis.store import reading
from codejoule.config.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from mlflow.tracking import MlflowClient

    from codejoule.analysis.evidence import Evidence
    from codejoule.analysis.table import Table

_Run = tuple[str, str]
"""Id of a run, and where its artifacts are."""


def baselines(table: "pd.DataFrame", settings: "Sequence[str]") -> dict[int, int | None]:
    """The row that each quantized row is compared with.

    Parameters
    ----------
    table : pandas.DataFrame
        From `comparison_table`.
    settings : sequence of str
        Its columns that are settings.

    Returns
    -------
    dict of int to int or None
        For each row with a quantization the row with ``quant=none`` and all other settings
        equal; None where there is none.
    """
    others = [name for name in settings if name.partition(".")[0] != "quant"]
    keys = list(row_keys(table, others))
    unquantized = {keys[i]: i for i, quant in enumerate(table["quant"]) if quant == "none"}
    return {
        i: unquantized.get(keys[i]) for i, quant in enumerate(table["quant"]) if quant != "none"
    }


def baseline_notes(
    runs: "pd.DataFrame", evidence: "Evidence", accuracy: "Table", *, uri: str
) -> list[str]:
    """Say how the text and the pass@1 of each quantized configuration differ from its baseline's.

    Parameters
    ----------
    runs : pandas.DataFrame
        The runs that `evidence` was made of.
    evidence : Evidence
        Configurations of one group.
    accuracy : Table
        Its ``accuracy_pairs``.
    uri : str
        The store that holds the runs' ``samples.jsonl``.

    Returns
    -------
    list of str
        For each quantized row a sentence on the texts, of the first run of the row and of its
        baseline, and the sentence of the analysis on pass@1.
    """
    table = evidence.table
    names = short_names(table, evidence.settings)
    places = dict(zip(runs["run_id"], runs["artifact_uri"], strict=True))
    first = [(ids[0], places[ids[0]]) for ids in table["run_ids"]]
    said = {
        (row["configuration"], row["reference"]): accuracy_sentence(row)
        for row in accuracy.frame.to_dict("records")
        if row["factor"] == "quant"
    }
    notes = []
    with reading(uri) as client, tempfile.TemporaryDirectory() as scratch:
        for i, base in baselines(table, evidence.settings).items():
            if base is None:
                notes.append(f"{names[i]}: no run with quant=none and otherwise the same settings")
                continue
            notes.append(_text_note(client, names[i], (first[i], first[base]), Path(scratch)))
            notes.append(
                said.get(
                    (evidence.labels[i], evidence.labels[base]),
                    f"{names[i]}: pass@1 cannot be compared with none: no task was judged in both, "
                    "or they differ in more than one setting",
                )
            )
    return notes


def _text_note(client: "MlflowClient", name: str, runs: tuple[_Run, ...], scratch: Path) -> str:
    try:
        texts = [read_samples(_samples(client, run, scratch)) for run in runs]
        found = agreement(*texts)
    except (UserError, ValueError) as error:
        return f"{name}: its text cannot be compared with that of none: {error}"
    return f"{name} gives the same text as none on {found.same} of {found.tasks} tasks"


def _samples(client: "MlflowClient", run: _Run, scratch: Path) -> Path:
    name = "samples.jsonl"
    path = artifact(client, run_id=run[0], artifact_uri=run[1], name=name, scratch=scratch)
    if path is None:
        raise UserError(f"run {run[0]} has no artifact {name}")
    return path
