"""The only place where untyped configuration becomes typed objects."""

from codejoule.config.errors import ConfigError, UserError, first_line
from codejoule.config.installation import installed_versions, project_root, user_cache
from codejoule.config.writing import full_disk, nearest_folder, require_room, write_whole

__all__ = [
    "ConfigError",
    "UserError",
    "first_line",
    "full_disk",
    "installed_versions",
    "nearest_folder",
    "project_root",
    "require_room",
    "user_cache",
    "write_whole",
]
