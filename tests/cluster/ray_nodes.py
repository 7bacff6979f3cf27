"""A Ray cluster of several nodes on this host's loopback."""

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.cluster.services import Services, free_port

_RAY = Path(sys.executable).with_name("ray")
_STORE_BYTES = 100 * 2**20
# Ray takes 127.0.0.1 for another address of this host; these are loopback, too.
_HOST = "127.0.0.{}"


class RayNodes:
    """The cluster, running from `start` to `stop`; each node has `cpus_per_node` cores."""

    def __init__(self, folder: Path, *, nodes: int, cpus_per_node: int = 1) -> None:
        self.services = Services(folder)
        self.address = f"{_HOST.format(2)}:{free_port()}"
        # Its ports are open on all of this host's addresses.
        self.env = {
            "RAY_ADDRESS": self.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        self._folder = folder
        self._cpus = cpus_per_node
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._wanted = nodes

    def start(self) -> None:
        """Start the head, which takes no jobs, and the nodes."""
        port = self.address.rpartition(":")[2]
        self._start("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false",
                    f"--temp-dir={self._folder / 'ray'}")  # fmt: skip
        for _ in range(self._wanted):
            self.add_node()

    def add_node(self) -> None:
        """Start one more node."""
        self._start(f"--address={self.address}", f"--num-cpus={self._cpus}")

    def stop(self) -> None:
        """End all nodes."""
        self.services.stop()

    def workers(self, node: int, task: str = "_run") -> list[psutil.Process]:
        """The processes of a node (1, 2, ...) that run a job, or another task."""
        family = psutil.Process(self._nodes[node].pid).children(recursive=True)
        return [each for each in family if each.cmdline()[:1] == [f"ray::{task}"]]

    def kill_node(self, node: int) -> None:
        """End a node and all that runs on it at once, as a machine that loses its power."""
        process = psutil.Process(self._nodes[node].pid)
        for member in [process, *process.children(recursive=True)]:
            member.send_signal(signal.SIGKILL)
        self._nodes[node].wait()
        self.services.forget(self._nodes[node])

    def _start(self, *options: str) -> None:
        number = len(self._nodes)
        host = _HOST.format(2 + number)
        self._nodes.append(
            self.services.start(
                f"node{number}",
                [_RAY, "start", "--block", f"--node-ip-address={host}", *options,
                 f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats"],
                cwd=self._folder,
                env=self._whole_env(),
            )
        )  # fmt: skip
        # One after the other: two at once on one host hinder each other.
        self.services.wait_for(f"node {number}", lambda: host in self._alive(), within_s=120)

    def _whole_env(self) -> dict[str, str]:
        # `ray start` joins a cluster only if it is told so, with the option.
        return {**os.environ, **self.env, "RAY_ADDRESS": ""}

    def _alive(self) -> list[str]:
        """The addresses of the nodes that the head takes for alive."""
        done = subprocess.run(
            [sys.executable, "-c", _ALIVE, self.address],
            env=self._whole_env(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.split()


_ALIVE = """
import sys
from ray._raylet import GcsClient
nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5)
print(*(node.node_manager_address for node in nodes.values() if node.state == 0))
"""
