"""The hash of everything that can change a run's result."""

import hashlib
import json
import platform
from collections.abc import Mapping

from codejoule.config import installed_versions
from codejoule.config.relevance import flat, is_relevant
from codejoule.config.schema import ExperimentConfig
from codejoule.config.typed import to_plain
from codejoule.domain import METHODS

_LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "zeus",
    "triton",
    *dict.fromkeys(name for facts in METHODS.values() for name in facts.libraries),
)


def fingerprint(experiment: ExperimentConfig, found: Mapping[str, object]) -> str:
    """Hash (hex, 16 bytes) by which a run is known again.

    `found` holds what this machine made of the configuration: checksums of weights, tasks and
    prompts, the device and its name, threads, energy sources, limits in force. It takes the
    place of the keys that asked for it, so that ``device=auto`` and ``device=cpu`` are one run
    where they mean the same. The git commit and output paths are left out on purpose: a finished
    run stays finished when the project moves on.
    """
    asked = {key: value for key, value in flat(to_plain(experiment)).items() if is_relevant(key)}
    facts = {
        "asked": {key: value for key, value in asked.items() if key not in found},
        "found": dict(found),
        "python": platform.python_version(),
        "libraries": installed_versions(_LIBRARIES),
    }
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
