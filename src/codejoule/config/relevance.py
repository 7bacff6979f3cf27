"""Which keys of a configuration can change a result."""

from collections.abc import Mapping

from codejoule.domain.engines import KEYS_OUTSIDE

_OUTSIDE = ("tracking", "sweep", "carbon", "cost", "gpu", "finetune")
_OUTSIDE_KEYS = (
    "on_finished", "on_other_gpu", "isolation", "preflight", "progress",
    "evaluator.workers", "evaluator.ground_truth", "evaluator.spread",
    "evaluator.address", "evaluator.shard_samples", "stage",
    "model.license", "model.gated", "model.path", "suite.path", "suite.prompt_tokens",
    "suite.answer_tokens", "suite.tasks", "suite.extends",
    "quant.cache_dir", "meter.on_metered_device", *(f"engine.{key}" for key in KEYS_OUTSIDE),
)  # fmt: skip
_LOCATING_KEYS = (
    "model.id", "model.revision", "model.quantized",
    "suite.limit", "suite.shuffle", "suite.task_ids", "suite.format",
    "suite.hub_id", "suite.hub_revision", "suite.hub_split", "suite.hub_file",
    "model.adapter", "model.merge_adapter",
)  # fmt: skip

_OFF = {"quant": "none", "evaluator": "none", "gpu": "detected"}
"""The choice of a group with which its other keys do nothing."""
_OF_THE_STORE = (
    "tracking", "sweep", "stage", "finetune",
    "evaluator.spread", "evaluator.address", "evaluator.shard_samples",
)  # fmt: skip
"""Keys that say where a run is recorded, when it started, how far it went and which machines judged
it, which its place, its parent and its tags say, too; and how a model is trained, which a run that
trains has among its params."""
_USUAL = {"model.merge_adapter": ("True", True)}
"""Values that say nothing, of keys that have another than null for that."""
_EMPTY: tuple[object, ...] = (None, {}, [], "null", "{}", "[]")
"""Values that say nothing, in a configuration and as MLflow's texts."""


def is_setting(key: str) -> bool:
    """Whether the dotted `key`, such as ``batch.size``, is a setting of the experiment. Where
    results go, what is done with finished runs, which job comes first, what a kWh costs, how a
    model is licensed, in which folder things lie and what the estimator assumes are none."""
    return key.partition(".")[0] not in _OUTSIDE and not _among(key, _OUTSIDE_KEYS)


def is_relevant(key: str) -> bool:
    """Whether `key` is a setting that checksums of weights and tasks do not stand for."""
    return is_setting(key) and not _among(key, _LOCATING_KEYS)


def in_use(row: Mapping[str, object]) -> dict[str, object]:
    """What of a `flat` configuration says something of its run: values that are not null or empty,
    of groups that the run uses. The whole configuration is in the run's ``config.yaml``."""
    unused = tuple(group for group, off in _OFF.items() if row.get(f"{group}.name") == off)
    return {
        key: value
        for key, value in row.items()
        if value not in _EMPTY
        and value not in _USUAL.get(key, ())
        and not _among(key, _OF_THE_STORE)
        and not (
            key.startswith(tuple(f"{group}." for group in unused)) and not key.endswith(".name")
        )
    }


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
