"""Importing large libraries without the garbage collector."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MANY = 100


@contextmanager
def importing() -> Iterator[None]:
    """Import what is imported inside without collecting garbage. The collector would look again and
    again through objects of which nearly all stay. Afterwards it leaves them alone for good: a
    collection while a model decodes is then one of the run's own objects, not of PyTorch's and
    MLflow's."""
    if not gc.isenabled():  # inside of another, or the user's own choice
        yield
        return
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if len(sys.modules) > before + _MANY:
            # An earlier job's model must not be kept with them.
            gc.collect()
            gc.freeze()
