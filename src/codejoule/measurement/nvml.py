"""Energy counters of NVIDIA GPUs: NVML through Zeus."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from codejoule.config import UserError
from codejoule.domain import EnergySource
from codejoule.measurement.compat import nvml_handle, synchronize
from codejoule.measurement.counter import Counter
from codejoule.measurement.hardware import Gpu, detect_gpus

_ESTIMATE = "meter=cpu_estimate (a labelled estimate of the CPU alone)"


class NvmlCounter(Counter):
    """Windows of a `ZeusMonitor` over GPUs that were checked one by one. Built on ``begin_window``
    and ``end_window``, which read the card's counter at both edges: it ticks every 0.1 s, so an
    edge is off by up to a tick. Marks inside a window are left unresolved for the same reason.
    `Ledger` resolves both, and a meter that has one uses these windows to check it."""

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor
        self._gpu_indices: list[int] = list(monitor.gpu_indices)
        devices = [f"gpu:{index}" for index in self._gpu_indices]
        super().__init__(devices, source=EnergySource.nvml)
        self.uuids = {f"gpu:{index}": _zeus_uuid(monitor, index) for index in self._gpu_indices}

    def synchronize(self) -> None:
        """Wait until the GPUs have done what PyTorch gave them (torch.cuda.synchronize)."""
        synchronize(self._gpu_indices)

    def begin(self, key: str) -> None:
        """Open Zeus' window; the caller has synchronized."""
        with _as_user_error("begin a window"):
            self._monitor.begin_window(key, sync_execution=False)

    def end(self, key: str, then: str | None = None) -> Mapping[str, float]:
        """Close Zeus' window, and open the next; energy of each GPU [J]."""
        with _as_user_error("end a window"), warnings.catch_warnings():
            # Zeus advises approximating a window of 0 J; the meter refuses it instead.
            warnings.filterwarnings("ignore", message="The energy consumption of one or more GPUs")
            measurement = self._monitor.end_window(key, sync_execution=False)
        if then is not None:
            self.begin(then)
        return {f"gpu:{index}": float(measurement.gpu_energy[index]) for index in self._gpu_indices}


def nvml_counter(gpu_indices: Sequence[int]) -> NvmlCounter:
    """Counter of the GPUs that PyTorch calls `gpu_indices`. Zeus gives 0 J without a word where
    NVML is missing, CUDA_VISIBLE_DEVICES is empty or names MIG slices, and does not take UUIDs
    there (0.16). So each GPU is found here, must have MIG off and a counter that answers, must be
    the one PyTorch means, and must be the one Zeus reads; anything else raises UserError."""
    gpus, hidden, problem = detect_gpus()
    if len(gpus) <= max(gpu_indices):
        shown = f"only {len(gpus)} of {len(gpus) + len(hidden)} are visible"
        raise UserError(
            f"the run uses GPUs {list(gpu_indices)}: {problem or shown}. Energy counters need "
            "visible NVIDIA GPUs and their driver with its management library "
            "(libnvidia-ml.so.1; in a container, the `utility` driver capability); or choose "
            f"{_ESTIMATE}"
        )
    for ordinal in gpu_indices:
        require_counter(gpus[ordinal])
        _require_same(gpus[ordinal].uuid, _cuda_uuid(ordinal), ordinal, "PyTorch")
    monitor = _zeus_monitor(gpu_indices, [gpu.index for gpu in gpus])
    for ordinal in gpu_indices:
        _require_same(gpus[ordinal].uuid, _zeus_uuid(monitor, ordinal), ordinal, "Zeus")
    return NvmlCounter(monitor)


def require_counter(gpu: Gpu) -> None:
    """UserError for a card whose energy NVML does not count."""
    if gpu.mig:
        raise UserError(
            f"GPU {gpu.index} ({gpu.name}) has MIG on, and NVML counts energy per card, never per "
            f"slice; switch it off (sudo nvidia-smi -i {gpu.index} -mig 0), leave the card out "
            f"with CUDA_VISIBLE_DEVICES, or choose {_ESTIMATE}"
        )
    if not gpu.energy_counter:
        raise UserError(
            f"GPU {gpu.index} ({gpu.name}) has no readable energy counter. Counters exist from "
            "Volta on, and some virtual GPUs hide them; leave the card out with "
            f"CUDA_VISIBLE_DEVICES, or choose {_ESTIMATE}"
        )


def _zeus_uuid(monitor: Any, index: int) -> str:
    import pynvml

    return str(pynvml.nvmlDeviceGetUUID(nvml_handle(monitor, index)))


def _cuda_uuid(ordinal: int) -> str:
    """UUID of the GPU that PyTorch calls ``cuda:ordinal``, in NVML's spelling."""
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"the run uses cuda:{ordinal}, but this PyTorch ({torch.__version__}) sees no CUDA "
            "device; install a CUDA build that fits the driver, or choose device=cpu"
        )
    return f"GPU-{torch.cuda.get_device_properties(ordinal).uuid}"


def _require_same(expected: str, found: str, ordinal: int, who: str) -> None:
    if expected != found:
        raise UserError(
            f"cuda:{ordinal} is {expected} by CUDA_VISIBLE_DEVICES, but {found} for {who}: the "
            "energy of another GPU would be measured. Set CUDA_DEVICE_ORDER=PCI_BUS_ID and do "
            "not change CUDA_VISIBLE_DEVICES within a process"
        )


def _zeus_monitor(gpu_indices: Sequence[int], visible: Sequence[int]) -> Any:
    from zeus.monitor import ZeusMonitor

    with _as_user_error("start"), _visible_as_indices(visible):
        # No CPU: RAPL in Zeus starts processes that import the main module again.
        return ZeusMonitor(gpu_indices=list(gpu_indices), cpu_indices=[])


@contextmanager
def _visible_as_indices(visible: Sequence[int]) -> Iterator[None]:
    """CUDA_VISIBLE_DEVICES as NVML indices, the only form Zeus reads (once per process)."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, visible))
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


@contextmanager
def _as_user_error(action: str) -> Iterator[None]:
    from zeus.exception import ZeusBaseError

    try:
        yield
    except ZeusBaseError as error:
        raise UserError(
            f"Zeus could not {action} on the GPU's energy counter: {error}. See `codejoule "
            "doctor` and the driver's log (dmesg); a lost GPU needs a reset or a reboot"
        ) from error
