"""A run that was broken off on one model of GPU, and the same command on another."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from codejoule.config import UserError
from codejoule.config.schema import ExperimentConfig, OnOtherGpu, TrackingConfig
from codejoule.experiment import run as run_module
from codejoule.experiment.plan import Plan
from codejoule.experiment.run import run
from tests.experiment.job import runs_of
from tests.experiment.test_devices import CARD
from tests.experiment.test_engines import plan_for  # noqa: F401


@pytest.fixture
def start(
    store: Path,
    plan_for: Callable[..., Plan],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """Gives the command on a machine with that card, and interrupts the run while it generates."""
    plan = plan_for()
    experiment = dataclasses.replace(
        plan.experiment, tracking=TrackingConfig(dir=f"{store}/mlruns", lease_s=1.0)
    )

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def start(gpu: str, on_other_gpu: OnOtherGpu = OnOtherGpu.fail) -> None:
        hardware = dataclasses.replace(plan.hardware, gpus=(dataclasses.replace(CARD, name=gpu),))

        def replayed(asked: ExperimentConfig) -> Plan:
            return dataclasses.replace(
                plan,
                experiment=asked,
                hardware=hardware,
                gpus=(0,),
                identity={**plan.identity, "gpu": gpu},
            )

        monkeypatch.setattr(run_module, "make_plan", replayed)
        monkeypatch.setattr(run_module, "generate_isolated", interrupted)
        run(dataclasses.replace(experiment, on_other_gpu=on_other_gpu), sweep=None)

    return start


def test_a_run_is_not_begun_anew_on_another_model_of_gpu_unless_asked(
    start: Callable[..., None], store: Path
) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            start("NVIDIA A100")
    (first,) = runs_of("codejoule", store)
    with pytest.raises(UserError) as told:
        start("NVIDIA H200")
    assert str(told.value) == (
        f"run {first.info.run_id} of this configuration was broken off on NVIDIA A100, and this is "
        "NVIDIA H200: a run has the energy of one model of GPU. Give the same command where there "
        "is NVIDIA A100, or begin the run anew here with on_other_gpu=anew"
    )
    with pytest.raises(KeyboardInterrupt):
        start("NVIDIA H200", OnOtherGpu.anew)
    assert {run.info.status for run in runs_of("codejoule", store)} == {"KILLED"}
    assert len(runs_of("codejoule", store)) == 2
    with pytest.raises(KeyboardInterrupt):
        start("NVIDIA A100")  # its own journal is there, and goes on
    assert len(runs_of("codejoule", store)) == 2
