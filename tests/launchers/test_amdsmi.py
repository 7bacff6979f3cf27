"""Zeus brings amdsmi, and whoever asks whether it works is told so with ImportError."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import codejoule_amdsmi


@pytest.fixture
def amdsmi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The source of a module of that name, first on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    codejoule_amdsmi.install()
    yield tmp_path / "amdsmi.py"
    sys.modules.pop("amdsmi", None)


def test_whatever_its_import_raises_is_an_import_error(
    amdsmi: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amdsmi.write_text("print('no libamd_smi.so')\n{}['libamd_smi.so']\n")
    with pytest.raises(ImportError, match=r"no libamd_smi\.so \(KeyError\('libamd_smi\.so'\)\)"):
        import amdsmi
    assert capsys.readouterr().out == ""
    assert "amdsmi" not in sys.modules


def test_one_that_works_is_imported_as_ever(amdsmi: Path) -> None:
    amdsmi.write_text("answer = 42\n")
    import amdsmi as found

    assert found.answer == 42
    assert found.__file__ == str(amdsmi)


def test_it_is_asked_once_however_often_it_is_installed(amdsmi: Path) -> None:
    codejoule_amdsmi.install()
    assert sys.meta_path.count(codejoule_amdsmi.Finder) == 1


def fails_with(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)  # noqa: PLW1510
    return done.stderr.splitlines()[-1].partition(":")[0] if done.returncode else ""


def test_every_python_of_this_environment_has_it() -> None:
    asked = "import sys, codejoule_amdsmi as own; sys.exit(own.Finder not in sys.meta_path)"
    assert fails_with(asked) == "", "install codejoule again: pip install -e ."


def test_amdsmi_still_needs_it() -> None:
    """If this fails, amdsmi has been mended, and codejoule_amdsmi can go."""
    without = "import sys, codejoule_amdsmi as own; sys.meta_path.remove(own.Finder); import amdsmi"
    how = fails_with(without)
    if how == "":
        pytest.skip("this machine has ROCm")
    assert how == "KeyError", f"amdsmi {version('amdsmi')} raises {how} without ROCm"
