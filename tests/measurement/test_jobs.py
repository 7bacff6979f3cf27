"""Jobs on one machine: who has a device, and who worked during a window."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.config import UserError
from codejoule.config.schema import MeterConfig, MeterName, MeterScope, OnMeteredDevice
from codejoule.domain import EnergyScope, EnergySource
from codejoule.measurement import (
    Gpu,
    RaplStatus,
    Work,
    at_work,
    jobs,
    metered_devices,
    metered_packages,
    open_meter,
)
from codejoule.measurement.counter import Counter
from codejoule.measurement.meter import Meter

ERROR = OnMeteredDevice.error


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(jobs.PLACE, str(tmp_path))
    return tmp_path


@contextmanager
def somebody_else(number: int = 1, work: Work = Work.generation, *devices: str) -> Iterator[None]:
    """A job of a process that is no relative of this one."""
    own, jobs._lineage = jobs._lineage, lambda: (f"{number}@elsewhere",)
    try:
        job = at_work(f"job-{number}", work, devices=devices)
        job.__enter__()
    finally:
        jobs._lineage = own
    try:
        yield
    finally:
        job.__exit__(None, None, None)


def concurrent(meter: Meter) -> set[str]:
    with meter.window("batch") as window:
        sum(range(10_000))
    return {name.partition(" ")[0] for name in window.reading.concurrent}


PROCESS = """
import sys, time
from codejoule.measurement import Work, at_work
with at_work("first", Work.generation, devices=sys.argv[1:]):
    print("has it", flush=True)
    time.sleep(60)
"""
CHOOSING = """
import sys, time
from codejoule.measurement import Choice, Work, at_work
count, *among = sys.argv[1:]
with at_work("first", Work.generation, choice=Choice(count=int(count), among=tuple(among))) as got:
    print(*got, flush=True)
    time.sleep(60)
