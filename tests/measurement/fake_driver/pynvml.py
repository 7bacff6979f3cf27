"""A driver for the sampler's process: cards whose power alternates by the monotonic clock.

The environment variable FAKE_CARD (JSON) says what goes wrong and when, in seconds after start;
its key ``cards`` says so of single cards, by UUID.
"""

import json
import os
import time
from types import SimpleNamespace

NVML_SUCCESS = 0
NVML_FI_DEV_POWER_INSTANT = 186
NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
START_S = time.monotonic()
SETTING = json.loads(os.environ.get("FAKE_CARD", "{}"))
TICK_S = 0.05


class NVMLError(Exception):
    pass


def of(handle):
    return SETTING | SETTING.get("cards", {}).get(handle, {})


def power_w(now_s):
    """500 W in every second half second of the monotonic clock, else 100 W."""
    return 500.0 if now_s % 1.0 >= 0.5 else 100.0


def energy_j(now_s, setting):
    if "steady_w" in setting:
        return setting["steady_w"] * now_s
    seconds, rest = divmod(now_s, 1.0)
    return 300.0 * seconds + 100.0 * rest + 400.0 * max(0.0, rest - 0.5)


def nvmlInit():
    if "no_driver" in SETTING:
        raise NVMLError("Driver Not Loaded")


def nvmlDeviceGetHandleByUUID(uuid):
    return uuid


def nvmlDeviceGetTotalEnergyConsumption(handle):
    setting = of(handle)
    time.sleep(0.002)
    now_s = time.monotonic()
    time.sleep(0.001)
    if now_s - START_S > setting.get("dies_after_s", 1e9):
        os._exit(7)
    if now_s - START_S > setting.get("lost_after_s", 1e9):
        raise NVMLError("GPU is lost")
    if now_s - START_S > setting.get("hangs_after_s", 1e9):
        time.sleep(3600)
    if now_s - START_S > setting.get("still_after_s", 1e9):
        now_s = START_S + setting["still_after_s"]
    value_j = energy_j((now_s - 0.011) // TICK_S * TICK_S, setting) + 1e4
    value_j -= energy_j(START_S, setting)
    if now_s - START_S > setting.get("reset_after_s", 1e9):
        value_j -= 9e3
    if now_s - START_S > setting.get("jump_after_s", 1e9):
        value_j += 1e6
    return int(value_j * 1e3)


def nvmlDeviceGetFieldValues(handle, fields):
    now_w = of(handle).get("steady_w") or power_w(time.monotonic())
    value = SimpleNamespace(uiVal=int(now_w * 1e3))
    return [SimpleNamespace(nvmlReturn=NVML_SUCCESS, value=value)]


def nvmlDeviceGetPowerUsage(handle):
    raise NVMLError("Not Supported")


def nvmlDeviceGetClockInfo(handle, kind):
    return 1980


def nvmlDeviceGetTemperature(handle, kind):
    setting = of(handle)
    elapsed_s = time.monotonic() - START_S
    return int(setting.get("temperature_c", 40) - setting.get("cools_c_per_s", 0) * elapsed_s)


def nvmlDeviceGetCurrentClocksThrottleReasons(handle):
    """Always at its power limit (4), and now and then too hot as well (0x40)."""
    from_s, to_s = of(handle).get("hot_s", (1e9, 1e9))
    return 4 | (0x40 if from_s <= time.monotonic() - START_S < to_s else 0)


def nvmlDeviceGetUtilizationRates(handle):
    return SimpleNamespace(gpu=100)


def nvmlDeviceGetComputeRunningProcesses(handle):
    pids = of(handle).get("pids", [])
    return [SimpleNamespace(pid=pid) for pid in pids]
