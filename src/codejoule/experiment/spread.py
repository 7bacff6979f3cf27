"""Judging on the nodes of a Ray cluster (``evaluator=ray``), each with its own sandbox workers."""

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from codejoule.common.progress import doing
from codejoule.config import UserError, python_path
from codejoule.config.extras import require_choice
from codejoule.domain import Verdict
from codejoule.evaluation import Sample, environment_facts
from codejoule.experiment.evaluation_stage import Bench, judge_here
from codejoule.tracking.entries import Judged, SandboxSetUp

_log = logging.getLogger(__name__)

_LOOK_S = 5.0
"""How often is looked for nodes that have joined [s]."""
_REACH_S = 10.0
"""How long the head may take to answer [s]."""
_MOST_LOSSES = 3
"""How often a shard may be lost: what loses it may be in it."""


def judge_on_ray(
    samples: Sequence[Sample],
    bench: Bench,
    *,
    keep: Callable[[Judged | SandboxSetUp], None],
    on_verdict: Callable[[Verdict], None],
) -> None:
    """Judge `samples` in shards of ``evaluator.shard_samples``, one at a time on each node whose
    cores are free, and meter each node by its own counters. `keep` is given what a node has found
    when it ends a shard. A shard whose node is lost is judged again elsewhere. Raises `UserError`
    where there is no cluster, no node is left, or a node cannot judge or would judge otherwise than
    this machine."""
    require_choice("evaluator=ray")
    size = bench.evaluator.shard_samples
    shards = [_Shard(samples[first : first + size]) for first in range(0, len(samples), size)]
    facts = environment_facts(bench.evaluator)
    with _connected(bench.evaluator.address or "auto"):
        cluster = _Cluster(bench, facts)
        try:
            for entries in cluster.judge(shards):
                for entry in entries:
                    keep(entry)
                    for verdict in entry.verdicts if isinstance(entry, Judged) else ():
                        on_verdict(verdict)
        finally:
            cluster.cancel()


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Inside, this process is part of the cluster; a job that Ray runs is that anyway."""
    import ray

    if ray.is_initialized():
        yield
        return
    doing("connecting to Ray")
    try:
        _reach(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": python_path()},
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"evaluator.address={address}: {str(error).splitlines()[0]} Start a cluster (ray start "
            "--head here, ray start --address=HOST:6379 on each further node), name one that runs "
            "(evaluator.address=HOST:6379), or judge on this machine (evaluator=sandbox)"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise ConnectionError where nobody listens at HOST:PORT: Ray would try for minutes (2.60)."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except OSError as error:
        raise ConnectionError(f"nobody answers at {host}:{port} ({error}).") from error


@dataclass(slots=True, eq=False)
class _Shard:
    """Samples that a node judges in one go."""

    samples: Sequence[Sample]
    """Those samples."""
    losses: int = 0
    """How often a node was lost with it."""


@dataclass(slots=True)
class _Cluster:
    """The nodes, and what each of them judges."""

    bench: Bench
    facts: Mapping[str, Any]
    """What runs the samples here, and must there."""
    running: dict[Any, tuple[_Shard, Mapping[str, Any]]] = field(default_factory=dict)
    """Each task of Ray's with its shard and its node."""
    lost: set[str] = field(default_factory=set)
    """Nodes that are gone, by their ids: for a while Ray lists them as alive. One that comes back
    has another id."""

    def judge(self, shards: Sequence[_Shard]) -> Iterator[list[Judged | SandboxSetUp]]:
        """What was found of each shard, as they end."""
        import ray

        waiting = deque(shards)
        while waiting or self.running:
            self._hand_out(waiting)
            if not self.running:
                left = sum(len(shard.samples) for shard in waiting)
                raise UserError(
                    f"Ray: no node with cores is left, and {left} samples are not judged; verdicts "
                    "so far are kept, and the same command continues when there are nodes"
                )
            ended, _ = ray.wait(list(self.running), num_returns=1, timeout=_LOOK_S)
            for task in ended:
                shard, node = self.running.pop(task)
                entries = self._entries(task, shard, node)
                if entries is None:
                    waiting.appendleft(shard)
                else:
                    yield entries

    def cancel(self) -> None:
        """End what is still running."""
        import ray

        for task in self.running:
            ray.cancel(task, force=True)

    def _hand_out(self, waiting: deque[_Shard]) -> None:
        """Give each node that has none the next shard."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        taken = {node["NodeID"] for _, node in self.running.values()} | self.lost
        own = _own_cores()
        for node in ray.nodes():
            cores = node["Resources"].get("CPU", 0.0) - own[node["NodeID"]]
            if not waiting or not node["Alive"] or node["NodeID"] in taken or cores <= 0:
                continue
            # All of them: what else runs there would be in the node's energy.
            task = ray.remote(_judge_shard).options(
                num_cpus=cores,
                max_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )
            shard = waiting.popleft()
            self.running[task.remote(list(shard.samples), self.bench, self.facts)] = (shard, node)

    def _entries(
        self, task: Any, shard: _Shard, node: Mapping[str, Any]
    ) -> list[Judged | SandboxSetUp] | None:
        """What a task has found; None where it was lost."""
        import ray

        host = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        try:
            found: list[Judged | SandboxSetUp] = ray.get(task)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ImportError):
                raise UserError(
                    f"Ray's node {host}: {cause}; install codejoule[ray] there, as it is here"
                ) from error
            if isinstance(cause, ValueError | RuntimeError | OSError):
                raise UserError(f"Ray's node {host}: {cause}") from error
            raise
        except ray.exceptions.RayError as error:
            of_the_worker = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError)
            if not isinstance(error, of_the_worker):
                self.lost.add(node["NodeID"])
            if isinstance(error, ray.exceptions.TaskUnschedulableError):
                return None  # it was gone before the shard began
            shard.losses += 1
            if shard.losses > _MOST_LOSSES:
                tasks = ", ".join(dict.fromkeys(sample.task_id for sample in shard.samples))
                raise UserError(
                    f"Ray: {len(shard.samples)} samples ({tasks}) were lost {shard.losses} times, "
                    f"the last time with {host}: {_first_line(error)}"
                ) from error
            _log.warning(
                "Ray's node %s was lost while it judged %d samples, which are judged again: %s",
                host, len(shard.samples), _first_line(error),
            )  # fmt: skip
            return None
        return found


def _own_cores() -> Counter[str]:
    """The cores of a node that this process has itself, by the node's id: it may be a job of
    Ray's."""
    import ray

    context = ray.get_runtime_context()
    if context.worker.mode != ray.WORKER_MODE:
        return Counter()
    return Counter({context.get_node_id(): context.get_assigned_resources().get("CPU", 0)})


def _judge_shard(
    samples: Sequence[Sample], bench: Bench, facts: Mapping[str, Any]
) -> list[Judged | SandboxSetUp]:
    """The task: runs on a node."""
    own = environment_facts(bench.evaluator)
    if differing := sorted(name for name in facts if own[name] != facts[name]):
        raise UserError(
            f"other {' and '.join(differing)} than on the machine that asks, which may change "
            "verdicts; install the same versions of codejoule and of the evaluator's Python"
        )
    entries: list[Judged | SandboxSetUp] = []
    judge_here(samples, bench, keep=entries.append)
    return entries


def _first_line(error: Exception) -> str:
    return next(filter(str.strip, str(error).splitlines()), type(error).__name__)
