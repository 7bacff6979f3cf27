"""The choices of a group of ``conf/``."""

from typing import TypeVar

from codejoule.config.paths import project_root

_Schema = TypeVar("_Schema")


def choices(group: str, schema: type[_Schema], *, without: str | None = None) -> list[_Schema]:
    """Every choice of a group of ``conf/``, typed, in the order of their names."""
    from omegaconf import DictConfig, OmegaConf

    found = []
    for path in sorted((project_root() / "conf" / group).glob("*.yaml")):
        if path.stem == without:
            continue
        file = OmegaConf.load(path)
        assert isinstance(file, DictConfig)
        file.pop("defaults", None)
        choice = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), file))
        assert isinstance(choice, schema)
        found.append(choice)
    return found
