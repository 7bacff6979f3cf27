"""kill -9 at twenty random points: what is left at once, and what the continued run ends with."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.experiment.job import entries_of, left_by, run_main, runs_of, start_main
from tests.experiment.test_resume import BATCHES, OVERRIDES, SAMPLES, outcome
from tests.warm import Job

pytestmark = pytest.mark.slow

SEED = 20
SOON_S = 2.0
"""Everything that worked for a killed run is gone within this time, without any further start."""


@dataclass(frozen=True)
class Point:
    """Where a run is killed."""

    share: float
    """Of its journal's entries, or of those of judging."""
    judging: bool
    """Which of both."""
    later_s: float
    """After the entry is there: in the middle of what comes next."""
    group: bool
    """Whether all its processes are killed, or the first alone."""
    isolated: bool
    """Whether its model has a process of its own."""

    def entries(self, kinds: list[str]) -> int:
        """How many entries its journal then has, at least; `kinds` are those of a whole one."""
        first = kinds.index("verdicts") if self.judging else 0
        return int(first + self.share * (len(kinds) - first))

    def __str__(self) -> str:
        where = "judging" if self.judging else "any"
        who = "group" if self.group else "main"
        return f"{where}-{self.share:.2f}-{who}-{'isolated' if self.isolated else 'inline'}"


def points() -> Iterator[Point]:
    rng = random.Random(SEED)
    for number in range(20):
        yield Point(
            share=rng.random(),
            judging=number >= 15,
            later_s=rng.uniform(0, 0.03),
            group=rng.random() < 0.5,
            isolated=rng.random() < 0.5,
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]) -> Path:
    """What a run that nobody killed has left."""
    folder = with_database(tmp_path_factory.mktemp("whole"))
    done = run_main(folder, *OVERRIDES, **places(folder))
    assert done.returncode == 0, done.stderr
    return folder


def places(folder: Path) -> dict[str, str]:
    """Where the run may leave files beside its store."""
    found = {"TMPDIR": folder / "tmp", "CODEJOULE_LOCK_DIR": folder / "locks"}
    for place in found.values():
        place.mkdir(exist_ok=True)
    return {name: str(place) for name, place in found.items()}


def descendants(pid: int) -> set[tuple[int, str]]:
    """The process and all below it, each with its start."""
    parents: dict[int, list[int]] = {}
    starts: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        facts = stat(int(entry.name))
        if facts is not None:
            parents.setdefault(int(facts[1]), []).append(int(entry.name))
            starts[int(entry.name)] = facts[19]
    found, pending = set(), [pid]
    while pending:
        one = pending.pop()
        if one in starts:
            found.add((one, starts[one]))
        pending += parents.get(one, [])
    return found


def stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def alive(process: tuple[int, str]) -> bool:
    facts = stat(process[0])
    return facts is not None and facts[19] == process[1] and facts[0] not in "ZX"


def mounts_and_groups() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    mounts = {line.split()[4] for line in lines}
    return mounts | {str(group) for group in Path("/sys/fs/cgroup").glob("**/*codejoule*")}


def kill(job: Job, point: Point) -> float:
    """Kill it, and wait until everything that worked for it is gone; how long that took [s]."""
    family = descendants(job.pid)
    if point.group:
        os.killpg(job.pid, signal.SIGKILL)
    else:
        os.kill(job.pid, signal.SIGKILL)
    began_s = time.monotonic()
    job.wait(timeout=10)
    while left := [process for process in family if alive(process)]:
        assert time.monotonic() - began_s < SOON_S, f"{left} outlive the run by {SOON_S} s"
        time.sleep(0.005)
    return time.monotonic() - began_s


@pytest.mark.parametrize("point", points(), ids=str)
def test_a_run_killed_anywhere_leaves_nothing_behind_and_ends_like_one_never_killed(
    point: Point, whole: Path, store: Path
) -> None:
    overrides = (*OVERRIDES, f"isolation={'process' if point.isolated else 'inline'}")
    wanted = point.entries([entry["kind"] for entry in entries_of(whole)])
    before = mounts_and_groups()
    job = start_main(store, *overrides, new_session=True, **places(store))
    deadline = time.monotonic() + 120
    while len(entries_of(store)) < wanted and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(point.later_s)
    assert job.poll() is None, "the run ended before the point was reached"
    took_s = kill(job, point)
    done = entries_of(store)
    assert mounts_and_groups() <= before
    assert not list((store / "tmp").rglob("*"))

    again = run_main(store, *overrides, **places(store))
    assert again.returncode == 0, again.stderr
    assert outcome(store) == outcome(whole)
    final = entries_of(store)
    assert final[: len(done)] == done, "what was booked before the kill stays as it was"
    check_books(store, final)
    check_nothing_left(store)
    last = done[-1]["kind"] if done else "nothing"
    print(
        f"| {point} | {len(done)} of {len(final)} entries, last {last} | {took_s:.2f} s | "
        f"{sum(entry['kind'] == 'load' for entry in final)} |"
    )


def check_books(folder: Path, entries: list[dict[str, object]]) -> None:
    """Every window and verdict once, and sums that are those of the run."""
    kinds = [entry["kind"] for entry in entries]
    assert kinds.count("batch") == BATCHES
    assert kinds.count("verdicts") == SAMPLES
    (run,) = (run for run in runs_of("codejoule", folder) if run.info.status == "FINISHED")
    metrics = run.data.metrics
    assert run.data.tags["codejoule.sessions"] == str(kinds.count("load"))
    (windows,) = left_by("codejoule", folder, "windows.parquet")
    (rows,) = left_by("codejoule", folder, "tasks.parquet")
    tasks = pd.read_parquet(rows)
    assert not tasks.duplicated(["task_id", "sample"]).any()
    assert len(tasks) == SAMPLES
    generation_j = metrics["energy_generation_j"]
    assert pd.read_parquet(windows)["energy_j"].sum() == pytest.approx(generation_j)
    assert tasks["energy_j"].sum() == pytest.approx(generation_j)
    assert tasks["evaluation_energy_j"].sum() == pytest.approx(metrics["energy_evaluation_j"])


def check_nothing_left(folder: Path) -> None:
    """Neither journals nor temporary files, nor notes of processes, nor a run that seems to run."""
    assert not list(folder.glob("mlruns/journals/*/*/"))
    assert not list(folder.glob("mlruns/processes/*/*"))
    assert not list((folder / "tmp").rglob("*"))
    assert {run.info.status for run in runs_of("codejoule", folder)} == {"FINISHED"}
