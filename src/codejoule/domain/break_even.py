"""After how many tasks a one-time cost is paid back."""

import math


def break_even_tasks(*, cost_j: float, before_j: float, after_j: float) -> float:
    """Tasks after which what was spent once has been saved.

    Parameters
    ----------
    cost_j : float
        Energy spent once, such as that of quantizing a model [J].
    before_j : float
        Energy per task without it [J].
    after_j : float
        Energy per task with it [J].

    Returns
    -------
    float
        ``cost_j / (before_j - after_j)``; infinite where a task does not take less than before.
    """
    saved_j = before_j - after_j
    return cost_j / saved_j if saved_j > 0 else math.inf
