"""Samples judged on the nodes of a real Ray cluster."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from codejoule.config.schema import EvaluatorConfig
from codejoule.evaluation import judge
from tests.cluster.ray_nodes import RayNodes
from tests.cluster.spread import SHARD, TIMEOUT_S, samples

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def nodes(place: Path) -> Iterator[RayNodes]:
    """A cluster of this test's own, for one of its nodes is killed."""
    pytest.importorskip("ray", reason="pip install 'codejoule[ray]'")
    # A short name: the path of a socket must be.
    (place / "spread").mkdir()
    found = RayNodes(place / "spread", nodes=2)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def spread(count: int, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.cluster.spread", str(count)],
        cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def judged(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_a_lost_node_s_samples_and_no_others_are_judged_again_elsewhere(nodes: RayNodes) -> None:
    todo = samples(24)
    expected = judge(todo, config=EvaluatorConfig(), timeout_s=TIMEOUT_S)
    assert Counter(verdict.status.value for verdict in expected) == {"pass": 12, "fail": 12}

    def kill_while_it_judges() -> None:
        at_work = False
        while not at_work:
            time.sleep(0.05)
            with suppress(psutil.NoSuchProcess):  # another of the node's has just ended
                at_work = bool(nodes.workers(2, "_judge_shard"))
        time.sleep(0.5)
        nodes.kill_node(2)

    kill = threading.Thread(target=kill_while_it_judges, daemon=True)
    kill.start()
    done = spread(24, nodes.env)
    kill.join(10)
    assert not kill.is_alive()
    entries = judged(done)
    assert {entry["source"] for entry in entries} == {"estimate"}
    assert all(entry["host"] and entry["cpu"] for entry in entries)
    found = [verdict for entry in entries for verdict in entry["verdicts"]]
    by_task = {verdict["task_id"]: verdict for verdict in found}
    assert len(by_task) == len(found) == len(todo), "each was kept once"
    for theirs in expected:
        ours = by_task[theirs.task_id]
        assert (ours["status"], ours["reason"]) == (theirs.status.value, theirs.reason)
        assert ours["energy_j"] > 0
    assert done.stderr.count("was lost while it judged") == 1, done.stderr
    assert f"judged {SHARD} samples, which are judged again" in done.stderr
    assert judged(spread(SHARD, nodes.env)), "the rest of a cluster that has lost a node is used"


def test_without_a_cluster_it_is_told_how_to_get_one() -> None:
    pytest.importorskip("ray", reason="pip install 'codejoule[ray]'")
    done = spread(1, {"RAY_ADDRESS": "127.0.0.1:1"})
    assert done.returncode == 1
    said = "evaluator.address=auto: nobody answers at 127.0.0.1:1"
    assert said in done.stderr and "Start a cluster (ray start" in done.stderr
