"""Where Hydra finds choices beyond codejoule's own: models by their place, and the user's conf/."""

from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from codejoule.config.installation import own_conf
from codejoule.config.own_model import fields_of, is_own_model

_GROUP = "model/"


class OwnModels(ConfigSource):
    """Choices of `model` that are a folder, a GGUF file or a repository of the hub. Each is made
    when Hydra asks for it, so it is swept, printed and overridden like a file of conf/model."""

    @staticmethod
    def scheme() -> str:
        """What its entry of the search path begins with."""
        return "codejoule-models"

    def is_config(self, config_path: str) -> bool:
        """Whether the path is `model` and such a word, which may begin with a slash itself."""
        return config_path.startswith(_GROUP) and is_own_model(config_path[len(_GROUP) :])

    def load_config(self, config_path: str) -> ConfigResult:
        """What a file in conf/model would say of it."""
        word = config_path[len(_GROUP) :]
        defaults = ["/base/model@_here_", "_self_"]
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://{word}",
            config=OmegaConf.create({"defaults": defaults, **fields_of(word)}),
            header={"package": None},
        )

    def is_group(self, config_path: str) -> bool:
        """It has no groups of its own."""
        return False

    def available(self) -> bool:
        """It is always there."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Nothing: nobody can list all models."""
        return []


class OwnChoices(SearchPathPlugin):
    """Adds `OwnModels` and the folder ``conf`` of the working directory to the search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append both, so that codejoule's own files are found first."""
        entries: dict[str, Any] = {"codejoule-models": f"{OwnModels.scheme()}://"}
        if (folder := own_conf()) is not None:
            entries["own conf"] = f"file://{folder}"
        for provider, path in entries.items():
            search_path.append(provider, path)
