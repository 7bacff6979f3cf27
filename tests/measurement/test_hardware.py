import json
import subprocess
import sys
from dataclasses import asdict
from itertools import permutations
from typing import Any

import pytest

from codejoule.measurement import detect_gpus, detect_hardware, showing


def test_gpus_are_listed_with_what_a_meter_needs_to_know(nvml: Any, no_rapl: None) -> None:
    nvml.cards[1].mig = True
    nvml.cards[0].counter = False
    hardware = detect_hardware()
    assert [gpu.name for gpu in hardware.gpus] == ["NVIDIA H200", "NVIDIA H200"]
    assert [gpu.energy_counter for gpu in hardware.gpus] == [False, True]
    assert [gpu.mig for gpu in hardware.gpus] == [False, True]
    assert hardware.gpus[0].memory_bytes == 141 * 2**30
    assert hardware.hidden_gpus == ()
    assert hardware.gpu_problem is None
    assert not hardware.rapl.readable
    json.dumps(asdict(hardware))


def test_the_first_gpu_is_the_one_cuda_calls_zero(
    nvml: Any, no_rapl: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    hardware = detect_hardware()
    assert [gpu.index for gpu in hardware.gpus] == [1]
    assert [gpu.index for gpu in hardware.hidden_gpus] == [0]


@pytest.mark.parametrize("setting", [None, "1,0", "GPU-bbbb, 0", "1", "0,GPU-bbbb0000-2,7"])
def test_a_process_sees_the_cards_that_it_is_shown(
    nvml: Any, no_rapl: None, monkeypatch: pytest.MonkeyPatch, setting: str | None
) -> None:
    if setting is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    hardware = detect_hardware()
    for count in range(1, len(hardware.gpus) + 1):
        for numbers in permutations(range(len(hardware.gpus)), count):
            with monkeypatch.context() as inner:
                for name, value in showing(hardware, numbers).items():
                    inner.setenv(name, value)
                seen = [gpu.uuid for gpu in detect_gpus()[0]]
                assert seen == [hardware.gpus[number].uuid for number in numbers]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [("", "CUDA_VISIBLE_DEVICES='' hides all 2 GPUs"), ("MIG-1", "is a MIG slice")],
)
def test_hidden_gpus_are_explained(
    nvml: Any, monkeypatch: pytest.MonkeyPatch, setting: str, problem: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    hardware = detect_hardware()
    assert hardware.gpus == ()
    assert len(hardware.hidden_gpus) == 2
    assert problem in (hardware.gpu_problem or "")


def test_looking_at_the_hardware_imports_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys; from codejoule.measurement import detect_hardware; h = detect_hardware();"
        "assert h.cpu_threads >= 1; print({'torch', 'mlflow', 'pandas'} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "set()"
