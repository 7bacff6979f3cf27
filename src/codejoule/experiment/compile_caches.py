"""Where compiled code is kept, so that no job compiles what another one has."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from codejoule.config import user_cache


def keep_compiled_code() -> None:
    """Have torch.compile, Triton and gptqmodel keep what they compile in the user's cache, wherever
    the user has not said where. By themselves the first two keep it in ``/tmp`` and beside it."""
    for variable, folder in _usual().items():
        if variable in os.environ:
            continue
        with suppress(OSError):  # a home that cannot be written: as without us
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                os.environ[variable] = str(folder)


def compile_caches() -> Mapping[str, str | None]:
    """The folders in force, by the variable of the environment that names each; None for a
    library's own choice."""
    return {variable: os.environ.get(variable) for variable in _usual()}


def _usual() -> Mapping[str, Path]:
    return {
        "TORCHINDUCTOR_CACHE_DIR": user_cache() / "torchinductor",
        "TRITON_CACHE_DIR": user_cache() / "triton",
        # Its own choice: what it has compiled before is not to be compiled again.
        "GPTQMODEL_TORCH_EXTENSIONS_DIR": Path.home() / ".cache/gptqmodel/torch_extensions",
    }
