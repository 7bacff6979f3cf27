"""What a correct program costs in energy: code LLMs measured with Hydra, Zeus and MLflow.

What stands in ``__all__`` is the public interface, which `codejoule.api` describes. It is imported
when it is first used, so that ``import codejoule`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codejoule.api import (
        Analysis,
        ConfigError,
        EnergyReading,
        Forecast,
        Run,
        Sandbox,
        UserError,
        Verdict,
        Window,
        analyze,
        judge,
        measure,
        predict,
        run,
    )

__version__ = "0.1.0"

__all__ = [
    "Analysis",
    "ConfigError",
    "EnergyReading",
    "Forecast",
    "Run",
    "Sandbox",
    "UserError",
    "Verdict",
    "Window",
    "analyze",
    "judge",
    "measure",
    "predict",
    "run",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'codejoule' has no attribute {name!r}")
    return getattr(import_module("codejoule.api"), name)
