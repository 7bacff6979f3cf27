"""Power over time, from a light background thread."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from codejoule.domain import PowerSample

logger = logging.getLogger(__name__)


class PowerSampler:
    """Calls `read_power_w` every `period_s` until stopped.

    The samples serve the timeline and the progress bar; no energy is computed from them. A
    source that stops answering therefore ends the timeline with a logged warning; the
    windows read the counter themselves and raise their own error.
    """

    def __init__(self, read_power_w: Callable[[], Mapping[str, float]], period_s: float) -> None:
        self._read_power_w = read_power_w
        self._period_s = period_s
        self._samples: list[PowerSample] = []
        self._latest_w: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power-sampler", daemon=True)
        self._thread.start()

    def latest_w(self) -> float | None:
        """Power of all devices at the last sample [W]; None before the first, or after a
        failure."""
        return sum(self._latest_w.values()) if self._latest_w else None

    def samples(self) -> list[PowerSample]:
        """Every sample so far, oldest first."""
        return list(self._samples)

    def stop(self) -> None:
        """End the thread; the samples stay."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                power_w = self._read_power_w()
            except Exception as error:
                self._latest_w = {}
                logger.warning("power timeline ends here: %s", error)
                return
            now_s = time.time()
            for device, watts in power_w.items():
                self._samples.append(PowerSample(time_s=now_s, device=device, power_w=watts))
            self._latest_w.update(power_w)
