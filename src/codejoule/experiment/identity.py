"""What a run is known by, and on what it ran."""

import dataclasses
import hashlib
import json
import platform
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping
from importlib.metadata import distributions
from typing import Any

from codejoule.config import checkout, installed_versions
from codejoule.config.relevance import flat, is_relevant, is_setting
from codejoule.config.schema import ExperimentConfig, Stage
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


def identity(
    experiment: ExperimentConfig,
    found: Mapping[str, object],
    *,
    groups: Collection[str] | None = None,
) -> dict[str, Any]:
    """All that can change a run's result, as JSON has it. `found` holds what this machine made of
    the configuration: checksums of weights, tasks and prompts, the device and its name, threads,
    energy sources, limits in force. It takes the place of the keys that asked for it, so that
    ``device=auto`` and ``device=cpu`` are one run where they mean the same. The git commit and
    output paths are left out on purpose: a finished run stays finished when the project moves
    on. Where `groups` are given, no other part of the configuration can change anything."""
    asked = {
        key: value
        for key, value in flat(to_plain(experiment)).items()
        if is_relevant(key) and (groups is None or key.partition(".")[0] in groups)
    }
    facts = {
        "asked": {key: value for key, value in asked.items() if key not in found},
        "found": dict(found),
        "python": platform.python_version(),
        "libraries": installed_versions(_LIBRARIES),
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts, sort_keys=True, default=str))
    return plain


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Hash (hex, 16 bytes) of an `identity`, by which a run is known again."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def configuration(experiment: ExperimentConfig) -> str:
    """Hash (hex, 16 bytes) of what a configuration asks for, whichever machine makes what of it:
    the same command has the same on all of them."""
    asked = {
        key: value
        for key, value in flat(to_plain(experiment)).items()
        # A path, which another machine may have elsewhere. What is there is in the identity.
        if (is_setting(key) and key != "evaluator.python")
        or (experiment.stage is Stage.finetune and key.startswith("finetune."))
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


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
