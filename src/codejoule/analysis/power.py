"""Power over time of runs, from the first accounting window to the last."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codejoule.analysis.store import artifacts

if TYPE_CHECKING:
    import pandas as pd

_PAUSE_S = 10.0
"""Between two windows that lie further apart the run was interrupted, and went on later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerProfile:
    """Power of all devices in scope of one run; time begins with its first window."""

    run_id: str
    """The run."""
    edges_s: NDArray[np.float64]
    """Ends of equal parts of the time from the first window to the last [s], shape (n + 1,)."""
    power_w: NDArray[np.float64]
    """Mean power of each part [W], shape (n,): the area under it is that of the samples."""
    windows_s: NDArray[np.float64]
    """Opening and end of each window [s], shape (w, 2)."""
    sampled_j: float
    """Energy under the power samples inside the windows [J]."""
    energy_j: float
    """What the windows' own readings add up to [J]; NaN where one of them is not known."""


def power_profiles(
    runs: "pd.DataFrame", run_ids: Sequence[str], *, uri: str, points: int = 400
) -> list[PowerProfile]:
    """Read power over time of those of `run_ids` that have it.

    Parameters
    ----------
    runs : DataFrame
        From `load_runs`, of the store `uri`.
    run_ids : sequence of str
        The runs wanted. One without ``power.parquet`` or ``windows.parquet`` (runs of earlier
        versions lack the latter) has no profile.
    uri : str
        The store.
    points : int
        Parts into which the time of a run is divided.

    Returns
    -------
    list of PowerProfile
        In the order of `run_ids`. Where a run was interrupted, the pause is left out.
    """
    scopes = dict(zip(runs["run_id"], runs["tags.codejoule.energy_scope"], strict=True))
    with (
        artifacts(runs, "power.parquet", uri=uri) as power,
        artifacts(runs, "windows.parquet", uri=uri) as windows,
    ):
        found = [(run_id, power(run_id), windows(run_id)) for run_id in run_ids]
        profiles = [
            _profile(run_id, str(scopes[run_id]), own, opened, points)
            for run_id, own, opened in found
            if own is not None and opened is not None
        ]
    return [profile for profile in profiles if profile is not None]


def _profile(
    run_id: str, scope: str, power: Path, windows: Path, points: int
) -> PowerProfile | None:
    import pyarrow.parquet as pq

    opened = pq.read_table(windows).to_pandas().sort_values("start_s")
    samples = pq.read_table(power).to_pandas().sort_values("time_s")
    kinds = samples["device"].str.partition(":")[0]
    samples = samples[kinds.isin({"gpu": ["gpu"], "cpu": ["cpu", "dram"]}.get(scope, kinds))]
    if samples.empty or opened.empty:
        return None
    start_s = opened["start_s"].to_numpy(dtype=float)
    end_s = start_s + opened["latency_s"].to_numpy(dtype=float)
    # Where the run went on after a pause, its windows move up to those before.
    ended_s = np.maximum.accumulate(end_s)[:-1]
    paused = np.concatenate([[False], start_s[1:] - ended_s > _PAUSE_S])
    pauses_s = np.where(paused, start_s - np.concatenate([[0], ended_s]), 0)
    moved_s = np.cumsum(pauses_s)
    own_s = np.stack([start_s - moved_s, end_s - moved_s], axis=1) - start_s[0]
    edges_s = np.linspace(0, own_s.max(), points + 1)
    window = np.searchsorted(own_s[:, 0], edges_s, "right") - 1
    clock_s = edges_s + start_s[0] + moved_s[window]
    drawn_j, sampled_j = np.zeros(points), 0.0
    for device, own in samples.groupby("device"):
        energy_at = _Energy(own, holds=str(device).startswith("gpu"))
        pauses_j = np.cumsum(energy_at(start_s) - energy_at(start_s - pauses_s))
        drawn_j += np.diff(energy_at(clock_s) - pauses_j[window])
        sampled_j += float((energy_at(end_s) - energy_at(start_s)).sum())
    return PowerProfile(
        run_id=run_id,
        edges_s=edges_s,
        power_w=drawn_j / np.diff(edges_s),
        windows_s=own_s,
        sampled_j=sampled_j,
        energy_j=float(opened["energy_j"].sum(skipna=False)),
    )


class _Energy:
    """Energy of one device up to a moment, from its power samples.

    A sample of a GPU holds until the next; one of a CPU is the mean since the one before.
    """

    def __init__(self, samples: "pd.DataFrame", *, holds: bool) -> None:
        self._time_s = samples["time_s"].to_numpy(dtype=float)
        power_w = samples["power_w"].to_numpy(dtype=float)
        self._first_w, self._last_w = power_w[0], power_w[-1]
        between_w = power_w[:-1] if holds else power_w[1:]
        self._energy_j = np.concatenate([[0], np.cumsum(between_w * np.diff(self._time_s))])

    def __call__(self, moment_s: NDArray[np.float64]) -> NDArray[np.float64]:
        inside_j = np.interp(moment_s, self._time_s, self._energy_j)
        before_s = np.minimum(0, moment_s - self._time_s[0])
        after_s = np.maximum(0, moment_s - self._time_s[-1])
        return np.asarray(inside_j + before_s * self._first_w + after_s * self._last_w)
