"""What memory is left, as /proc and the control groups tell it."""

import os
import resource
from pathlib import Path

import pytest

from codejoule.sandbox.host_memory import HostMemory

GIB = 2**30
MEMINFO = "MemTotal: 67108864 kB\nMemFree: 1 kB\nMemAvailable: 33554432 kB\nCommitLimit: 4096 kB\n"
RESERVE = 2**30
"""Of a machine with 64 GiB."""
V2 = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "35 31 0:32 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    _write(tmp_path, {"proc/meminfo": MEMINFO, "proc/vmstat": "nr_free_pages 7\noom_kill 3\n"})
    return tmp_path


def _write(root: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content))


def _in_group(root: Path, mount: str, own: str) -> None:
    _write(root, {"proc/self/mountinfo": f"1 1 0:1 / / rw - ext4 a rw\n{mount}\n"})
    _write(root, {"proc/self/cgroup": f"8:pids:/other\n{own}\n"})


def _stat(inactive: int = 0, active: int = 0, slab: int = 0, before: str = "") -> str:
    return (
        f"anon 5\n{before}inactive_file {inactive}\n{before}active_file {active}\n"
        f"slab_reclaimable {slab}\n"
    )


def test_without_groups_the_machine_alone_counts(tree: Path) -> None:
    assert HostMemory(tree).available_bytes() == 32 * GIB - RESERVE
    assert HostMemory(tree).kills() == 3


def test_the_machine_that_runs_this_has_memory() -> None:
    assert HostMemory().available_bytes() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert HostMemory().kills() >= 0


@pytest.mark.parametrize("limited", ["", "/job", "/job/step"])
@pytest.mark.parametrize("file", ["memory.max", "memory.high"])
def test_a_limit_of_any_group_above_counts(tree: Path, limited: str, file: str) -> None:
    _in_group(tree, V2, "0::/job/step")
    for group in ("", "/job", "/job/step"):
        folder = f"sys/fs/cgroup{group}"
        stat = _stat(inactive=GIB, active=GIB // 2, slab=GIB // 2)
        _write(tree, {f"{folder}/memory.current": 3 * GIB, f"{folder}/memory.stat": stat})
        _write(tree, {f"{folder}/memory.max": "max", f"{folder}/memory.high": "max"})
    _write(tree, {f"sys/fs/cgroup{limited}/{file}": 4 * GIB})
    assert HostMemory(tree).available_bytes() == 3 * GIB - 4 * GIB // 16


@pytest.mark.parametrize(
    ("top", "path", "folder"),
    [
        ("/", "/slurm/job_7", "slurm/job_7"),
        ("/docker/abc", "/docker/abc", "."),
        ("/docker/abc", "/docker/abc/inner", "inner"),
        # What a container is told that cannot see its own group.
        ("/", "/../../elsewhere", "."),
        ("/docker/abc", "/kubepods/pod", "."),
    ],
)
def test_version_1_is_read_wherever_it_is_mounted(
    tree: Path, top: str, path: str, folder: str
) -> None:
    _in_group(tree, V1.format(top=top), f"4:memory:{path}")
    group = f"sys/fs/cgroup/memory/{folder}"
    stat = _stat(inactive=9 * GIB, active=9 * GIB) + _stat(GIB // 2, GIB // 2, before="total_")
    _write(tree, {f"{group}/memory.limit_in_bytes": 4 * GIB, f"{group}/memory.stat": stat})
    _write(tree, {f"{group}/memory.usage_in_bytes": 2 * GIB})
    assert HostMemory(tree).available_bytes() == 3 * GIB - 4 * GIB // 16
    _write(tree, {f"{group}/memory.limit_in_bytes": 2**63 - 4096})
    assert HostMemory(tree).available_bytes() == 32 * GIB - RESERVE


def test_less_than_the_reserve_is_below_nothing(tree: Path) -> None:
    _in_group(tree, V2, "0::/")
    _write(tree, {"sys/fs/cgroup/memory.max": GIB, "sys/fs/cgroup/memory.current": GIB - 2**20})
    assert HostMemory(tree).available_bytes() == 2**20 - 2**26


@pytest.mark.parametrize(
    ("mount", "own", "file"),
    [
        (V2, "0::/a/b", "sys/fs/cgroup/a/b/memory.events"),
        (V2, "0::/a/b", "sys/fs/cgroup/a/memory.events"),
        (V1.format(top="/"), "4:memory:/a/b", "sys/fs/cgroup/memory/a/b/memory.oom_control"),
    ],
)
def test_kills_are_those_of_our_groups_where_they_count_them(
    tree: Path, mount: str, own: str, file: str
) -> None:
    _in_group(tree, mount, own)
    _write(tree, {file: "low 1\noom 9\noom_kill 5\n"})
    assert HostMemory(tree).kills() == 5


def test_address_space_is_bounded_by_a_limit_and_by_strict_accounting(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5, resource.RLIM_INFINITY))
    assert HostMemory(tree).promised_bytes() is None
    _write(tree, {"proc/sys/vm/overcommit_memory": "2\n"})
    assert HostMemory(tree).promised_bytes() == 4096 * 1024
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5, 7))
    assert HostMemory(tree).promised_bytes() == 7