"""


@contextmanager
def process(*devices: str) -> Iterator[subprocess.Popen[str]]:
    """A real one that works with these devices."""
    with started(PROCESS, *devices) as process:
        said(process)
        yield process


@contextmanager
def started(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_device_that_is_metered_stops_the_second_with_a_word() -> None:
    with somebody_else(7, Work.generation, "GPU-1", "rapl-package-0"):
        for device in ("GPU-1", "rapl-package-0"):
            with (
                pytest.raises(
                    UserError,
                    match=rf"{device} is being metered by job-7 \(process 7, since .*wait",
                ),
                at_work("second", Work.generation, devices=[device], on_metered_device=ERROR),
            ):
                pass
        with at_work("second", Work.generation, devices=["GPU-2"], on_metered_device=ERROR):
            pass
    with at_work("second", Work.generation, devices=["GPU-1"], on_metered_device=ERROR):
        pass


def test_the_second_waits_for_the_first_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with process("GPU-1", "GPU-2") as first:
        os.kill(first.pid, signal.SIGSTOP)
        waiting = subprocess.Popen(
            [sys.executable, "-c", PROCESS, "GPU-2"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waiting.stdout is not None and waiting.stderr is not None
        said = waiting.stderr.readline()
        assert f"GPU-2 is being metered by first (process {first.pid}, since" in said
        assert "this job waits" in said
        first.kill()
        assert waiting.stdout.readline() == "has it\n"
        waiting.kill()
        assert waiting.communicate()[1] == ""


def test_jobs_take_the_cards_that_are_free_and_the_third_waits_for_one() -> None:
    cards = ("GPU-1", "GPU-2")
    with started(CHOOSING, "1", *cards) as first, started(CHOOSING, "1", *cards) as second:
        assert {said(first), said(second)} == set(cards)
        some = jobs.Choice(count=1, among=cards)
        busy = (
            r"1 of 2 GPUs are needed, and too few are free: GPU-1 is being metered by first "
            rf"\(process ({first.pid}|{second.pid}), .*; GPU-2 is being metered by first"
        )
        with (
            pytest.raises(UserError, match=busy),
            at_work("third", Work.generation, choice=some, on_metered_device=ERROR),
        ):
            pass
        with started(CHOOSING, "1", *cards) as third:
            assert third.stderr is not None
            assert "this job waits" in third.stderr.readline()
            second.kill()
            assert said(third) in cards


def test_a_job_that_lacks_one_of_two_cards_holds_none() -> None:
    with process("GPU-2"), started(CHOOSING, "2", "GPU-1", "GPU-2") as waiting:
        assert waiting.stderr is not None
        assert "2 of 2 GPUs are needed" in waiting.stderr.readline()
        # It looks now and then, and has it for that moment.
        with at_work("other", Work.generation, devices=["GPU-1"]):
            pass


def test_what_a_metered_command_starts_takes_a_card_each_of_the_commands() -> None:
    cards = ("GPU-1", "GPU-2")
    with (
        at_work("command", Work.command, devices=cards),
        started(CHOOSING, "1", *cards) as first,
        started(CHOOSING, "1", *cards) as second,
    ):
        assert {said(first), said(second)} == set(cards)


def test_a_killed_job_leaves_nothing_behind() -> None:
    with process("GPU-1") as killed:
        killed.kill()
        killed.wait()
        with at_work("next", Work.generation, devices=["GPU-1"], on_metered_device=ERROR):
            assert jobs.OtherJobs().since(time.time()) == []


def test_what_a_metered_command_starts_shares_its_devices_and_is_no_other_job() -> None:
    inner = (
        "import time; from codejoule.measurement import Work, at_work, jobs\n"
        "from codejoule.config.schema import OnMeteredDevice\n"
        "wait = OnMeteredDevice.error\n"
        "with at_work('in', Work.generation, devices=['GPU-1'], on_metered_device=wait):\n"
        "    print(jobs.OtherJobs().since(0.0))\n"
    )
    others = jobs.OtherJobs()
    began_s = time.time()
    with at_work("command", Work.command, devices=["GPU-1"]):
        done = subprocess.run(
            [sys.executable, "-c", inner], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert others.since(began_s) == []


@pytest.mark.parametrize("start", ["before it", "in it"])
@pytest.mark.parametrize("stop", ["in it", "after it"])
def test_whoever_worked_during_a_window_is_recorded(start: str, stop: str) -> None:
    other = somebody_else(3)
    with open_meter(MeterConfig(name=MeterName.cpu_estimate)) as meter:
        with somebody_else(4):
            assert concurrent(meter) == {"job-4"}
        if start == "before it":
            other.__enter__()
        with meter.window("batch") as window:
            if start == "in it":
                other.__enter__()
            if stop == "in it":
                other.__exit__(None, None, None)
        if stop == "after it":
            other.__exit__(None, None, None)
        assert [name.partition(" ")[0] for name in window.reading.concurrent] == ["job-3"]
        assert concurrent(meter) == set(), "nobody is there any more"


def test_each_process_counts_once_in_a_window() -> None:
    with open_meter(MeterConfig(name=MeterName.cpu_estimate)) as meter:
        with meter.window("batch") as window:
            with somebody_else(3):
                pass
            with somebody_else(3, Work.evaluation), somebody_else(4):
                pass
        assert len(window.reading.concurrent) == 2


@pytest.mark.parametrize(
    ("scope", "seen"),
    [
        (EnergyScope.gpu, {"job-1", "job-3"}),
        (EnergyScope.cpu, {"job-1", "job-2", "job-3"}),
    ],
)
def test_judging_changes_the_energy_of_a_cpu_and_not_of_a_gpu(
    scope: EnergyScope, seen: set[str]
) -> None:
    class Clock(Counter):
        def end(self, key: str, then: str | None = None) -> dict[str, float]:
            return {"device": 1.0}

    counter = Clock(("device",), source=EnergySource.nvml)
    counter.scope = scope
    meter = Meter(counter, sample_period_s=60, idle_s=0, others=jobs.OtherJobs())
    with (
        meter,
        somebody_else(1, Work.generation),
        somebody_else(2, Work.evaluation),
        somebody_else(3, Work.command),
    ):
        assert concurrent(meter) == seen


GPUS = tuple(
    Gpu(index=n, name="H200", uuid=f"GPU-{n}", memory_bytes=1, driver="1", energy_counter=True,
        mig=False)
    for n in range(2)
)  # fmt: skip


@pytest.mark.parametrize(
    ("meter", "gpus", "rapl", "generation", "evaluation"),
    [
        ({}, (0, 1), True, {"GPU-0", "GPU-1"}, {"rapl-package-0", "rapl-package-1"}),
        ({}, (1,), False, {"GPU-1"}, set()),
        ({"scope": MeterScope["gpu+cpu"]}, (1,), True,
         {"GPU-1", "rapl-package-0", "rapl-package-1"}, {"rapl-package-0", "rapl-package-1"}),
        ({}, (), True, {"rapl-package-0", "rapl-package-1"}, {"rapl-package-0", "rapl-package-1"}),
        ({}, (), False, set(), set()),
        ({"name": MeterName.cpu_estimate}, (0,), True, set(), set()),
        ({"name": MeterName.replay, "recording": "x"}, (0,), True, set(),
         {"rapl-package-0", "rapl-package-1"}),
    ],
)  # fmt: skip
def test_the_devices_that_are_counted_are_those_one_has_to_oneself(
    meter: dict[str, Any], gpus: tuple[int, ...], rapl: bool, generation: set[str],
    evaluation: set[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    devices = ("cpu:0", "dram:0", "cpu:1") if rapl else ()
    status = RaplStatus(readable=rapl, devices=devices)
    monkeypatch.setattr("codejoule.measurement.opening.rapl_status", lambda: status)
    hardware: Any = SimpleNamespace(gpus=GPUS, rapl=status)
    config = MeterConfig(**meter)
    assert set(metered_devices(config, hardware, gpus)) == generation
    assert set(metered_packages(config, hardware)) == evaluation


def test_all_users_of_the_machine_may_meet(place: Path) -> None:
    mask = os.umask(0o077)
    try:
        with somebody_else(1, Work.generation, "GPU-1"):
            (folder,) = place.iterdir()
            modes = {file.suffix: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    finally:
        os.umask(mask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert modes == {".lock": 0o644, ".job": 0o644}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_job_is_seen_and_its_device_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_to_all = tempfile.TemporaryDirectory()
    Path(open_to_all.name).chmod(0o755)
    monkeypatch.setenv(jobs.PLACE, open_to_all.name)
    code = (
        "import os\n"
        "from codejoule.config.schema import OnMeteredDevice\n"
        "from codejoule.measurement import Work, at_work, jobs\n"
        # What is imported late may lie where this user alone can read.
        "with at_work('early', Work.command, devices=['GPU-3']): pass\n"
        "os.setgid(65534); os.setuid(65534)\n"
        # As if it had been started by that user: the kernel hides its /proc/self/ns otherwise.
        "import ctypes; ctypes.CDLL(None).prctl(4, 1)\n"
        "print([job.name for job in jobs.OtherJobs().since(0.0)])\n"
        "with at_work('in', Work.command, devices=['GPU-2']): pass\n"
        "error = OnMeteredDevice.error\n"
        "with at_work('in', Work.command, devices=['GPU-1'], on_metered_device=error): pass\n"
    )
    with open_to_all, somebody_else(7, Work.generation, "GPU-1"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    assert done.stdout == "['job-7']\n", done.stderr
    assert "GPU-1 is being metered by job-7 (process 7" in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"\xff", b'{"name": "x"}', b"[" * 60_000,
        b'{"name": "x", "work": "other", "devices": [], "processes": ["1@x"]}',
        b'{"name": "x", "work": "command", "devices": [], "processes": []}',
    ],
)  # fmt: skip
def test_a_note_that_is_none_of_ours_is_nobody(place: Path, text: bytes) -> None:
    folder = jobs._meeting_place()
    (folder / "1-1.job").write_bytes(text)
    (folder / "2-2.job").symlink_to("/etc/passwd")
    (folder / "3-3.job").mkdir()
    os.mkfifo(folder / "4-4.job")
    assert jobs.OtherJobs().since(0.0) == []


def test_a_name_cannot_steer_the_terminal_that_it_is_shown_in(place: Path) -> None:
    folder = jobs._meeting_place()
    row = {"name": "a\x1b[2Jb\nc", "work": "command", "devices": [], "processes": ["9@x"]}
    (folder / "1-9.job").write_text(json.dumps(row))
    (job,) = jobs.OtherJobs().since(0.0)
    assert str(job).startswith("a\\x1b[2Jb\\nc (process 9, since ")


def test_notes_of_ended_jobs_are_removed_after_a_while(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with somebody_else(1):
        with somebody_else(2):
            pass
        monkeypatch.setattr(jobs, "_KEPT_S", -1.0)
        with somebody_else(3):
            (folder,) = place.iterdir()
            assert len(list(folder.glob("*.job"))) == 2, "the first and the third are at work"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_place_that_cannot_be_used_is_told_with_the_way_out(place: Path, kind: str) -> None:
    folder = jobs._meeting_place()
    folder.rmdir()
    if kind == "file":
        folder.touch()
    else:
        folder.symlink_to(place)
    with pytest.raises(UserError, match=r"codejoule-.*CODEJOULE_LOCK_DIR=/path"), somebody_else():
        pass
