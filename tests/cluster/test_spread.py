"""Samples judged on the nodes of a real Ray cluster."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from codejoule.config import UserError
from codejoule.config.schema import EvaluatorConfig, EvaluatorSpread, MeterConfig, MeterName
from codejoule.domain import JudgedSample
from codejoule.evaluation import Sample, canonical_sample, judge
from codejoule.suites import load_suite_named
from codejoule.tracking.entries import Judged, SandboxSetUp
from tests.cluster.ray_nodes import RayNodes

pytestmark = pytest.mark.cluster
SHARD = 4


@pytest.fixture
def nodes(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayNodes]:
    """A cluster of this test's own, for one of its nodes is killed."""
    pytest.importorskip("ray", reason="pip install 'codejoule[ray]'")
    # A short name: the path of a socket must be.
    (place / "spread").mkdir()
    found = RayNodes(place / "spread", nodes=2)
    for name, value in found.env.items():
        monkeypatch.setenv(name, value)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def samples(count: int) -> list[Sample]:
    """Right and wrong ones by turns, whose tests take a second."""
    made = []
    for number, task in enumerate(load_suite_named("starter").tasks[:count]):
        right = canonical_sample(task)
        made.append(
            Sample(
                task_id=right.task_id,
                sample=0,
                solution=right.solution if number % 2 else "def nothing(): pass",
                code_prompt=right.code_prompt,
                test=f"import time\ntime.sleep(1)\n{right.test}",
            )
        )
    return made


def spread(todo: list[Sample], address: str | None = None) -> list[JudgedSample]:
    """Their verdicts by the cluster, in the order in which they came."""
    from codejoule.experiment.evaluation_stage import Bench
    from codejoule.experiment.spread import judge_on_ray

    entries: list[Judged | SandboxSetUp] = []
    evaluator = EvaluatorConfig(
        spread=EvaluatorSpread.ray, address=address or "auto", shard_samples=SHARD
    )
    bench = Bench(
        name="test", tasks=(), evaluator=evaluator, meter=MeterConfig(name=MeterName.cpu_estimate),
        timeout_s=20.0,
    )  # fmt: skip
    judge_on_ray(todo, bench, keep=entries.append, on_verdict=lambda _: None)
    judged = [entry for entry in entries if isinstance(entry, Judged)]
    assert {entry.source.value for entry in judged} == {"estimate"}
    assert all(entry.host and entry.cpu for entry in judged)
    return [verdict for entry in judged for verdict in entry.verdicts]


def test_a_lost_node_s_samples_and_no_others_are_judged_again_elsewhere(
    nodes: RayNodes, caplog: pytest.LogCaptureFixture
) -> None:
    todo = samples(16)
    expected = judge(todo, config=EvaluatorConfig(), timeout_s=20.0)
    assert Counter(verdict.status.value for verdict in expected) == {"pass": 8, "fail": 8}
    kill = threading.Timer(4.0, nodes.kill_node, [2])
    kill.start()
    with caplog.at_level(logging.WARNING, "codejoule"):
        found = spread(todo)
    kill.join()
    keys = [(verdict.task_id, verdict.sample) for verdict in found]
    assert len(keys) == len(set(keys)) == len(todo), "each was kept once"
    by_task = {verdict.task_id: verdict for verdict in found}
    for theirs in expected:
        ours = by_task[theirs.task_id]
        assert (ours.status, ours.reason) == (theirs.status, theirs.reason)
        assert ours.energy_j is not None and ours.energy_j > 0
    (lost,) = [
        r.getMessage() for r in caplog.records if "was lost while it judged" in r.getMessage()
    ]
    assert f"judged {SHARD} samples, which are judged again" in lost
    nodes.add_node()
    assert len(spread(samples(SHARD))) == SHARD, "a node that joins is used"


def test_without_a_cluster_it_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="pip install 'codejoule[ray]'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=r"evaluator\.address=auto: .*Start a cluster \(ray start"):
        spread(samples(1))
