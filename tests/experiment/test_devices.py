"""Which device a run takes, and what it is called."""

from dataclasses import replace

import pytest
import torch

from codejoule.config import UserError
from codejoule.config.schema import Device
from codejoule.experiment.devices import choose_device, gpus_in_use, name_of_gpus
from codejoule.measurement import Gpu, Hardware, RaplStatus

CARD = Gpu(
    index=0, name="NVIDIA H200", uuid="GPU-1", memory_bytes=1, driver="1", energy_counter=True,
    mig=False,
)  # fmt: skip
BARE = Hardware(
    gpus=(), hidden_gpus=(), gpu_problem="no NVML", rapl=RaplStatus(readable=False),
    cpu_model=None, cpu_cores=1, cpu_threads=1,
)  # fmt: skip


@pytest.mark.parametrize("device", [Device.auto, Device.cuda])
def test_an_amd_gpu_that_pytorch_can_use_is_an_error_and_no_silent_cpu(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    hardware = replace(BARE, gpu_problem="an AMD GPU")
    with pytest.raises(UserError, match=r"whose energy cannot be measured \(an AMD GPU\).*=cpu"):
        choose_device(device, hardware)
    assert choose_device(Device.cpu, hardware) == "cpu"


def test_an_amd_gpu_that_pytorch_cannot_use_leaves_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(Device.auto, BARE) == "cpu"


def test_several_gpus_are_named_with_their_number() -> None:
    hardware = replace(BARE, gpus=(CARD, CARD, replace(CARD, name="NVIDIA L40S")))
    assert name_of_gpus((0,), hardware) == "NVIDIA H200"
    assert name_of_gpus((0, 1, 2), hardware) == "2 x NVIDIA H200, NVIDIA L40S"
    assert gpus_in_use("cpu", None) == ()
    assert gpus_in_use("cuda", None) == (0,)
