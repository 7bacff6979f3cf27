"""Power over time of single runs, thinned for drawing."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codejoule.analysis.artifacts import artifact
from codejoule.analysis.store import reading
from codejoule.analysis.table import Table

if TYPE_CHECKING:
    import pandas as pd


def power_table(
    runs: "pd.DataFrame", run_ids: Sequence[str], *, uri: str, points: int = 400
) -> Table:
    """Read ``power.parquet`` of some runs.

    Parameters
    ----------
    runs : pandas.DataFrame
        From `load_runs`; ``run_id`` and ``artifact_uri`` are used.
    run_ids : sequence of str
        Runs wanted; those without the artifact are left out.
    uri : str
        The store they come from.
    points : int
        Points per run and device: each is the mean power of an equal number of samples.

    Returns
    -------
    Table
        ``power``: ``run_id``, ``device``, ``time_s`` (from the first sample), ``power_w``.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    places = dict(zip(runs["run_id"], runs["artifact_uri"], strict=True))
    frames = []
    with reading(uri) as client, tempfile.TemporaryDirectory() as scratch:
        for run_id in run_ids:
            path = artifact(
                client, run_id=run_id, artifact_uri=places[run_id], name="power.parquet",
                scratch=Path(scratch),
            )  # fmt: skip
            if path is None:
                continue
            samples = pq.read_table(path).to_pandas()
            for device, own in samples.sort_values("time_s").groupby("device"):
                part = np.arange(len(own)) * points // max(points, len(own))
                means = own[["time_s", "power_w"]].groupby(part).mean()
                means["time_s"] -= samples["time_s"].min()
                frames.append(means.assign(run_id=run_id, device=str(device)))
    columns = ["run_id", "device", "time_s", "power_w"]
    frame = (
        pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    )
    return Table(name="power", title="Power over time", frame=frame)
