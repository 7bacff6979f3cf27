"""How `codejoule env bigcodebench` gets what the package index has."""

import zipfile
from pathlib import Path

from codejoule.cli.env import bigcodebench
from codejoule.common.environments import Installer


def test_nltk_data_that_a_package_brings_is_taken_from_it(tmp_path: Path) -> None:
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        base = "llama_index/core/_static/nltk_cache/"
        archive.writestr(base + "corpora/stopwords/english", "the\n")
        archive.writestr(base + "corpora/elsewhere/x", "no")
        archive.writestr("llama_index/core/x.py", "no")
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != "--dest" ]; do shift; done\n'
        f'cp {wheel} "$2"/\n'
    )  # fmt: skip
    python.chmod(0o755)
    folder = tmp_path / "nltk_data"
    with wheel.open() as held:
        installer = Installer(python=str(python), lock=wheel, held=held.fileno())
        bigcodebench._take_from_package(installer, folder)
    found = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    assert found == ["corpora/stopwords/english"]
    missing = bigcodebench._missing(folder)
    assert "stopwords" not in missing
    assert "punkt" in missing
