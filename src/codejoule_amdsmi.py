"""Makes ``import amdsmi`` raise ImportError where it fails.

Zeus requires amdsmi, which reads the energy of AMD's GPUs. Without ROCm, importing it prints two
lines and raises KeyError (6.4 to 7.0.2). Whoever asks whether it is there expects ImportError: Ray
does (2.60), and then neither ``import ray`` nor ``ray start`` nor Ray's workers would work in an
environment that has both. So this is done when Python starts, by ``codejoule_amdsmi.pth``.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

NAME = "amdsmi"


class Finder:
    """Finds amdsmi alone, where it is."""

    @staticmethod
    def find_spec(
        name: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by Python for whatever is imported."""
        if name != NAME or (found := PathFinder.find_spec(name)) is None:
            return None
        found.loader = _Loader(found.loader)  # type: ignore[assignment]
        return found


class _Loader:
    """The loader that there is, with another error."""

    def __init__(self, usual: object) -> None:
        self._usual = usual

    def __getattr__(self, name: str) -> object:
        return getattr(self._usual, name)

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual kind of module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        from contextlib import redirect_stdout
        from io import StringIO

        said = StringIO()
        try:
            with redirect_stdout(said):
                self._usual.exec_module(module)  # type: ignore[attr-defined]
        except ImportError:
            raise
        except Exception as error:
            raise ImportError(f"{said.getvalue().strip()} ({error!r})", name=NAME) from error


def install() -> None:
    """Have Python ask `Finder` first; may be called repeatedly."""
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)
