import subprocess
import sys
from pathlib import Path

import pytest

from codejoule.config import installed_versions


def test_the_build_of_torch_is_part_of_its_version() -> None:
    import torch

    assert installed_versions(["torch"]) == {"torch": torch.__version__}


@pytest.mark.parametrize("build", ["2.13.0", "2.13.0+cu130", "2.11.0a0+git1234"])
def test_it_is_told_without_importing_torch_whatever_the_metadata_say(
    build: str, tmp_path: Path
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "torch/version.py").write_text(f"from typing import X\n__version__ = '{build}'\n")
    (tmp_path / "torch-2.13.0.dist-info").mkdir()
    (tmp_path / "torch-2.13.0.dist-info/METADATA").write_text("Name: torch\nVersion: 2.13.0\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from codejoule.config import installed_versions; print(installed_versions(['torch']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str({"torch": build}), done.stderr


def test_what_is_not_installed_is_absent() -> None:
    assert installed_versions(["no-such-distribution"]) == {}
