"""The only place where untyped configuration becomes typed objects."""

from codejoule.config.errors import ConfigError, UserError, first_line
from codejoule.config.imports import importing
from codejoule.config.paths import project_root, user_cache
from codejoule.config.versions import installed_versions
from codejoule.config.writing import full_disk, require_room, write_whole

__all__ = [
    "ConfigError",
    "UserError",
    "first_line",
    "full_disk",
    "importing",
    "installed_versions",
    "project_root",
    "require_room",
    "user_cache",
    "write_whole",
]
