"""Processes that change a run's energy: those of a server, and others on its GPUs."""

import ipaddress
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from codejoule.config import UserError

if TYPE_CHECKING:
    from codejoule.measurement.hardware import Gpu, Hardware

logger = logging.getLogger(__name__)


def family(owner: int) -> set[int]:
    """`owner` and its descendants, as process ids of this namespace."""
    import psutil

    try:
        children = psutil.Process(owner).children(recursive=True)
    except psutil.NoSuchProcess:
        return {owner}
    return {owner, *(child.pid for child in children)}


def _computing_on(handle: Any) -> list[int]:
    """Ids of the processes on one GPU; none where the driver does not list them."""
    import pynvml

    try:
        return [each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    except pynvml.NVMLError:
        return []


def foreign_processes(handle: Any, owners: Sequence[int]) -> list[int]:
    """Processes that compute on one GPU now, beside `owners` and their descendants."""
    pids = _computing_on(handle)
    if all(pid in owners for pid in pids):
        return []
    return foreign_among(pids, {member for owner in owners for member in family(owner)})


def foreign_among(listed: Sequence[int], own: set[int]) -> list[int]:
    """The ids in `listed` that are not our own. In a container the driver may list ids of the host,
    or 0, which cannot be matched with ours: if none matches, one of them is taken to be ours, and
    only the others are foreign."""
    import psutil

    others = [pid for pid in listed if pid not in own]
    if others and len(others) == len(listed):
        unknown = [pid for pid in others if pid == 0 or not psutil.pid_exists(pid)]
        if unknown:
            others.remove(unknown[0])
    return others


def in_use(gpus: Sequence["Gpu"]) -> set[str]:
    """UUIDs of those on which processes compute that this one has not started; none where the
    driver does not tell."""
    own = family(os.getpid())
    with _driver():
        return {gpu.uuid for gpu in gpus if not own.issuperset(_computing_on(_handle(gpu)))}


@contextmanager
def _driver() -> Iterator[None]:
    """NVML answers inside; a machine without it has no GPU to ask about."""
    import pynvml

    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _handle(gpu: "Gpu") -> Any:
    import pynvml

    return pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)


def mapped_by(pids: Sequence[int], file: Path) -> tuple[int, ...]:
    """Those of the processes, and of their descendants, that have `file` mapped into their memory,
    as llama.cpp has the weights that it computes with. Of a process of another user that is not
    known, and it is left out."""
    import psutil

    found = []
    for pid in sorted({member for owner in pids for member in family(owner)}):
        try:
            maps = {Path(each.path) for each in psutil.Process(pid).memory_maps()}
        except psutil.Error:
            continue
        if any(path.name == file.name and path.exists() and path.samefile(file) for path in maps):
            found.append(pid)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProcesses:
    """The processes that answer at an address of this machine."""

    pids: tuple[int, ...]
    """Those that listen there; empty where the system does not tell (another user's, another
    container's)."""
    gpus: tuple[int, ...]
    """The GPUs that they compute on, by PyTorch's numbers; all visible ones where the driver
    does not tell; empty where there is none."""


def find_server(url: str, hardware: "Hardware") -> ServerProcesses:
    """The processes behind `url`. Raises `UserError` for an address of another machine, whose
    energy is not counted here."""
    host, port = _address(url)
    pids = _listening(port)
    own = sorted({member for pid in pids for member in family(pid)})
    found: tuple[int, ...] = ()
    if hardware.gpus:
        with _driver():
            found = tuple(
                number
                for number, gpu in enumerate(hardware.gpus)
                if not set(own).isdisjoint(_computing_on(_handle(gpu)))
            )
    if hardware.gpus and not found:
        logger.warning(
            "engine=server: the driver does not say on which GPU the server at %s:%d computes "
            "(another user's or container's process, or a server on the CPU); all %d visible "
            "GPUs are metered. Hide those that it does not use with CUDA_VISIBLE_DEVICES",
            host,
            port,
            len(hardware.gpus),
        )
        found = tuple(range(len(hardware.gpus)))
    return ServerProcesses(pids=tuple(sorted(pids)), gpus=found)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in ("http", "https") or host is None:
        raise UserError(
            f"engine.url={url}: not an address of a server; write it like http://127.0.0.1:8000/v1"
        )
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise UserError(f"engine.url={url}: the host {host} is not known ({error})") from error
    if not addresses <= _own_addresses():
        raise UserError(
            f"engine.url={url}: {host} is not this machine, and the energy of another cannot be "
            "metered here; run codejoule on the machine of the server"
        )
    return host, parts.port or (443 if parts.scheme == "https" else 80)


def _own_addresses() -> set[str]:
    import psutil

    cards = [address.address for card in psutil.net_if_addrs().values() for address in card]
    own = {address.partition("%")[0] for address in cards}
    return own | {f"127.0.0.{n}" for n in range(1, 255)} | {str(ipaddress.IPv6Address(1))}


def _listening(port: int) -> set[int]:
    import psutil

    try:
        sockets = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return set()
    return {
        found.pid
        for found in sockets
        if found.status == psutil.CONN_LISTEN
        and found.laddr
        and found.laddr.port == port
        and found.pid
    }
