"""How much energy differed between runs of one configuration, for each apparatus of a store."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from codejoule.analysis.comparison import COMPARABLE, SHOWN, relevant_params, row_keys, superseded
from codejoule.statistics import ALPHA, RunVariance, pooled_run_variance, reference_variance

if TYPE_CHECKING:
    import pandas as pd

Apparatus = tuple[str, str, str]
"""Engine, source of energy, and model of the GPU, or the machine where the CPU was measured."""

_ENERGY = "metrics.energy_generation_j"


def apparatus(run: Mapping[Any, Any]) -> Apparatus:
    """What generated and metered a run, from a row of `load_runs`."""
    place = run.get(COMPARABLE["GPU"]) or run.get(COMPARABLE["machine"])
    found = (run.get(SHOWN["engine"]), run.get(COMPARABLE["energy source"]), place)
    engine, source, place = (str(text or "") for text in found)
    return engine, source, place


def run_variances(runs: "pd.DataFrame") -> dict[Apparatus, RunVariance]:
    """Pool the variance between repeats, for each apparatus that has repeats among `runs`.

    Repeats are runs of one configuration on the same tasks. Where something outside the
    configuration changed in between (other weights or library versions), the newest alone count.
    """
    if runs.empty or _ENERGY not in runs:
        return {}
    runs = runs[~superseded(runs) & (runs[_ENERGY] > 0)]
    groups: dict[Apparatus, list[list[float]]] = {}
    keys = row_keys(runs, [*relevant_params(runs), *COMPARABLE.values()])
    for _, same in runs.groupby(keys, sort=False):
        groups.setdefault(apparatus(same.iloc[0].to_dict()), []).append(same[_ENERGY].tolist())
    found = {own: pooled_run_variance(energies) for own, energies in groups.items()}
    return {own: variance for own, variance in found.items() if variance is not None}


def largest_variance(
    of: Iterable[Apparatus], measured: Mapping[Apparatus, RunVariance]
) -> RunVariance | None:
    """Variance with which runs of several apparatus are compared: the one that gives the widest
    interval.

    A small figure from two runs does not show a small variance.
    Of each the one that its repeats show, else the shipped reference of its engine; None where
    one is not codejoule's own, so that nothing is known.
    """
    from scipy import stats

    found = []
    for own in of:
        engine, source, _ = own
        if not engine or source in ("", "published"):
            return None
        found.append(measured.get(own) or reference_variance(engine, source))
    return max(found, key=lambda own: own.sd_log * stats.t.ppf(1 - ALPHA / 2, own.df))
