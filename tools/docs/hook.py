"""The hook of mkdocs: it adds the pages that are made from the code."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# `mkdocs` as a command, unlike `python -m mkdocs`, does not look into the current folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.docs.pages import GENERATED


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each page as if its file lay in the documentation's folder."""
    for path, page in GENERATED.items():
        files.append(File.generated(config, path, content=page()))
    return files
