"""Whose energy a run on a server is."""

import mmap
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from codejoule.config import UserError
from codejoule.config.schema import MeterConfig, MeterName
from codejoule.measurement import (
    Gpu,
    Meter,
    ServerProcesses,
    detect_hardware,
    find_server,
    in_use,
    mapped_by,
    open_meter,
)


@pytest.fixture
def busy() -> Iterator[int]:
    """A process that listens nowhere and computes for ever."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def test_the_time_of_a_servers_processes_counts(busy: int) -> None:
    config = MeterConfig(name=MeterName.cpu_estimate, cpu_watts_per_core=10.0)
    with open_meter(config, processes=[busy]) as meter:
        with meter.window("served") as window:
            time.sleep(0.6)
        assert window.reading.energy_j > 1.5, "0.6 s of one core at 10 W, and some of it is ours"


def test_the_end_of_a_server_in_a_window_is_an_error(busy: int) -> None:
    def die(meter: Meter) -> None:
        with meter.window("served"):
            os.kill(busy, 9)
            os.waitpid(busy, 0)

    config = MeterConfig(name=MeterName.cpu_estimate)
    wanted = pytest.raises(UserError, match=rf"the server's process {busy} has ended")
    with open_meter(config, processes=[busy]) as meter, wanted:
        die(meter)


def test_the_process_that_listens_is_found() -> None:
    hardware = detect_hardware()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            found = find_server(f"http://{host}:{port}/v1", hardware)
            assert found == ServerProcesses(
                pids=(os.getpid(),), gpus=tuple(range(len(hardware.gpus)))
            )
    assert find_server(f"http://127.0.0.1:{port}/v1", hardware).pids == ()


class Driver:
    """NVML, which answers while it is initialised."""

    def __init__(self, computing: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = 0
        self.computing = computing
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: self.count(1))
        monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: self.count(-1))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", self.handle)
        monkeypatch.setattr(
            pynvml, "nvmlDeviceGetComputeRunningProcesses",
            lambda uuid: [SimpleNamespace(pid=pid) for pid in self.computing[uuid]],
        )  # fmt: skip

    def count(self, step: int) -> None:
        self.open += step

    def handle(self, uuid: str) -> str:
        if not self.open:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        return uuid


CARDS = tuple(
    Gpu(index=n, name="H200", uuid=f"GPU-{n}", memory_bytes=1, driver="1", energy_counter=True,
        mig=False)
    for n in range(3)
)  # fmt: skip


def test_the_gpus_of_a_server_are_those_that_it_computes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = Driver({"GPU-0": [1], "GPU-1": [os.getpid()], "GPU-2": []}, monkeypatch)
    hardware = replace(detect_hardware(), gpus=CARDS)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = find_server(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", hardware)
    assert found == ServerProcesses(pids=(os.getpid(),), gpus=(1,))
    assert driver.open == 0


def test_a_gpu_is_in_use_where_others_compute(busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Driver({"GPU-0": [os.getpid(), busy], "GPU-1": [1, busy], "GPU-2": []}, monkeypatch)
    assert in_use(CARDS) == {"GPU-1"}, "what this process has started is its own"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "http://192.0.2.7:8000/v1",
            "engine.url=http://192.0.2.7:8000/v1: 192.0.2.7 is not this machine, and the energy of "
            "another cannot be metered here; run codejoule on the machine of the server",
        ),
        ("127.0.0.1:8000", "engine.url=127.0.0.1:8000: not an address of a server; write it like"),
        ("http://no.such.host.invalid/v1", "the host no.such.host.invalid is not known"),
    ],
)
def test_another_machines_server_is_refused(url: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        find_server(url, detect_hardware())
    assert said in str(caught.value)


def test_a_file_is_known_to_be_in_a_servers_memory(busy: int, tmp_path: Path) -> None:
    file, link, twin = (tmp_path / name for name in ("m.gguf", "link.gguf", "other/m.gguf"))
    file.write_bytes(b"GGUF" * 4096)
    link.symlink_to(file)
    twin.parent.mkdir()
    twin.write_bytes(file.read_bytes())
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ):
        assert mapped_by([os.getpid(), busy], link.resolve()) == (os.getpid(),)
        assert mapped_by([busy], file) == ()
        assert mapped_by([os.getpid()], twin) == (), "a copy is another file"
    assert mapped_by([os.getpid()], file) == ()
