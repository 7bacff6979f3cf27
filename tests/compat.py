"""For the tests of what is used of other packages without their promise."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import ModuleType

import pytest


@contextmanager
def holds(compat: ModuleType, package: str, function: str) -> Iterator[None]:
    """Whatever goes wrong inside is told as what it is: another version has changed something."""
    try:
        yield
    except Exception as error:
        pytest.fail(
            f"{compat.__name__}.{function} holds for {package} {compat.VERSIONS[package]}, and "
            f"{package} {version(package)} is installed: {type(error).__name__}: {error}"
        )
