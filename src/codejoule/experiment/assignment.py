"""Which of the GPUs that a job is given it takes: free ones, which no other job then uses."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from codejoule.experiment.isolation import end_shared, standing_by
from codejoule.experiment.plan import Plan
from codejoule.measurement import (
    Choice,
    Gpu,
    Work,
    at_work,
    in_use,
    packages_of_generation,
    showing,
)


@dataclass(slots=True)
class _Held:
    """Cards that this process keeps between jobs, for a model that stays loaded on them."""

    loads: str
    uuids: tuple[str, ...]
    reservation: ExitStack


_held: dict[int, _Held] = {}
"""Those there are, by the process."""
_last: dict[int, tuple[str, ...]] = {}
"""The cards of the latest job, by the process. They are liked best: its next job's process can then
be forked from the same server, whose environment is the same."""


@contextmanager
def on_free_devices(plan: Plan, name: str) -> Iterator[Plan]:
    """Announce the run's generation while inside, and reserve the devices that it needs: the plan
    on these. A job whose model has a process of its own takes GPUs that are free, of the model that
    was planned with, among those that are visible (all of this host, or what Slurm, Ray or the user
    put into CUDA_VISIBLE_DEVICES), and that process is shown no others. Any other job has the first
    of them: its own process may have used CUDA already, or the GPUs are its server's. Waits for
    another job, or raises `UserError`, as ``meter.on_metered_device`` says."""
    meter, gpus = plan.experiment.meter, plan.hardware.gpus
    packages = packages_of_generation(meter, plan.hardware, gpu=bool(plan.gpus))
    waiting = meter.on_metered_device
    with ExitStack() as stack:
        devices, choice = packages, None
        if not (plan.isolated and plan.gpus):
            devices = (*(gpus[number].uuid for number in plan.gpus), *packages)
        elif plan.loads is not None:
            devices = (*_kept(plan, name), *packages)
            stack.callback(_release_unless_used)
        else:
            _release()
            choice = _choice(plan)
        taken = (
            *devices,
            *stack.enter_context(
                at_work(
                    name, Work.generation, devices=devices, choice=choice, on_metered_device=waiting
                )
            ),
        )
        if plan.isolated and plan.gpus:
            numbers = [number for number, gpu in enumerate(gpus) if gpu.uuid in taken]
            _last[os.getpid()] = tuple(gpus[number].uuid for number in numbers)
            stack.enter_context(_environment(showing(plan.hardware, numbers)))
            hidden = [gpu for number, gpu in enumerate(gpus) if number not in numbers]
            hardware = replace(
                plan.hardware,
                gpus=tuple(gpus[number] for number in numbers),
                hidden_gpus=(*plan.hardware.hidden_gpus, *hidden),
            )
            plan = replace(plan, hardware=hardware)
        yield plan


def _choice(plan: Plan) -> Choice:
    """As many as planned, all of them of the model that was planned with: a run's fingerprint names
    it. Those on which others compute come last."""
    gpus, planned = plan.hardware.gpus, [plan.hardware.gpus[number] for number in plan.gpus]
    alike = [gpu for gpu in gpus if _kind(gpu) == _kind(planned[0])]
    if any(_kind(gpu) != _kind(planned[0]) for gpu in planned):
        alike = planned
    if len(alike) > len(planned):
        busy, last = in_use(alike), _last.get(os.getpid(), ())
        alike.sort(key=lambda gpu: (gpu.uuid in busy, gpu.uuid not in last))
    return Choice(count=len(planned), among=tuple(gpu.uuid for gpu in alike))


def _kind(gpu: Gpu) -> tuple[object, ...]:
    return gpu.name, gpu.memory_bytes, gpu.mig, gpu.energy_counter


def _kept(plan: Plan, name: str) -> tuple[str, ...]:
    """The cards of the model that stays loaded for this job, or those that are now reserved for as
    long as the job's own stays."""
    assert plan.loads is not None
    held = _held.get(os.getpid())
    if held is None or held.loads != plan.loads or not standing_by():
        _release()
        reservation = ExitStack()
        uuids = reservation.enter_context(
            at_work(
                name,
                Work.standby,
                choice=_choice(plan),
                on_metered_device=plan.experiment.meter.on_metered_device,
            )
        )
        held = _held[os.getpid()] = _Held(plan.loads, uuids, reservation)
    return held.uuids


def _release_unless_used() -> None:
    if not standing_by():
        _release()


def _release() -> None:
    """Give back the cards that this process keeps, and the memory that a loaded model takes."""
    end_shared()
    held = _held.pop(os.getpid(), None)
    if held is not None:
        held.reservation.close()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Processes that are started inside have these; this one's CUDA has read its own by now."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
