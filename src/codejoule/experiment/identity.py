"""What a run is known by, and on what it ran."""

import dataclasses
import hashlib
import json
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from typing import Any

from codejoule.config import checkout, installed_versions
from codejoule.config.relevance import flat, is_relevant
from codejoule.config.schema import ExperimentConfig
from codejoule.config.typed import to_plain
from codejoule.domain import METHODS, Prompt
from codejoule.experiment.compile_caches import compile_caches
from codejoule.measurement import Hardware

_LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "zeus",
    "triton",
    *dict.fromkeys(name for facts in METHODS.values() for name in facts.libraries),
)


def fingerprint(experiment: ExperimentConfig, found: Mapping[str, object]) -> str:
    """Hash (hex, 16 bytes) of all that can change a run's result, by which it is known again.
    `found` holds what this machine made of the configuration: checksums of weights, tasks and
    prompts, the device and its name, threads, energy sources, limits in force. It takes the place
    of the keys that asked for it, so that ``device=auto`` and ``device=cpu`` are one run where they
    mean the same. The git commit and output paths are left out on purpose: a finished run stays
    finished when the project moves on."""
    asked = {key: value for key, value in flat(to_plain(experiment)).items() if is_relevant(key)}
    facts = {
        "asked": {key: value for key, value in asked.items() if key not in found},
        "found": dict(found),
        "python": platform.python_version(),
        "libraries": installed_versions(_LIBRARIES),
    }
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def prompts_checksum(prompts: Mapping[str, Prompt]) -> str:
    """SHA-256 (hex) over all that engines are given of the prompts."""
    facts = [dataclasses.astuple(prompt) for prompt in prompts.values()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def environment(hardware: Hardware) -> dict[str, Any]:
    """Hardware, operating system, Python and every installed distribution with its version."""
    # A distribution's metadata is parsed anew with each access.
    metadata = [distribution.metadata for distribution in distributions()]
    packages = {facts["Name"]: facts["Version"] for facts in metadata}
    packages |= installed_versions(["torch"])  # with its build, which the metadata may leave out
    return {
        "hardware": dataclasses.asdict(hardware),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": sys.version,
        "git_commit": git_commit(),
        "compile_caches": compile_caches(),
        "packages": dict(sorted(packages.items(), key=lambda pair: pair[0].lower())),
    }


def git_commit() -> str | None:
    """Commit of this checkout, ``-dirty`` behind it where files differ; None outside of one."""
    folder = checkout()
    if folder is None:
        return None
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or None
