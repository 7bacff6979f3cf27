"""What every test returns."""

from dataclasses import dataclass

ALPHA = 0.05
"""Level of every test and, as ``1 - ALPHA``, confidence of every interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One hypothesis test. NaN where the test is undefined for its data."""

    statistic: float
    """The test's statistic."""
    p_value: float
    """Two-sided unless the test says otherwise."""
    n: int
    """Observations, or blocks of a paired test."""
    df: tuple[float, ...] = ()
    """Degrees of freedom, where the statistic has some."""
