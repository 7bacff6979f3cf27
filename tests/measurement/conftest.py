"""Two stand-ins for NVML, and one for powercap.

`nvml` replays a tick series under a clock that the test moves; Zeus above it is real. `open_ledger`
starts the real sampler process, whose driver is `fake_driver`.
"""

import csv
import json
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any, ClassVar

import pynvml
import pytest

from codejoule.measurement.feed import LiveFeed
from codejoule.measurement.ledger import Ledger

GOLDEN = Path(__file__).parents[1] / "golden"
DRIVER = Path(__file__).parent / "fake_driver"


@pytest.fixture
def open_ledger(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ledger]:
    """Opens a ledger over cards that behave as its keywords say; `cards` speaks of single ones,
    by UUID."""

    def opened(*uuids: str, warn_of_foreign: bool = False, **setting: object) -> Ledger:
        monkeypatch.setenv("PYTHONPATH", str(DRIVER))
        monkeypatch.setenv("FAKE_CARD", json.dumps(setting))
        named = {f"gpu:{number}": uuid for number, uuid in enumerate(uuids or ("GPU-1",))}
        return Ledger(LiveFeed(named, period_s=0.02), warn_of_foreign=warn_of_foreign)

    return opened


@dataclass
class Card:
    uuid: str
    name: str = "NVIDIA H200"
    mig: bool = False
    counter: bool = True
    delay_s: float = 0.0
    """How far this card's replay lags behind the recording."""
    stuck_from_s: float | None = None
    reset_at_s: float | None = None
    ticks: list[tuple[float, int]] = field(default_factory=list)

    def energy_mj(self, now_s: float) -> int:
        if self.stuck_from_s is not None:
            now_s = min(now_s, self.stuck_from_s)
        value = self._replayed(now_s)
        if self.reset_at_s is not None and now_s >= self.reset_at_s:
            return value - self._replayed(self.reset_at_s)
        return value

    def _replayed(self, now_s: float) -> int:
        last = bisect_right(self.ticks, now_s - self.delay_s, key=lambda tick: tick[0]) - 1
        return self.ticks[max(0, last)][1]

    def power_mw(self, now_s: float) -> int:
        return (self.energy_mj(now_s) - self.energy_mj(now_s - 0.5)) * 2


@dataclass
class FakeNvml:
    cards: list[Card]
    now_s: float = 0.0

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    def sees(self, *uuids: str) -> Callable[[int], str]:
        """What PyTorch would answer for ``cuda:i``."""
        return lambda ordinal: uuids[ordinal]


def nvml_error(value: int) -> Any:
    return pynvml.NVMLError(value)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    """Two cards; PyTorch sees them in NVML's order."""
    import zeus.device.gpu
    from zeus.device.gpu import nvidia

    with (GOLDEN / "nvml_ticks_synthetic.csv").open() as file:
        ticks = [(float(row["time_s"]), int(row["energy_mj"])) for row in csv.DictReader(file)]
    fake = FakeNvml(
        cards=[
            Card(uuid="GPU-aaaa0000-1", ticks=ticks),
            Card(uuid="GPU-bbbb0000-2", ticks=ticks, delay_s=1.0),
        ]
    )

    def counter(card: Card) -> int:
        if not card.counter:
            raise nvml_error(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return card.energy_mj(fake.now_s)

    def no_c2c(card: Card) -> None:
        raise nvml_error(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def instant_power(card: Card, fields: object) -> list[SimpleNamespace]:
        value = SimpleNamespace(uiVal=card.power_mw(fake.now_s))
        return [SimpleNamespace(nvmlReturn=pynvml.NVML_SUCCESS, value=value)]

    replaced: dict[str, Callable[..., object]] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(fake.cards),
        "nvmlDeviceGetHandleByIndex": lambda index: fake.cards[index],
        "nvmlDeviceGetUUID": lambda card: card.uuid,
        "nvmlDeviceGetName": lambda card: card.name,
        "nvmlDeviceGetArchitecture": lambda card: pynvml.NVML_DEVICE_ARCH_VOLTA,
        "nvmlDeviceGetC2cModeInfoV": no_c2c,
        "nvmlDeviceGetMigMode": lambda card: (int(card.mig), int(card.mig)),
        "nvmlDeviceGetTotalEnergyConsumption": counter,
        "nvmlDeviceGetFieldValues": instant_power,
        "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(total=141 * 2**30),
        "nvmlSystemGetDriverVersion": lambda: "570.1",
    }
    for name, function in replaced.items():
        monkeypatch.setattr(pynvml, name, function)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(zeus.device.gpu, "_gpus", None)
    monkeypatch.setattr("zeus.utils.framework.sync_execution", lambda *args, **kwargs: None)
    monkeypatch.setattr(
        "codejoule.measurement.nvml._cuda_uuid", lambda ordinal: fake.cards[ordinal].uuid
    )
    monkeypatch.setattr("codejoule.measurement.meter.perf_counter", lambda: fake.now_s)
    monkeypatch.setattr("codejoule.measurement.cooling.perf_counter", lambda: fake.now_s)
    monkeypatch.setattr("codejoule.measurement.window.perf_counter", lambda: fake.now_s)
    monkeypatch.setattr("codejoule.measurement.meter.sleep", fake.advance)
    nvidia.nvml_is_available.cache_clear()
    yield fake
    nvidia.nvml_is_available.cache_clear()


class FakeRapl:
    """A powercap tree whose counters run at a constant power until told otherwise."""

    RANGE_UJ = 262_143_328_850
    POWER_W: ClassVar = {
        "intel-rapl:0": 50.0,
        "intel-rapl:0/intel-rapl:0:1": 5.0,
        "intel-rapl:1": 70.0,
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start_uj = dict.fromkeys(self.POWER_W, 1_000_000)
        self._frozen: set[str] = set()
        self._writing = threading.Lock()
        self._began_s = perf_counter()
        for zone, name in zip(self.POWER_W, ("package-0", "dram", "psys"), strict=True):
            (folder / zone).mkdir(parents=True)
            (folder / zone / "name").write_text(f"{name}\n")
            (folder / zone / "max_energy_range_uj").write_text(f"{self.RANGE_UJ}\n")
        self._write()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def freeze(self, zone: str) -> None:
        """Let the counter of `zone` stand still once this returns: no write is under way then."""
        with self._writing:
            self._frozen.add(zone)

    def _write(self) -> None:
        for zone in self.POWER_W:
            with self._writing:
                if zone not in self._frozen:
                    self._advance(zone)

    def _advance(self, zone: str) -> None:
        raw_uj = self.start_uj[zone] + int(
            (perf_counter() - self._began_s) * self.POWER_W[zone] * 1e6
        )
        new = self.folder / zone / "new"
        new.write_text(f"{raw_uj % self.RANGE_UJ}\n")
        new.replace(self.folder / zone / "energy_uj")

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            self._write()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def rapl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRapl]:
    folder = tmp_path / "intel-rapl"
    monkeypatch.setattr("codejoule.measurement.cpu.RAPL_DIRS", (folder,))
    tree = FakeRapl(folder)
    yield tree
    tree.stop()


@pytest.fixture
def no_rapl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codejoule.measurement.cpu.RAPL_DIRS", (tmp_path / "absent",))
