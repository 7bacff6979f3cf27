"""Waiting for the GPUs to cool down before a job, and for power to settle."""

import logging
from collections.abc import Callable
from time import perf_counter, sleep

from codejoule.config import ConfigError
from codejoule.domain import Cooling

logger = logging.getLogger(__name__)

STEP_S = 2.0
"""Power is compared between spans of this length."""

LOOK_S = 0.5
"""How often the temperature is looked at."""


def cool_down(
    *,
    longest_s: float,
    wanted_c: float | None,
    observed_w: Callable[[float], float],
    temperature_c: Callable[[], float | None],
    tolerance: float,
) -> Cooling:
    """Wait until every GPU is at or below `wanted_c`, or, where that is None, until power has
    settled; after `longest_s` go on with a logged warning. `observed_w` watches power for some
    seconds [W], `tolerance` is that of `settle`. ConfigError where a temperature is asked for and
    the GPUs give none."""
    began_s, start_c = perf_counter(), temperature_c()
    if wanted_c is None:
        *_, reached = settle(observed_w, longest_s=longest_s, step_s=STEP_S, tolerance=tolerance)
    else:
        if start_c is None:
            raise ConfigError(
                f"meter.cooldown_temperature_c={wanted_c:g}: the driver gives no "
                "temperature of a GPU in use; leave it null, to wait until power has settled"
            )
        while True:
            now_c = temperature_c()
            reached = now_c is not None and now_c <= wanted_c
            left_s = began_s + longest_s - perf_counter()
            if reached or left_s <= 0:
                break
            sleep(min(LOOK_S, left_s))
    cooling = Cooling(
        waited_s=perf_counter() - began_s,
        reached=reached,
        temperature_start_c=start_c,
        temperature_end_c=temperature_c(),
    )
    if not reached:
        logger.warning(
            "the GPUs have not cooled down in meter.cooldown_s=%g s (%s degrees Celsius now): the "
            "run starts as warm as that. Raise meter.cooldown_s%s",
            longest_s,
            cooling.temperature_end_c,
            "" if wanted_c is None else " or meter.cooldown_temperature_c",
        )
    return cooling


def settle(
    observed_w: Callable[[float], float], *, longest_s: float, step_s: float, tolerance: float
) -> tuple[float, float, bool]:
    """Watch power until two spans of `step_s` in a row differ by less than `tolerance`, a share.
    The power of the last two spans [W], and whether they did within `longest_s`."""
    deadline_s = perf_counter() + longest_s
    step_s = min(step_s, longest_s / 2)
    last_w = observed_w(step_s)
    while True:
        power_w = observed_w(step_s)
        settled = abs(power_w - last_w) <= tolerance * power_w
        if settled or perf_counter() >= deadline_s:
            return last_w, power_w, settled
        last_w = power_w
