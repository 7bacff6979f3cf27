"""Where compiled code is kept."""

import os
from pathlib import Path

import pytest

from codejoule.experiment.compile_caches import compile_caches, keep_compiled_code

NAMES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "GPTQMODEL_TORCH_EXTENSIONS_DIR")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        # So that what is set meanwhile is undone as well.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_compiled_code_is_kept_in_the_users_cache(tmp_path: Path) -> None:
    keep_compiled_code()
    assert compile_caches() == {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache/codejoule/torchinductor"),
        "TRITON_CACHE_DIR": str(tmp_path / "cache/codejoule/triton"),
        "GPTQMODEL_TORCH_EXTENSIONS_DIR": str(tmp_path / ".cache/gptqmodel/torch_extensions"),
    }
    assert all(Path(os.environ[name]).is_dir() for name in NAMES)


def test_a_place_of_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/theirs")
    keep_compiled_code()
    assert compile_caches()["TRITON_CACHE_DIR"] == "/theirs"


def test_a_home_that_cannot_be_written_leaves_the_libraries_their_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_compiled_code()
    assert compile_caches()["TORCHINDUCTOR_CACHE_DIR"] is None
