"""The only place where untyped configuration becomes typed objects."""

from codejoule.config.errors import ConfigError, UserError, first_line
from codejoule.config.installation import (
    checkout,
    conf_folder,
    default_store,
    environments,
    home,
    installed_versions,
    program,
    python_path,
    settle_home,
    user_cache,
)
from codejoule.config.writing import (
    full_disk,
    nearest_folder,
    require_room,
    write_whole,
    writing_whole,
)

__all__ = [
    "ConfigError",
    "UserError",
    "checkout",
    "conf_folder",
    "default_store",
    "environments",
    "first_line",
    "full_disk",
    "home",
    "installed_versions",
    "nearest_folder",
    "program",
    "python_path",
    "require_room",
    "settle_home",
    "user_cache",
    "write_whole",
    "writing_whole",
]
