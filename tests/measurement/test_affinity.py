"""The sampler keeps off the core that decodes: real affinities of a real child process."""

import os
import subprocess
import sys

import pytest

CODE = """
import os, threading, time
from codejoule.measurement.recorder import Affinity
done = threading.Event()
thread = threading.Thread(target=done.wait)
thread.start()
cores = sorted(os.sched_getaffinity(0))
where = iter([cores[0], cores[0], cores[-1], None])
keep_off = Affinity(1, core_of=lambda pid: next(where))
for _ in range(4):
    keep_off()
    of_threads = [os.sched_getaffinity(int(t)) for t in os.listdir("/proc/self/task")]
    assert len(of_threads) > 1
    print(*(any(core in own for own in of_threads) for core in (cores[0], cores[-1])))
done.set()
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores to choose from")
def test_all_its_threads_leave_the_core_of_the_owner_and_follow_it() -> None:
    out = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    ).stdout
    # Whether any thread may use the first core, and the last.
    assert out.splitlines() == [
        "False True",
        "False True",
        "True False",
        "True False",
    ]


def test_with_a_single_core_nothing_changes() -> None:
    core = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{core}}});"
        "from codejoule.measurement.recorder import Affinity;"
        "Affinity(os.getpid())(); print(os.sched_getaffinity(0))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == f"{{{core}}}"
