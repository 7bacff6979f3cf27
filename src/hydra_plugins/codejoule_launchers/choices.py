"""Which launcher a name means where another package has one of the same name."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin

from codejoule.config import conf_folder


class OwnLaunchers(SearchPathPlugin):
    """Launchers in codejoule's conf/hydra/launcher hide others of their names, those of Hydra's own
    plugins. Hydra 1.3 takes what such a plugin has registered for the schema of our file, which it
    is not."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra when all plugins have registered theirs."""
        others = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
        for file in (conf_folder() / "hydra" / "launcher").glob("*.yaml"):
            others.pop(file.name, None)
