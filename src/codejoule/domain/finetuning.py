"""The figures of training an adapter."""

import math
from collections.abc import Sequence

from codejoule.domain.energy import EnergyReading

ENDS_SHARE = 0.1
"""Share of the steps whose mean loss is the first, or the last."""


def finetune_metrics(
    readings: Sequence[EnergyReading],
    whole: EnergyReading,
    losses: Sequence[float],
    *,
    tokens: int,
    learned_tokens: int,
    positions: int,
) -> dict[str, float]:
    """Compute the metrics of training, from its windows.

    Parameters
    ----------
    readings : sequence of EnergyReading
        The windows of all steps, in order.
    whole : EnergyReading
        A window around all of them.
    losses : sequence of float
        Mean cross-entropy per counted token in each step [nat].
    tokens, learned_tokens, positions : int
        Tokens of the texts, those that the loss counts, and positions computed, in all steps.

    Returns
    -------
    dict of str to float
        Metric by name; one whose ingredient was not measured is absent.

    Notes
    -----
    ``energy_finetune_j`` is the sum over the windows of steps, and ``energy_finetune_windows_rel``
    that sum over the window around all of them, minus 1: by the ledger of a GPU's counter 0, for
    windows in a row share their edges. ``energy_per_trained_token_j`` and
    ``throughput_trained_tokens_per_s`` are over ``trained_tokens``, padding not counted.
    ``loss_first`` and ``loss_last`` are means over the first and the last tenth of the steps.
    """
    energy_j = sum(reading.energy_j for reading in readings)
    time_s = sum(reading.latency_s for reading in readings)
    ends = max(1, round(ENDS_SHARE * len(losses)))
    net_j = [reading.energy_net_j for reading in readings if reading.energy_net_j is not None]
    stated_j = [r.uncertainty_j for r in readings if r.uncertainty_j is not None]
    metrics = {
        "energy_finetune_j": energy_j,
        "energy_finetune_windows_rel": energy_j / whole.energy_j - 1,
        "energy_per_trained_token_j": energy_j / tokens,
        "finetune_s": time_s,
        "throughput_trained_tokens_per_s": tokens / time_s,
        "trained_tokens": tokens,
        "learned_tokens": learned_tokens,
        "padding_share": 1 - tokens / positions,
        "finetune_steps": len(losses),
        "finetune_windows": len(readings),
        "loss_first": sum(losses[:ends]) / ends,
        "loss_last": sum(losses[-ends:]) / ends,
        "mean_power_w": energy_j / time_s,
    }
    if len(net_j) == len(readings):
        metrics["energy_finetune_net_j"] = sum(net_j)
    if len(stated_j) == len(readings):
        metrics["energy_finetune_uncertainty_j"] = math.hypot(*stated_j)
    return {name: float(value) for name, value in metrics.items() if not math.isnan(value)}
