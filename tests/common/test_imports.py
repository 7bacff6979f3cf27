"""Large libraries are imported without the collector, and then left alone by it."""

import gc
import sys
import types
import weakref
from collections.abc import Iterator

import pytest

from codejoule.common.imports import importing


class Model:
    """What an earlier job left behind, in a circle."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def thawed() -> Iterator[None]:
    """Nothing but these tests decides what is frozen."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


def import_many() -> None:
    for number in range(200):
        sys.modules[f"_large.{number}"] = types.ModuleType(f"_large.{number}")


@pytest.fixture
def library() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith("_large.")]:
        del sys.modules[name]


def test_the_collector_rests_while_libraries_are_imported_and_works_again() -> None:
    with importing():
        assert not gc.isenabled()
        with importing():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the inner one ends nothing"
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


@pytest.mark.usefixtures("thawed", "library")
def test_what_was_imported_is_left_alone_and_garbage_is_not_kept_with_it() -> None:
    with importing():
        import_many()
        left = weakref.ref(Model())
        assert left() is not None
    assert left() is None
    assert gc.get_freeze_count() > 0


@pytest.mark.usefixtures("thawed")
def test_where_nothing_was_imported_nothing_is_frozen() -> None:
    with importing():
        pass
    assert gc.get_freeze_count() == 0


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
