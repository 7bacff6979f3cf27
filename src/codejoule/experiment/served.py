"""Runs on a server that is there already: nothing is loaded here, and nothing is proven."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codejoule.config import UserError
from codejoule.config.schema import ExperimentConfig
from codejoule.domain import EnergySource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from codejoule.generation import ServedModel
    from codejoule.measurement import Hardware, Meter, ServerProcesses
    from codejoule.tracking import Journal

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server of a run."""

    url: str
    """Its address."""
    model: "ServedModel"
    """What it says it serves."""
    processes: "ServerProcesses"
    """Its processes, and the GPUs that they use."""


def find_the_server(experiment: ExperimentConfig, hardware: "Hardware") -> Server:
    """The server at ``engine.url``; UserError where it cannot be used for a run."""
    from codejoule.generation import identify
    from codejoule.measurement import find_server

    url = experiment.engine.url
    assert url is not None
    processes = find_server(url, hardware)
    return Server(url=url, model=identify(experiment.engine), processes=processes)


def check_meter(server: Server, meter: "Meter") -> None:
    """UserError where the meter would count this process' energy and not the server's."""
    if meter.source is EnergySource.estimate and not server.processes.pids:
        raise UserError(
            f"engine.url={server.url}: the server's processes cannot be seen (another user's, or "
            "in another container), so their CPU time is not known and this machine has no "
            "energy counter; start the server as the same user, outside of containers"
        )


def record_server(
    server: Server,
    experiment: ExperimentConfig,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    meter: "Meter",
    journal: "Journal",
    device: str,
) -> None:
    """Put on record what stands in for a model that was loaded."""
    _log.warning(
        "%s serves %r (%s): its weights, dtype and quantization are taken on its word; "
        "model=%s and quant=%s are what you say they are",
        server.url,
        server.model.id,
        server.model.software,
        experiment.model.name,
        experiment.quant.name,
    )
    facts: dict[str, Any] = {
        "served": True,
        "proven": False,
        "served_model": server.model.id,
        "software": server.model.software,
        "claimed": {"model": experiment.model.name, "quant": experiment.quant.name},
        "tokenizer": type(tokenizer).__name__,
        "device": device,
        "dtype": "not proven",
        "kernels": {},
    }
    journal.append(
        "load",
        {
            "reading": None,
            "model": facts,
            "meter": {
                "source": meter.source.value,
                "scope": meter.scope.value,
                "devices": list(meter.devices),
            },
        },
    )
