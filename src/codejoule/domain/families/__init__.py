"""Architecture families, one module each: a module here with a ``FAMILY`` is one."""

from importlib import import_module
from pkgutil import iter_modules

from codejoule.domain.architecture import FAMILIES

__all__ = ["FAMILIES"]

for _module in iter_modules(__path__):
    _family = import_module(f"{__name__}.{_module.name}").FAMILY
    FAMILIES[_family.model_type] = _family
