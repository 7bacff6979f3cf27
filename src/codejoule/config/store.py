"""Registers the schemas with Hydra, outside the groups.

A schema inside a group would be listed among the group's choices; here it stands under
``schema/`` and each YAML extends it with ``- /schema/GROUP@_here_``.
"""

from codejoule.config import schema


def register_schemas() -> None:
    """Make every schema known to Hydra as ``/schema/NAME``; may be called repeatedly."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    nodes = {
        "config": schema.ExperimentConfig,
        "model": schema.ModelConfig,
        "quant": schema.QuantConfig,
        "batch": schema.BatchConfig,
        "generation": schema.GenerationConfig,
        "engine": schema.EngineConfig,
        "suite": schema.SuiteConfig,
        "gpu": schema.GpuConfig,
        "meter": schema.MeterConfig,
        "evaluator": schema.EvaluatorConfig,
        "tracking": schema.TrackingConfig,
    }
    for name, node in nodes.items():
        store.store(group="schema", name=name, node=node, provider="codejoule")
