"""Which GPUs a job takes of those that it is given, by what NVML says of them."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.config import UserError
from codejoule.config.schema import MeterConfig, MeterName, MeterScope, OnMeteredDevice
from codejoule.experiment import assignment
from codejoule.experiment.assignment import on_free_devices
from codejoule.measurement import Choice, Gpu, Hardware, RaplStatus, Work, at_work, jobs

CARD = Gpu(
    index=0, name="NVIDIA H200", uuid="GPU-0", memory_bytes=1, driver="1", energy_counter=True,
    mig=False,
)  # fmt: skip
CARDS = tuple(replace(CARD, index=n, uuid=f"GPU-{n}") for n in range(4))
RAPL = RaplStatus(readable=True, devices=("cpu:0", "dram:0", "cpu:1"))


def machine(*gpus: Gpu) -> Hardware:
    return Hardware(
        gpus=gpus, hidden_gpus=(), gpu_problem=None, rapl=RAPL, cpu_model=None, cpu_cores=1,
        cpu_threads=1,
    )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """As much of one as the choice depends on."""

    hardware: Hardware
    gpus: tuple[int, ...] = (0,)
    isolated: bool = True
    loads: str | None = None
    meter: MeterConfig = field(
        default_factory=lambda: MeterConfig(on_metered_device=OnMeteredDevice.error)
    )

    @property
    def experiment(self) -> Any:
        return SimpleNamespace(meter=self.meter)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which nobody else is, and whose process has had no job yet."""
    monkeypatch.setenv(jobs.PLACE, str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("codejoule.measurement.opening.rapl_status", lambda: RAPL)
    monkeypatch.setattr(assignment, "in_use", lambda gpus: set())
    monkeypatch.setattr(assignment, "_last", {})


@contextmanager
def as_somebody_else() -> Iterator[None]:
    own, jobs._lineage = jobs._lineage, lambda: ("1@elsewhere",)
    try:
        yield
    finally:
        jobs._lineage = own


@contextmanager
def somebody_on(*devices: str) -> Iterator[None]:
    with as_somebody_else():
        job = at_work("theirs", Work.generation, devices=devices)
        job.__enter__()
    try:
        yield
    finally:
        job.__exit__(None, None, None)


@contextmanager
def started(plan: Plan) -> Iterator[tuple[list[str], str | None]]:
    """UUIDs of the GPUs that the job has, and how its process is shown them."""
    with on_free_devices(plan, "mine") as own:  # type: ignore[arg-type]
        assert own.gpus == plan.gpus, "numbers are those of the job's process"
        yield [gpu.uuid for gpu in own.hardware.gpus], os.environ.get("CUDA_VISIBLE_DEVICES")


def test_a_job_takes_the_next_free_card_and_hides_the_others_from_its_process() -> None:
    plan = Plan(machine(*CARDS))
    with somebody_on("GPU-0", "GPU-2"), on_free_devices(plan, "mine") as own:  # type: ignore[arg-type]
        assert [gpu.uuid for gpu in own.hardware.gpus] == ["GPU-1"]
        assert [gpu.uuid for gpu in own.hardware.hidden_gpus] == ["GPU-0", "GPU-2", "GPU-3"]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID", "CUDA's own is by speed"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert "CUDA_DEVICE_ORDER" not in os.environ


@pytest.mark.parametrize(
    ("setting", "visible", "shown"),
    [
        ("2,0", (2, 0), "0"),
        ("GPU-2, GPU-0", (2, 0), "GPU-0"),
        ("3", (3,), "3"),
    ],
)
def test_cards_are_those_that_slurm_or_ray_has_given_and_are_named_as_there(
    setting: str, visible: tuple[int, ...], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    plan = Plan(machine(*(CARDS[number] for number in visible)))
    with somebody_on("GPU-2"), started(plan) as (uuids, names):
        assert (uuids, names) == ([f"GPU-{visible[-1]}"], shown)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == setting


def test_a_job_on_two_cards_takes_two_free_ones_in_their_order() -> None:
    with somebody_on("GPU-1"), started(Plan(machine(*CARDS), gpus=(0, 1))) as (uuids, shown):
        assert (uuids, shown) == (["GPU-0", "GPU-2"], "0,2")


def test_all_cards_taken_is_said_with_who_has_them() -> None:
    with (
        somebody_on("GPU-0", "GPU-1"),
        pytest.raises(UserError, match=r"1 of 2 GPUs are needed.*GPU-1 is being metered by theirs"),
        started(Plan(machine(*CARDS[:2]))),
    ):
        pass


def test_another_model_of_card_is_never_taken_since_the_run_is_another_there() -> None:
    l40s = replace(CARDS[1], name="NVIDIA L40S")
    plan = Plan(machine(CARDS[0], l40s, CARDS[2]))
    with somebody_on("GPU-0"), started(plan) as (uuids, _):
        assert uuids == ["GPU-2"]
    with (
        somebody_on("GPU-0", "GPU-2"),
        pytest.raises(UserError, match="1 of 2 GPUs are needed"),
        started(plan),
    ):
        pass


@pytest.mark.parametrize("unlike", [{"mig": True}, {"energy_counter": False}])
def test_a_card_whose_energy_is_not_counted_stands_in_for_none(unlike: dict[str, bool]) -> None:
    with (
        somebody_on("GPU-0"),
        pytest.raises(UserError, match=r"1 of 1 GPUs are needed"),
        started(Plan(machine(CARDS[0], replace(CARDS[1], **unlike)))),  # type: ignore[arg-type]
    ):
        pass


def test_the_first_two_cards_of_two_models_are_taken_as_planned() -> None:
    plan = Plan(machine(CARDS[0], replace(CARDS[1], name="NVIDIA L40S"), CARDS[2]), gpus=(0, 1))
    with started(plan) as (uuids, _):
        assert uuids == ["GPU-0", "GPU-1"]


def test_a_card_on_which_others_compute_is_the_last_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "in_use", lambda gpus: {"GPU-0", "GPU-1"})
    with started(Plan(machine(*CARDS[:3]))) as (uuids, _):
        assert uuids == ["GPU-2"]
    with somebody_on("GPU-2"), started(Plan(machine(*CARDS[:3]))) as (uuids, _):
        assert uuids == ["GPU-0"]


def test_the_next_job_of_a_process_likes_the_card_of_its_last() -> None:
    with somebody_on("GPU-0"), started(Plan(machine(*CARDS))) as (uuids, _):
        assert uuids == ["GPU-1"]
    with started(Plan(machine(*CARDS))) as (uuids, _):
        assert uuids == ["GPU-1"], "the process that its jobs are forked from sees that card"


def test_a_job_without_a_process_of_its_own_has_the_first_card() -> None:
    plan = Plan(machine(*CARDS), isolated=False)
    with started(plan) as (uuids, shown):
        assert (uuids, shown) == ([card.uuid for card in CARDS], None)
        with as_somebody_else(), pytest.raises(UserError, match="GPU-0 is being metered by mine"):
            at_work("x", Work.command, devices=["GPU-0"], on_metered_device=OnMeteredDevice.error).__enter__()  # fmt: skip
    with (
        somebody_on("GPU-0"),
        pytest.raises(UserError, match="GPU-0 is being metered by theirs"),
        started(plan),
    ):
        pass


@pytest.mark.parametrize("name", [MeterName.cpu_estimate, MeterName.replay])
def test_a_card_is_held_whatever_meters_the_job(name: MeterName) -> None:
    error = OnMeteredDevice.error
    meter = MeterConfig(name=name, recording="x", on_metered_device=error)
    plan = Plan(machine(CARDS[0]), meter=meter)
    with started(plan), as_somebody_else(), pytest.raises(UserError, match="GPU-0 is being"):
        at_work("x", Work.command, devices=["GPU-0"], on_metered_device=error).__enter__()


@pytest.mark.parametrize(("scope", "apart"), [("auto", True), ("gpu+cpu", False)])
def test_a_package_that_is_part_of_a_figure_is_one_jobs_at_a_time(scope: str, apart: bool) -> None:
    """That of a job that judges, which takes a package for itself."""
    meter = MeterConfig(scope=MeterScope[scope], on_metered_device=OnMeteredDevice.error)
    plan = Plan(machine(*CARDS), meter=meter)
    with somebody_on("GPU-0", "rapl-package-0"):
        if apart:
            with started(plan) as (uuids, _):
                assert uuids == ["GPU-1"]
        else:
            with pytest.raises(UserError, match="rapl-package-0 is being"), started(plan):
                pass


def test_two_jobs_on_the_cpu_take_turns_where_its_counter_meters_them() -> None:
    plan = Plan(machine(), gpus=())
    with (
        started(plan),
        as_somebody_else(),
        pytest.raises(UserError, match="rapl-package-0 is being metered by mine"),
        started(plan),
    ):
        pass


def test_a_card_stays_a_jobs_as_long_as_its_model_stays_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stays = True
    monkeypatch.setattr(assignment, "standing_by", lambda: stays)
    monkeypatch.setattr(assignment, "end_shared", lambda: None)
    shared = Plan(machine(*CARDS[:2]), loads="a model")
    with started(shared) as (uuids, _):
        assert uuids == ["GPU-0"]
    assert others_card() == "GPU-1", "the first is not free between two jobs that share a model"
    with as_somebody_else():
        (idle,) = jobs.OtherJobs().since(time.time())
    assert (idle.work, idle.devices) == (Work.standby, ("GPU-0",))
    with started(shared) as (uuids, _):
        assert uuids == ["GPU-0"]
        stays = False  # the job has failed, and its process has ended
    assert others_card() == "GPU-0", "nobody is on it any more"


def others_card() -> str:
    """The card that a job of another process takes now."""
    first_two = Choice(count=1, among=("GPU-0", "GPU-1"))
    with as_somebody_else(), at_work("theirs", Work.generation, choice=first_two) as (uuid,):
        return uuid


def test_a_model_that_stays_loaded_makes_way_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    monkeypatch.setattr(assignment, "standing_by", lambda: not ended)
    monkeypatch.setattr(assignment, "end_shared", lambda: ended.append("ended"))
    with started(Plan(machine(*CARDS[:1]), loads="a model")):
        ended.clear()
    with started(Plan(machine(*CARDS[:1]), loads="another")) as (uuids, _):
        assert (uuids, ended) == (["GPU-0"], ["ended"])
        ended.clear()
    with started(Plan(machine(*CARDS[:1]))) as (uuids, _):
        assert (uuids, ended) == (["GPU-0"], ["ended"])
