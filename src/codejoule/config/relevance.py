"""Which keys of a configuration can change a result."""

from codejoule.domain.engines import KEYS_OUTSIDE

_OUTSIDE = ("tracking", "sweep", "carbon", "cost", "gpu")
_OUTSIDE_KEYS = (
    "on_finished", "isolation", "preflight", "evaluator.workers", "evaluator.ground_truth",
    "model.license", "model.gated", "model.path", "suite.path", "suite.prompt_tokens",
    "suite.tasks", "suite.extends",
    "quant.cache_dir", "meter.on_metered_device", *(f"engine.{key}" for key in KEYS_OUTSIDE),
)  # fmt: skip
_LOCATING_KEYS = (
    "model.id", "model.revision", "model.quantized",
    "suite.limit", "suite.shuffle", "suite.task_ids", "suite.format",
    "suite.hub_id", "suite.hub_revision", "suite.hub_split", "suite.hub_file",
)  # fmt: skip


def is_setting(key: str) -> bool:
    """Whether the dotted `key`, such as ``batch.size``, is a setting of the experiment. Where
    results go, what is done with finished runs, which job comes first, what a kWh costs, how a
    model is licensed, in which folder things lie and what the estimator assumes are none."""
    return key.partition(".")[0] not in _OUTSIDE and not _among(key, _OUTSIDE_KEYS)


def is_relevant(key: str) -> bool:
    """Whether `key` is a setting that checksums of weights and tasks do not stand for."""
    return is_setting(key) and not _among(key, _LOCATING_KEYS)


def _among(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def flat(plain: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Nested dicts as one with dotted keys, ``model.name`` like an override."""
    row: dict[str, object] = {}
    for key, value in plain.items():
        if isinstance(value, dict) and value:
            row |= flat(value, f"{prefix}{key}.")
        else:
            row[f"{prefix}{key}"] = value
    return row
