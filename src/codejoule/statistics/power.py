"""How small a difference in pass@1 a number of tasks resolves."""

import numpy as np
from numpy.typing import NDArray

from codejoule.statistics.result import ALPHA

_LEAST = 1e-9
"""Probability below which a number of discordant tasks is left out of account."""


def mcnemar_power(
    tasks: int, difference: float, *, discordance: float, alpha: float = ALPHA
) -> float:
    r"""Probability that McNemar's exact test resolves a difference in pass@1.

    Parameters
    ----------
    tasks : int
        Tasks, each with one verdict under both configurations.
    difference : float
        True difference in pass@1, in [0, 1].
    discordance : float
        Share of tasks whose verdicts differ, in [0, 1]; `difference` where that is larger.
    alpha : float
        Level of the two-sided test.

    Returns
    -------
    float
        The power.

    Notes
    -----
    With discordance :math:`\psi` the number of discordant tasks is binomial, :math:`m \sim B(n,
    \psi)`, and of these :math:`B(m, (1 + \delta/\psi)/2)` go one way. The test rejects where
    twice the smaller tail of :math:`B(m, 1/2)` is at most `alpha`; the power is the mean over
    :math:`m`. Exact tests are careful: at the level itself theirs is lower.

    References
    ----------
    Connett, Smith and McHugh (1987), Statistics in Medicine 6, 537-544.
    """
    from scipy.stats import binom

    psi = max(discordance, difference)
    if psi <= 0:
        return 0.0
    chances: NDArray[np.float64] = binom.pmf(np.arange(tasks + 1), tasks, psi)
    m = np.flatnonzero(chances > _LEAST)
    # The most on the smaller side with which the test still rejects; -1 where none does.
    most = binom.ppf(alpha / 2, m, 0.5)
    most = np.where(2 * binom.cdf(most, m, 0.5) <= alpha, most, most - 1)
    share = (1 + difference / psi) / 2
    rejects = binom.cdf(most, m, 1 - share) + binom.cdf(most, m, share)
    return float((chances[m] * np.minimum(rejects, 1.0)).sum())


def smallest_difference(
    tasks: int, *, discordance: float, power: float = 0.8, alpha: float = ALPHA
) -> float | None:
    """Find the smallest difference in pass@1 that is resolved with a given power.

    Parameters
    ----------
    tasks : int
        Tasks, each with one verdict under both configurations.
    discordance : float
        Share of tasks whose verdicts differ, whichever way.
    power : float
        Probability of resolving it.
    alpha : float
        Level of the two-sided test.

    Returns
    -------
    float or None
        In (0, 1]; None where so few tasks resolve no difference at all.
    """
    from scipy.optimize import brentq

    def missing(difference: float) -> float:
        return mcnemar_power(tasks, difference, discordance=discordance, alpha=alpha) - power

    if missing(1.0) < 0:
        return None
    return float(brentq(missing, 0.0, 1.0, xtol=1e-4))
